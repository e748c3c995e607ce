"""Our images on the real engine: what is in them, when they are built, and what a failed build leaves."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bottle_fsm import places
from bottle_fsm.backend.docker import baseimage
from bottle_fsm.backend.docker.baseimage import LABEL_IMAGE, Base, apt_options, ensure_base, mirrors, root_command
from bottle_fsm.backend.docker.build import LABEL_BASE, ImageName, build_lock, recipe
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.images import ImageRef, ensure_image, image_tag
from bottle_fsm.backend.docker.pull import image_id, inspect
from bottle_fsm.errors import BackendError, ImageMissingError, StepTimeoutError
from bottle_fsm.naming import LABEL_ROOT
from bottle_fsm.resources import data_path

pytestmark = pytest.mark.engine

BUILD = Path(__file__).resolve().parents[2] / ".build" / "images"
Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(engine: Engine, images: dict[str, ImageRef]) -> Iterator[Run]:
    """Run a shell line in a running container of an image of ours, hardened as a bottle is, and return its output."""
    containers: dict[str, str] = {}
    with engine.guarded("start test containers") as api:
        for name, image in images.items():
            command = None if name == "agent" else ["sleep", "infinity"]
            host = api.create_host_config(cap_drop=["ALL"], security_opt=["no-new-privileges"], network_mode="none")
            containers[name] = api.create_container(image.id, command, host_config=host)["Id"]
            api.start(containers[name])

    def run_line(name: str, line: str, *, user: str = "") -> str:
        with engine.guarded(f"run in {name}") as api:
            made = api.exec_create(containers[name], ["sh", "-ec", line], user=user)["Id"]
            output = api.exec_start(made).decode()
            code = api.exec_inspect(made)["ExitCode"]
        assert code == 0, f"{line}: {code}: {output}"
        return str(output).strip()

    yield run_line
    with engine.guarded("remove test containers") as api:
        for container in containers.values():
            api.remove_container(container, force=True, v=True)


@pytest.mark.parametrize(
    "line",
    [
        "for t in bash curl wget git ssh ssh-agent ssh-add nc; do command -v $t; done",
        "for t in ps ip flock tini update-ca-certificates openssl; do command -v $t; done",
        "python3 -c 'import requests'",
        "pip --version",
        "npm --version && npx --version",
        "node -e 'if (+process.versions.node.split(`.`)[0] < 24) process.exit(1)'",
        "touch /workspace/a ~/b /run/bottle/c && rm /workspace/a ~/b /run/bottle/c",
        'test "$HOME" = /home/agent && test "$PWD" = /workspace && test "$LANG" = C.UTF-8',
        'test "$(getent passwd agent | cut -d: -f7)" = /bin/bash',
        'test "$(npm config get prefix)" = /home/agent/.local',
    ],
)
def test_gives_the_agent_what_it_needs(run: Run, line: str) -> None:
    run("agent", line)


def test_lets_node_ask_the_proxy_of_its_environment(run: Run) -> None:
    line = (
        "NODE_USE_ENV_PROXY=1 HTTPS_PROXY=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9 node -e '"
        'fetch("http://192.0.2.1/").catch(e => console.log(e.cause.code, e.cause.address, e.cause.port))\''
    )
    assert run("agent", line) == "ECONNREFUSED 127.0.0.1 9"


def test_runs_the_agent_as_its_own_user(run: Run) -> None:
    assert run("agent", "id -un; id -u; id -g").split() == [
        places.AGENT_USER,
        str(places.AGENT_UID),
        str(places.AGENT_GID),
    ]
    assert run("agent", f"stat -c '%a %U' {places.RUN_DIR} {places.WORKSPACE}").splitlines() == [
        "700 agent",
        "755 agent",
    ]


def test_reaps_orphans_and_idles(run: Run) -> None:
    assert run("agent", "cat /proc/1/comm") == "tini"
    run("agent", "sh -c '(sleep 0.1; true) & (sleep 0.1; true) &' ; sleep 0.5")
    assert "Z" not in run("agent", "ps -eo stat=").split()


def test_gives_the_sidecars_what_they_need(run: Run) -> None:
    versions = run(
        "sidecar",
        "python3 -c 'import sys, detect_secrets, mitmproxy.version as v; print(*sys.version_info[:2], v.VERSION)'",
    )
    assert versions == "3 13 12.2.3"
    assert run("sidecar", "id -u; id -g").split() == ["65532", "65532"]
    assert run("sidecar", f"stat -c '%a %U' {places.RUN_DIR}") == "700 sidecar"
    assert run("sidecar", "cat /proc/1/comm") == "tini"


def test_carries_our_egress_code_as_it_is_here(run: Run) -> None:
    listed = run("sidecar", "cd /usr/local/lib/python3.13/dist-packages && find bottle_fsm -name '*.py' | sort").split()
    assert listed == sorted(name for name in recipe("sidecar").files if name.startswith("bottle_fsm/"))
    assert run("sidecar", "python3 -c 'from bottle_fsm import places; print(places.GUARD_PORT)'") == str(
        places.GUARD_PORT
    )


@pytest.mark.parametrize("name", ["agent", "sidecar"])
def test_has_no_program_that_changes_the_user(run: Run, name: str) -> None:
    assert run(name, "find / -xdev -type f -perm /6000 2>/dev/null || true", user="root") == ""


@pytest.mark.parametrize("name", ["agent", "sidecar"])
def test_has_no_file_that_others_may_change_beside_its_temporary_ones(run: Run, name: str) -> None:
    line = "find / -xdev ! -type l -perm -o+w ! -path '/proc/*' ! -path '/dev/*' ! -perm -1000 2>/dev/null || true"
    assert run(name, line, user="root") == ""


def test_names_and_labels_an_image_by_its_content(engine: Engine, images: dict[str, ImageRef]) -> None:
    for name, ref in images.items():
        found = inspect(engine, ref.tag)
        assert found is not None
        assert f"bottle-{name}:latest" in found["RepoTags"]
        assert found["Config"]["Labels"][LABEL_IMAGE] == name
        assert image_id(engine, found["Config"]["Labels"][LABEL_BASE])
        assert found["Config"].get("Volumes") in (None, {})


def test_builds_nothing_when_nothing_changed(engine: Engine, images: dict[str, ImageRef]) -> None:
    for name in ("agent", "sidecar"):
        kind: ImageName = "agent" if name == "agent" else "sidecar"
        again = ensure_image(engine, kind, say=pytest.fail, data_dir=Path("/nonexistent"), environ={})
        assert (again.id, again.built) == (images[name].id, False)


def test_moves_latest_back_when_somebody_took_it(engine: Engine, images: dict[str, ImageRef]) -> None:
    twin = f"FROM {images['agent'].id}\nLABEL test=twin\n".encode()
    with engine.guarded("take latest") as api:
        list(api.build(fileobj=io.BytesIO(twin), tag="bottle-agent:latest", rm=True, decode=True))
    taken = image_id(engine, "bottle-agent:latest")
    assert taken not in (None, images["agent"].id)
    ensure_image(engine, "agent", say=print, data_dir=BUILD)
    assert image_id(engine, "bottle-agent:latest") == images["agent"].id
    with engine.guarded("remove the twin") as api:
        api.remove_image(taken)


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Iterator[Path]:
    """A copy of the image sources to change; what is built from it is removed afterwards, `latest` put back."""
    copy = tmp_path / "images"
    shutil.copytree(data_path("images"), copy)
    monkeypatch.setattr("bottle_fsm.backend.docker.build.data_path", lambda _: copy)
    tags = []
    yield copy
    tags = [image_tag("sidecar", arch=engine.arch), image_tag("agent", arch=engine.arch)]
    monkeypatch.undo()
    for name, tag in zip(("sidecar", "agent"), tags, strict=True):
        kept = image_tag("sidecar" if name == "sidecar" else "agent", arch=engine.arch)
        with engine.guarded("put back") as api:
            if image_id(engine, kept):
                api.tag(kept, f"bottle-{name}", "latest")
            if tag != kept and image_id(engine, tag):
                api.remove_image(tag, force=True)


def append(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text()}{line}\n")


@pytest.mark.parametrize("part", ["Dockerfile", "packages.txt", "npm.json", "rootfs/etc/pip.conf"])
def test_gives_changed_content_another_tag(changed: Path, part: str) -> None:
    before = image_tag("agent", arch="amd64")
    append(changed / "agent" / part, "")
    assert image_tag("agent", arch="amd64") != before


def test_gives_another_architecture_or_base_another_tag(changed: Path) -> None:
    tags = {image_tag("sidecar", arch="amd64"), image_tag("sidecar", arch="arm64")}
    names = json.loads((changed / "upstream.json").read_text())
    (changed / "upstream.json").write_text(json.dumps({**names, "base": "docker.io/library/debian:other"}))
    tags.add(image_tag("sidecar", arch="amd64"))
    assert len(tags) == 3


def test_builds_once_when_two_launchers_want_it(changed: Path, engine: Engine, images: dict[str, ImageRef]) -> None:
    append(changed / "sidecar" / "Dockerfile", f"LABEL test={uuid.uuid4().hex}")
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(ensure_image, engine, "sidecar", say=said.append, data_dir=BUILD) for _ in range(2)]
        refs = [future.result() for future in futures]
    assert sorted(ref.built for ref in refs) == [False, True]
    assert refs[0].id == refs[1].id != images["sidecar"].id
    assert any("waiting" in line for line in said)
    assert not (BUILD / "scratch-sidecar").exists()


def of_builds(engine: Engine) -> set[str]:
    """Return the containers made from a sidecar image that are no bottle's: other tests launch meanwhile."""
    with engine.guarded("list") as api:
        listed = api.containers(all=True, filters={"label": f"{LABEL_IMAGE}=sidecar"})
    return {container["Id"] for container in listed if LABEL_ROOT not in container["Labels"]}


