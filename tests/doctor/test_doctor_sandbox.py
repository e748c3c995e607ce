from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.backend.local import fitness
from bottle_fsm.doctor.rows import Level, Row
from bottle_fsm.doctor.sandbox import (
    APPARMOR,
    MAX_NAMESPACES,
    OLDEST_BWRAP,
    PYTHON,
    SETTINGS,
    UNPRIVILEGED,
    SandboxFacts,
    diagnosis,
    sandbox_rows,
)
from bottle_fsm.doctor.sandbox_look import look_at_sandboxes, read_settings, uid_is_mapped

GOOD = SandboxFacts(
    programs={"bwrap": "/usr/bin/bwrap", "setpriv": "/usr/bin/setpriv", "unshare": "/usr/bin/unshare"},
    bwrap=(0, 8, 0),
    python=(3, 11),
    tried=True,
    cgroup="/sys/fs/cgroup/user.slice",
    updater="/usr/sbin/update-ca-certificates",
)
ENGINE = "use an engine: `--backend docker`"


def row(facts: SandboxFacts, name: str) -> Row:
    (found,) = (r for r in sandbox_rows(facts) if r.name == name)
    return found


def without(name: str) -> SandboxFacts:
    return replace(GOOD, programs={**GOOD.programs, name: ""})


def forbidden(name: str, value: str) -> SandboxFacts:
    return replace(GOOD, said="bwrap: No permissions", settings={MAX_NAMESPACES: "15000", name: value})


def test_finds_nothing_wrong_with_a_good_machine() -> None:
    assert {r.level for r in sandbox_rows(GOOD)} == {Level.OK}
    assert row(GOOD, "trial").found == "a sandbox ran, as uid 1000"
    as_root = replace(GOOD, uid=0, drops_to=5000)
    assert row(as_root, "trial").found == "a sandbox ran, as uid 5000, to which root drops"


def test_says_what_to_use_where_there_is_no_linux() -> None:
    (only,) = sandbox_rows(look_at_sandboxes({}, platform="darwin"))
    assert (only.level, only.found) == (Level.FAILED, "the local backend needs Linux, this is darwin")
    for word in ("Docker Desktop", "colima", "podman machine", "DOCKER_HOST=ssh://user@host", "virtual machine"):
        assert word in only.remedy


@pytest.mark.parametrize(
    ("facts", "name", "remedy"),
    [
        (without("bwrap"), "bwrap", "apt-get install -y bubblewrap"),
        (without("setpriv"), "setpriv", "apt-get install -y util-linux"),
        (without("unshare"), "unshare", "apt-get install -y util-linux"),
        (replace(GOOD, bwrap=()), "bwrap", "apt-get install -y --reinstall bubblewrap"),
        (replace(GOOD, bwrap=(0, 7, 9)), "bwrap", "newer release of your distribution"),
        (replace(GOOD, python=()), "python3", "apt-get install -y python3"),
        (replace(GOOD, python=(3, 8)), "python3", "newer release of your distribution"),
        (replace(GOOD, libseccomp="libseccomp.so.2 is missing"), "libseccomp", "apt-get install -y libseccomp2"),
        (
            replace(GOOD, bundle=False),
            "ca-certificates",
            "apt-get install -y ca-certificates && update-ca-certificates",
        ),
        (replace(GOOD, updater=""), "ca-certificates", "apt-get install -y ca-certificates && update-ca-certificates"),
        (replace(GOOD, tried=False), "trial", "Install what is missing"),
        (forbidden(MAX_NAMESPACES, "0"), "trial", "sysctl -w user.max_user_namespaces=15000"),
        (
            forbidden(UNPRIVILEGED, "0"),
            "trial",
            "echo kernel.unprivileged_userns_clone=1 > /etc/sysctl.d/60-bottle-fsm",
        ),
        (forbidden(APPARMOR, "1"), "trial", "profile bwrap /usr/bin/bwrap flags=(unconfined) {\n  userns,\n}"),
        (forbidden(APPARMOR, "1"), "trial", "`apparmor_parser -r /etc/apparmor.d/bwrap`"),
    ],
)
def test_fails_what_sandboxes_cannot_do_without(facts: SandboxFacts, name: str, remedy: str) -> None:
    found = row(facts, name)
    assert found.level is Level.FAILED
    assert remedy in found.remedy


def test_names_everything_that_is_missing_of_the_certificates() -> None:
    found = row(replace(GOOD, bundle=False, updater=""), "ca-certificates").found
    assert found == "the bundle in /etc/ssl/certs and update-ca-certificates missing"


def test_writes_the_profile_for_the_bwrap_that_is_there() -> None:
    elsewhere = replace(forbidden(APPARMOR, "1"), programs={"bwrap": "/opt/bin/bwrap"})
    assert "profile bwrap /opt/bin/bwrap flags" in diagnosis(elsewhere)[1]


def test_does_not_blame_a_profile_for_what_is_not_a_refusal() -> None:
    elsewise = replace(forbidden(APPARMOR, "1"), said="bwrap: Can't find source path /lib64: No such file or directory")
    assert diagnosis(elsewise)[0] == f"bubblewrap cannot start a sandbox: {elsewise.said}"


@pytest.mark.parametrize(
    "said",
    ["bwrap: setting up uid map: Permission denied", "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted"],
)
def test_blames_the_profile_for_both_refusals(said: str) -> None:
    assert diagnosis(replace(forbidden(APPARMOR, "1"), said=said))[0].startswith("AppArmor forbids")