def test_shows_the_last_lines_of_a_failed_build_and_leaves_nothing(
    changed: Path, engine: Engine, images: dict[str, ImageRef]
) -> None:
    (changed / "sidecar" / "requirements.txt").unlink()
    dockerfile = changed / "sidecar" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().partition("COPY site")[0] + "RUN echo the-reason >&2; exit 3\n")
    before = of_builds(engine)
    with pytest.raises(BackendError, match=r"non-zero code: 3; its last lines: .*the-reason"):
        ensure_image(engine, "sidecar", say=print, data_dir=BUILD)
    after = of_builds(engine)
    assert after <= before
    assert image_id(engine, image_tag("sidecar", arch=engine.arch)) is None
    assert image_id(engine, "bottle-sidecar:latest") == images["sidecar"].id


def test_clears_what_a_killed_build_left(
    changed: Path, engine: Engine, images: dict[str, ImageRef], tmp_path: Path
) -> None:
    append(changed / "sidecar" / "Dockerfile", f"LABEL test={uuid.uuid4().hex}")
    left = tmp_path / "data" / "scratch-sidecar" / "site"
    left.mkdir(parents=True)
    (left / "half.py").write_text("half")
    assert ensure_image(engine, "sidecar", say=print, data_dir=tmp_path / "data").built
    assert not (tmp_path / "data" / "scratch-sidecar").exists()