def test_does_not_blame_a_setting_for_a_sandbox_that_ran() -> None:
    ran = replace(GOOD, settings={APPARMOR: "1", UNPRIVILEGED: "0"})
    assert row(ran, "trial").level is Level.OK


@pytest.mark.parametrize(("name", "value"), [(MAX_NAMESPACES, "0"), (UNPRIVILEGED, "0"), (APPARMOR, "1")])
def test_blames_the_same_setting_as_the_local_backend(tmp_path: Path, name: str, value: str) -> None:
    file = tmp_path / name.replace(".", "/", 1)
    file.parent.mkdir()
    file.write_text(f"{value}\n")
    settings = read_settings(tmp_path)
    assert settings == {name: value}
    problem, _ = fitness.reason("bwrap: No permissions", tmp_path)
    assert diagnosis(replace(GOOD, said="bwrap: No permissions", settings=settings))[0] == problem


def test_blames_the_user_namespace_that_lacks_the_user_to_drop_to() -> None:
    problem, remedy = diagnosis(replace(GOOD, uid=0, drops_to=5000, mapped=False, said="setresuid failed"))
    assert "uid 5000, which this user namespace does not have" in problem
    assert "as an ordinary user" in remedy


def test_tells_that_no_namespace_is_left() -> None:
    problem, remedy = diagnosis(forbidden(MAX_NAMESPACES, "7"))
    assert "No permissions" in problem
    problem, remedy = diagnosis(replace(forbidden(MAX_NAMESPACES, "7"), said="bwrap: No space left on device"))
    assert "no user namespace is left (user.max_user_namespaces is 7)" in problem
    assert "sysctl -w user.max_user_namespaces=15000" in remedy


def test_blames_the_container_and_its_filter() -> None:
    problem, remedy = diagnosis(replace(GOOD, container="docker", filtered=True, said="Can't mount proc"))
    assert "inside a container (docker) and under a seccomp filter of somebody else: Can't mount proc" in problem
    for word in ("seccomp=unconfined", "systempaths=unconfined", "unmask=ALL"):
        assert word in remedy


def test_repeats_what_bubblewrap_said_when_nothing_is_known() -> None:
    assert diagnosis(replace(GOOD, said="bwrap: why")) == (
        "bubblewrap cannot start a sandbox: bwrap: why",
        f"Mend what it says, or {ENGINE}",
    )


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(2, "systemd-run --user --scope -p Delegate=yes"), (1, "systemd.unified_cgroup_hierarchy=1"), (0, "an engine")],
)
def test_warns_that_memory_is_not_limited(version: int, remedy: str) -> None:
    found = row(replace(GOOD, cgroup="", cgroup_version=version), "limits")
    assert found.level is Level.WARNING
    assert remedy in found.remedy


@given(
    st.builds(
        SandboxFacts,
        platform=st.sampled_from(["linux", "darwin"]),
        programs=st.dictionaries(st.sampled_from(["bwrap", "setpriv", "unshare"]), st.sampled_from(["", "/b"])),
        bwrap=st.lists(st.integers(0, 9), max_size=3).map(tuple),
        python=st.sampled_from([(), (3, 8), (3, 11)]),
        uid=st.sampled_from([0, 1000]),
        mapped=st.booleans(),
        tried=st.booleans(),
        said=st.sampled_from(["", "No space left", "no"]),
        settings=st.dictionaries(st.sampled_from(SETTINGS), st.sampled_from(["0", "1", "x"])),
        container=st.sampled_from(["", "docker"]),
        filtered=st.booleans(),
        libseccomp=st.sampled_from(["", "missing"]),
        cgroup=st.sampled_from(["", "/c"]),
        cgroup_version=st.integers(0, 2),
        bundle=st.booleans(),
        updater=st.sampled_from(["", "/u"]),
    )
)
def test_always_says_what_to_do_about_a_sandbox_that_is_not_well(facts: SandboxFacts) -> None:
    rows = sandbox_rows(facts)
    for found in rows:
        assert bool(found.remedy) == (found.level is not Level.OK)
    if facts.platform == "linux" and (not facts.tried or facts.said):
        assert Level.FAILED in {found.level for found in rows}


@pytest.mark.parametrize(
    ("uid_map", "mapped"),
    [("0 0 4294967295\n", True), ("         0          0          1\n", False), ("0 1000 1\n4999 9 2\n", True)],
)
def test_reads_a_map_of_uids(uid_map: str, mapped: bool) -> None:
    assert uid_is_mapped(5000, uid_map) is mapped


@given(st.text())
def test_takes_any_text_for_a_map_of_uids(text: str) -> None:
    assert isinstance(uid_is_mapped(1, text), bool)


def test_agrees_with_the_local_backend_about_what_is_needed() -> None:
    assert (OLDEST_BWRAP, PYTHON) == (fitness.OLDEST, fitness.PYTHON)


def test_looks_at_this_machine_for_real() -> None:
    facts = look_at_sandboxes({"PATH": "/usr/bin:/bin"})
    assert facts.programs["bwrap"] == "/usr/bin/bwrap"
    assert facts.bwrap >= OLDEST_BWRAP
    assert (facts.tried, facts.said, facts.libseccomp) == (True, "", "")
    assert facts.python >= (3, 9)
    assert facts.settings[MAX_NAMESPACES].isdigit()