def test_holds_the_build_lock_against_other_processes(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from bottle_fsm.backend.docker.build import build_lock\n"
        "with build_lock(pathlib.Path(sys.argv[1]), 'agent', print): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    said: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        waiting = threading.Timer(0.2, other.stdin.close)
        waiting.start()
        with build_lock(tmp_path, "agent", said.append):
            assert said == ["another launcher builds bottle-agent; waiting for it"]
        waiting.join()
        other.stdin = None


def output_of(engine: Engine, image: str, command: list[str]) -> str:
    with engine.guarded(f"run {image}") as api:
        config = api.create_host_config(network_mode="none")
        container = api.create_container(image, command, host_config=config)["Id"]
        try:
            api.start(container)
            assert api.wait(container)["StatusCode"] == 0
            return str(api.logs(container).decode())
        finally:
            api.remove_container(container, force=True, v=True)


def test_makes_a_debian_root_where_no_registry_answers(engine: Engine, tmp_path: Path) -> None:
    said: list[str] = []
    packages = ["tini"]
    own_settings = tmp_path / "host-apt.conf"
    own_settings.write_text('Acquire::https::CaInfo "/etc/ssl/certs/ca-certificates.crt";')
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def make() -> Base:
        return ensure_base(
            engine,
            upstream="127.0.0.1:1/none:1",
            suite="trixie",
            name="test",
            packages=packages,
            say=said.append,
            environ={**os.environ, "APT_CONFIG": str(own_settings)},
            scratch=scratch,
        )

    base = make()
    try:
        assert base.complete
        assert "mmdebstrap" in said[-1]
        assert list(scratch.iterdir()) == []
        assert "99mmdebstrap" not in output_of(engine, base.ref, ["ls", "/etc/apt/apt.conf.d"])
        said.clear()
        assert make() == base
        assert said == []
    finally:
        with engine.guarded("clean up") as api:
            api.remove_image(base.ref, force=True)


def base_without(engine: Engine, scratch: Path, **changes: object) -> Base:
    wanted = {
        "upstream": "127.0.0.1:1/none:1",
        "suite": "no-such-suite",
        "name": "test",
        "packages": ["tini"],
        "say": print,
        "environ": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        "scratch": scratch,
    }
    return ensure_base(engine, **{**wanted, **changes})  # type: ignore[arg-type]  # a table of defaults


def test_says_what_to_install_where_neither_registry_nor_mmdebstrap_is(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ImageMissingError, match="apt-get install mmdebstrap"):
        base_without(engine, tmp_path, environ={"PATH": str(tmp_path)})


def test_shows_what_mmdebstrap_said(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ImageMissingError, match=r"mmdebstrap failed.*no-such-suite"):
        base_without(engine, tmp_path)


def test_gives_up_on_a_root_that_does_not_end(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseimage, "_ROOT_TIMEOUT", 0.01)
    with pytest.raises(StepTimeoutError, match="mmdebstrap did not end"):
        base_without(engine, tmp_path)


def test_takes_proxy_and_authority_from_this_hosts_apt(tmp_path: Path) -> None:
    own = tmp_path / "apt.conf"
    own.write_text('Acquire::http::Proxy "http://u:p@proxy:3128"; Acquire::https::CaInfo "/ca.pem"; APT::Get::Yes "1";')
    options = apt_options({**os.environ, "APT_CONFIG": str(own)})
    assert options.splitlines() == [
        'Acquire::http::Proxy "http://u:p@proxy:3128";',
        'Acquire::https::CaInfo "/ca.pem";',
    ]


def test_puts_no_apt_setting_into_a_command_line(tmp_path: Path) -> None:
    command = root_command(
        "trixie",
        tmp_path / "r.tar",
        packages=["a", "b"],
        arch="arm64",
        mirrors=("http://m/debian", "http://m/security"),
        options=tmp_path / "apt.conf",
    )
    assert {"--architectures=arm64", "--include=a,b", f"--aptopt={tmp_path}/apt.conf"} <= set(command)
    assert command[-3:] == [
        "deb http://m/debian trixie main",
        "deb http://m/debian trixie-updates main",
        "deb http://m/security trixie-security main",
    ]


def test_takes_the_mirrors_of_this_hosts_apt(tmp_path: Path) -> None:
    tool = tmp_path / "apt-get"
    answer = 'case "$*" in *Security) echo http://m/security/;; *) echo http://m/debian; echo http://other;; esac'
    tool.write_text(f"#!/bin/sh\n{answer}\n")
    tool.chmod(0o700)
    assert mirrors({"PATH": f"{tmp_path}:/usr/bin:/bin"}) == ("http://m/debian", "http://m/security")


def test_takes_a_named_mirror_but_none_with_a_password() -> None:
    named = mirrors({"BOTTLE_DEBIAN_MIRROR": "http://named/debian/"})
    assert named == ("http://named/debian", "http://named/debian-security")
    with pytest.raises(BackendError, match=r"BOTTLE_DEBIAN_MIRROR.*password"):
        mirrors({"BOTTLE_DEBIAN_MIRROR": "http://u:p@named/debian"})


def test_takes_debians_own_mirrors_where_there_is_no_apt(tmp_path: Path) -> None:
    assert mirrors({"PATH": str(tmp_path)}) == (baseimage.DEBIAN, baseimage.DEBIAN_SECURITY)
    assert apt_options({"PATH": str(tmp_path)}) == ""
