from __future__ import annotations

import base64
import io
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.backend.base import PROVISION_ORDER
from bottle_fsm.bottle import Bottle, ExecResult
from bottle_fsm.errors import GateError, ProvisionError
from bottle_fsm.naming import ROLE_INTERCEPTOR
from bottle_fsm.places import CA_BUNDLE_PATH, CA_CERT_PATH, GATE_HOST
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject
from bottle_fsm.provision import PROVISIONERS, ca
from bottle_fsm.provision.environment import ADDITIVE, REPLACING, agent_environment, proxy_url
from bottle_fsm.provision.gate_script import TOOL_MARK, TOOLS
from bottle_fsm.provision.probe_scripts import _PYTHON, _SHELL
from bottle_fsm.provision.selftest import Probe, _answers, judge, planned_probes, run_selftest
from bottle_fsm.provision.ssh import _Key
from bottle_fsm.provision.sshfiles import config_text, constraints, known_hosts_text
from bottle_fsm.provision.sshkey import key_facts
from bottle_fsm.provision.trustgate import Answer, _judge, _row, parse, proves
from bottle_fsm.provision.workspace import is_suspicious, survey, without_credentials
from provision_bench import RecordedSteps

LAUNCH = "launch-7"
GATE = json.dumps({"gate": "ok", "launch": LAUNCH, "policy": "x"})


# --- the order and the environment ---


def test_has_a_provisioner_for_everything_after_the_ca() -> None:
    assert tuple(PROVISIONERS) == PROVISION_ORDER[1:]


def test_names_the_interceptor_in_both_cases() -> None:
    found = agent_environment("10.0.0.2")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        assert found[name] == found[name.lower()] == "http://10.0.0.2:8080"
    assert found["NO_PROXY"] == found["no_proxy"] == "localhost,127.0.0.1,::1"
    assert found["BOTTLE_RELAY"] == "10.0.0.2:8081"


def test_gives_adding_variables_the_ca_and_replacing_ones_the_bundle() -> None:
    found = agent_environment("x")
    assert {found[name] for name in ADDITIVE} == {CA_CERT_PATH}
    assert {found[name] for name in REPLACING} == {CA_BUNDLE_PATH}


def test_brackets_an_ipv6_address() -> None:
    assert proxy_url("fd00::2") == "http://[fd00::2]:8080"


@given(address=st.from_regex(r"[a-z0-9.-]{1,30}", fullmatch=True))
def test_writes_variables_that_a_file_of_lines_can_hold(address: str) -> None:
    values = agent_environment(address)
    lines = ca.exported(values).splitlines()
    assert dict(line.split("=", 1) for line in lines) == values


# --- the trust gate ---


@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from([tool[0] for tool in TOOLS]),
            st.integers(0, 255),
            st.text(alphabet=st.characters(codec="ascii", exclude_characters="@"), max_size=60),
        ),
        max_size=5,
    )
)
def test_reads_back_what_the_script_prints(answers: list[tuple[str, int, str]]) -> None:
    text = "".join(f"\n{TOOL_MARK}{tool} {code} v1.2.3\n{output}" for tool, code, output in answers)
    assert parse(text) == [Answer(tool, code, "1.2.3", output.strip()) for tool, code, output in answers]


def test_reads_a_tool_that_left_nothing() -> None:
    assert parse(f"{TOOL_MARK}curl \n") == [Answer("curl", -1, "", "")]
    assert parse(f"{TOOL_MARK}bun 0 canary\nx") == [Answer("bun", 0, "canary", "x")]
    assert parse(f"{TOOL_MARK}curl ² 8") == [Answer("curl", -1, "8", "")]


def test_bears_what_something_inside_writes_into_the_answers() -> None:
    (answer,) = parse(f"{TOOL_MARK}{'x' * 500} 0 {'9' * 500}\n")
    assert (answer.tool, answer.version) == ("x" * 80, "9" * 80)
    assert len(parse(f"{TOOL_MARK}curl 0 8\n" * len(TOOLS))) == len(TOOLS)
    with pytest.raises(GateError, match=f"{len(TOOLS) + 1} answers of {len(TOOLS)} tools: something inside"):
        parse(f"{TOOL_MARK}curl 0 8\n" * (len(TOOLS) + 1))
    assert not proves(Answer("curl", 0, "", "[" * 100_000), LAUNCH)


@pytest.mark.parametrize(
    ("tool", "code", "output", "proven"),
    [
        ("curl", 0, GATE, True),
        ("curl", 0, f"a warning\n{GATE}\n", True),
        ("curl", 1, GATE, False),
        ("curl", 0, "", False),
        ("curl", 0, "[]", False),
        ("curl", 0, GATE.replace(LAUNCH, "launch-8"), False),
        ("curl", 0, GATE.replace("ok", "no"), False),
        ("curl", 60, "curl: (60) SSL certificate problem: unable to get local issuer certificate", False),
        ("git", 128, f"fatal: repository 'https://{GATE_HOST}/' not found", True),
        ("git", 128, f"fatal: unable to access 'https://{GATE_HOST}/': server certificate verification failed", False),
        ("git", 128, "fatal: unable to access: Could not resolve host", False),
        ("pip", 1, f"ERROR: HTTP error 404 while getting https://{GATE_HOST}/gate-0.tar.gz", True),
        ("pip", 1, "SSLError(SSLCertVerificationError(1, ... certificate verify failed ...) 404 Client Error", False),
        ("npm", 1, "npm error code E404", True),
        ("npm", 1, "npm error code SELF_SIGNED_CERT_IN_CHAIN", False),
        ("go", 1, f"go: gate.invalid/module@v1.0.0: reading https://{GATE_HOST}/...: 404 Not Found", True),
        ("go", 1, "tls: failed to verify certificate: x509: certificate signed by unknown authority", False),
        ("cargo", 101, "Caused by: failed to get successful HTTP response, got 404", True),
        ("cargo", 101, "[60] SSL peer certificate or SSH remote key was not OK", False),
        ("java", 1, "javax.net.ssl.SSLHandshakeException: PKIX path building failed", False),
        ("node", 0, GATE, True),
        ("node", 1, "[Error: unable to get issuer certificate]", False),
    ],
)
def test_takes_nothing_but_the_gates_own_answer_for_a_proof(tool: str, code: int, output: str, proven: bool) -> None:
    assert proves(Answer(tool, code, "", output), LAUNCH) is proven


@given(output=st.text(max_size=300))
def test_takes_no_other_text_for_a_proof(output: str) -> None:
    assert not proves(Answer("curl", 0, "", output), LAUNCH)


@given(output=st.text(max_size=500))
def test_shows_a_failure_in_one_printable_line(output: str) -> None:
    row = _row(Answer("curl", 1, "", output), LAUNCH)
    assert row["detail"].isprintable()
    assert len(row["detail"]) < 250
    assert row["remedy"]


def test_names_every_failing_tool_and_a_remedy() -> None:
    rows = [_row(Answer("git", 128, "", "fatal"), LAUNCH), _row(Answer("zig", 1, "", ""), LAUNCH)]
    with pytest.raises(GateError, match=r"git, zig \(git: exit code 128: fatal\)") as caught:
        _judge(rows)
    assert str(caught.value.hint).startswith("For git: git config --system http.sslCAInfo")
    with pytest.raises(GateError, match="no tool"):
        _judge([])


def test_says_why_no_tool_reached_the_gate() -> None:
    rows = [_row(Answer(tool, 7, "", "Connection refused"), LAUNCH, chosen=False) for tool in ("curl", "wget")]
    assert [row["ok"] for row in rows] == [None, None]
    with pytest.raises(GateError) as caught:
        _judge(rows)
    assert caught.value.problem == "no tool reached the gate: curl, wget (curl: exit code 7: Connection refused)"
    assert caught.value.hint == "Does the interceptor run?"
    _judge([*rows, _row(Answer("curl", 0, "", GATE), LAUNCH)])


# --- the self-test ---


@pytest.mark.parametrize(
    ("got", "milliseconds", "ok"),
    [
        ("unreachable", 10, True),
        ("unreachable: No route to host", 1999, True),
        ("unreachable: No route to host", 2001, False),
        ("unreachable-ish", 1, False),
        ("connected", 1, False),
        ("reached: connection refused", 1, False),
        ("failed: ValueError", 1, False),
        ("untested: no nc", 1, None),
        ("unresolved: SSRF-dns", 1, None),
    ],
)
def test_judges_an_answer_by_word_and_time(got: str, milliseconds: int, ok: bool | None) -> None:
    row = judge(Probe("p", "tcp", "192.0.2.1:1", "unreachable", 2000), {"got": got, "ms": milliseconds})
    assert row["ok"] is ok


def test_fails_a_probe_that_never_answered() -> None:
    assert judge(Probe("p", "tcp", "t", "unreachable"), None)["ok"] is False


@given(text=st.text(max_size=200))
def test_reads_no_answer_from_noise(text: str) -> None:
    assert _answers(text) == {}
    assert _answers(text.replace("\n", " ") + '\n{"probe": 3, "got": "allow", "ms": 5}') == {
        3: {"got": "allow", "ms": 5}
    }


@pytest.mark.parametrize("value", ["[" * 100_000, '{"probe": 1, "got": "allow", "ms": Infinity}', '{"probe": 1}'])
def test_reads_no_answer_from_a_line_that_is_meant_to_break_the_reader(value: str) -> None:
    assert _answers(value) == {}


@given(text=st.text(max_size=500))
def test_keeps_of_an_answer_what_a_journal_can_bear(text: str) -> None:
    (answer,) = _answers(json.dumps({"probe": 1, "got": f"\ud800{text}", "ms": 1})).values()
    assert answer["got"].isprintable()
    assert len(answer["got"]) <= 200


class ScriptedBottle:
    """Answers each self-test from a list of times in milliseconds: what is late, and whether it is late again."""

    def __init__(self, *milliseconds: int) -> None:
        self.left = list(milliseconds)

    def exec(self, argv: Sequence[str], **_: object) -> ExecResult:
        late = self.left.pop(0)
        words = {"tcp": "unreachable", "dns": "no answer", "name": "no address"}
        lines = [
            json.dumps({"probe": int(number), "got": words[kind], "ms": late if kind == "tcp" else 1})
            for number, kind, _ in (argument.split(" ", 2) for argument in argv[4:])
        ]
        return ExecResult(0, "\n".join(lines).encode(), b"")


def bare_plan() -> BottlePlan:
    texts = dict.fromkeys(("bottle", "slug", "backend", "spec", "guard", "guard_reason"), "x")
    return BottlePlan(**texts, endpoint={}, objects=(), policy={}, env={}, secrets={}, provision=())  # type: ignore[arg-type]


def test_tries_a_late_probe_once_more() -> None:
    steps = RecordedSteps()
    run_selftest(cast("Bottle", ScriptedBottle(5000, 10)), bare_plan(), {"x": "192.0.2.1:1"}, steps)
    assert all(row["ok"] for row in steps.done[0][1]["selftest"])


def test_fails_a_probe_that_is_late_twice() -> None:
    bottle = cast("Bottle", ScriptedBottle(5000, 5000))
    with pytest.raises(GateError, match="expected unreachable, late: unreachable after 5000 ms"):
        run_selftest(bottle, bare_plan(), {"x": "192.0.2.1:1"}, RecordedSteps())


@pytest.mark.parametrize(
    ("said", "got"),
    [
        ({"decision": "allow", "by": "guard"}, "allow"),
        ({"decision": "deny", "by": "interceptor", "findings": []}, "deny"),
        ({"decision": "deny", "by": "guard", "findings": ["SSRF-dns-failed"]}, "unresolved: SSRF-dns-failed"),
        ({"decision": "deny", "by": "guard", "findings": ["ssrf_private_address"]}, "deny"),
        ({"decision": "deny", "by": "guard", "findings": ["SSRF-x", "not_listed"]}, "deny"),
        ({"decision": "deny", "by": "guard", "findings": []}, "deny"),
        (
            {"host": "listed.example", "path": "/private/dns", "decision": "deny", "by": "guard", "findings": ["dns"]},
            "unresolved: dns",
        ),
        ({"path": "/allow", "decision": "deny", "by": "interceptor", "reason": "path_not_allowed"}, "deny"),
    ],
)
def test_tells_a_name_without_an_address_from_a_refusal(
    said: dict[str, object], got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["probe"])
    inside: dict[str, Any] = {}
    exec(_PYTHON, inside)
    opener = type("Opener", (), {"open": lambda *_, **__: io.StringIO(json.dumps(said))})
    inside["quiet"] = opener()
    assert inside["verdict"]("host=name.example&port=443") == got
    # the same question to the shell's way: curl answers with the same body
    fake = tmp_path / "curl"
    fake.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(said)}\nEND\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run(
        ["sh", "-c", _SHELL, "sh", "1 verdict host=name.example&port=443"], capture_output=True, check=True
    )
    expected = got.partition(":")[0]
    assert json.loads(done.stdout)["got"].partition(":")[0] == expected


RULES = [
    {"host": "api.example", "port": 443, "methods": ["PUT"], "paths": ["/a+b/*&c=d"]},
    {"host": "*.wild.example", "port": 443},
    ["plain.example", 80],
]


def test_asks_about_a_request_that_each_rule_allows() -> None:
    interceptor = PlannedObject(ROLE_INTERCEPTOR, "container", "x", "mitm_up", {}, runs=True)
    policy = {"allow": RULES, "ssh": [["git.example", 22]], "hosts": {}}
    planned = planned_probes(replace(bare_plan(), objects=(interceptor,), policy=policy), {})
    assert [(probe.name, probe.target, probe.question) for probe in planned if probe.kind == "verdict"] == [
        (
            "allow rule api.example:443",
            "https://api.example:443 PUT /a+b/bottle-selftest&c=d",
            "host=api.example&port=443&method=PUT&path=/a%2Bb/bottle-selftest%26c%3Dd",
        ),
        (
            "allow rule bottle-selftest.wild.example:443",
            "https://bottle-selftest.wild.example:443 GET /",
            "host=bottle-selftest.wild.example&port=443&method=GET&path=/",
        ),
        (
            "allow rule plain.example:80",
            "http://plain.example:80 GET /",
            "host=plain.example&port=80&method=GET&path=/",
        ),
        ("allow rule git.example:22", "git.example:22", "host=git.example&port=22"),
        (
            "verdict on a host without a rule",
            "denied.bottle-fsm.internal:443",
            "host=denied.bottle-fsm.internal&port=443",
        ),
    ]


@pytest.mark.parametrize("python", [True, False])
def test_both_scripts_ask_the_gate_the_question_as_it_was_made(
    python: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = "host=api.example&port=443&method=PUT&path=/a%2Bb/bottle-selftest%26c%3Dd"
    asked: list[str] = []
    if python:
        monkeypatch.setattr("sys.argv", ["probe"])
        inside: dict[str, Any] = {}
        exec(_PYTHON, inside)

        def opened(_: object, url: str, **__: object) -> io.StringIO:
            asked.append(url)
            return io.StringIO('{"decision": "allow"}')

        inside["quiet"] = type("Opener", (), {"open": opened})()
        assert inside["verdict"](question) == "allow"
    else:
        fake = tmp_path / "curl"
        fake.write_text('#!/bin/sh\nfor last; do :; done\necho "$last" > "${0%/*}/asked"\necho \'"decision": "allow"\'')
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        argument = f"1 verdict {question}"
        done = subprocess.run(["sh", "-c", _SHELL, "sh", argument], capture_output=True, check=True)
        assert json.loads(done.stdout)["got"] == "allow"
        asked.append((tmp_path / "asked").read_text().strip())
    assert asked == [f"https://gate.bottle-fsm.internal/verdict?{question}"]


# --- ssh ---


def entry(host: str, port: int = 22, identity: str = "/k", user: str = "git") -> dict[str, object]:
    return {
        "host": host,
        "port": port,
        "user": user,
        "identity_file": identity,
        "known_host_key": f"ssh-ed25519 {host}",
    }


def test_names_a_host_with_its_port_where_ssh_looks_for_it() -> None:
    assert known_hosts_text([entry("a.b"), entry("c.d", 2222)]) == "a.b ssh-ed25519 a.b\n[c.d]:2222 ssh-ed25519 c.d\n"


def test_binds_a_key_to_its_own_hosts_alone() -> None:
    hosts = [entry("a.b"), entry("c.d", 2222, "/other"), entry("e.f", 22, "/k", "ada")]
    assert constraints(hosts, "/k") == ["git@a.b", "ada@e.f"]
    assert constraints(hosts, "/other") == ["git@[c.d]:2222"]


def test_writes_one_block_a_host_before_the_users_own() -> None:
    text = config_text([entry("a.b"), entry("c.d")], "proxy %h %p")
    assert [line for line in text.splitlines() if line.startswith("Host ")] == ["Host a.b", "Host c.d", "Host *"]
    assert text.index("StrictHostKeyChecking yes") < text.index("Include config.d/*.conf")


@pytest.mark.parametrize("options", [("-t", "ed25519"), ("-t", "rsa", "-b", "2048"), ("-t", "ecdsa")])
@pytest.mark.parametrize("passphrase", ["", "locked away"])
def test_reads_fingerprint_and_lock_of_a_key_without_opening_it(
    tmp_path: Path, options: tuple[str, ...], passphrase: str
) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", passphrase, "-f", str(path), *options], check=True)
    listed = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], check=True, capture_output=True, text=True)
    facts = key_facts(path.read_bytes(), place="here")
    assert (facts.fingerprint, facts.encrypted) == (listed.stdout.split()[1], bool(passphrase))


@pytest.mark.parametrize("passphrase", ["", "locked away"])
@pytest.mark.parametrize("form", ["PEM", "PKCS8"])
def test_reads_the_lock_of_older_formats(tmp_path: Path, form: str, passphrase: str) -> None:
    path = tmp_path / "key"
    argv = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", form, "-N", passphrase, "-f", str(path)]
    subprocess.run(argv, check=True)
    facts = key_facts(path.read_bytes(), place="here")
    assert (facts.fingerprint, facts.encrypted) == ("", bool(passphrase))


@given(body=st.binary(max_size=80))
def test_refuses_a_damaged_key_with_its_place(body: bytes) -> None:
    middle = base64.b64encode(body) or b"AAAA"
    text = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + middle + b"\n-----END OPENSSH PRIVATE KEY-----\n"
    with pytest.raises(ProvisionError, match="here: holds a damaged private key"):
        key_facts(text, place="here")


@pytest.mark.parametrize("text", [b"", b"ssh-ed25519 AAAA", b"-----BEGIN CERTIFICATE-----"])
def test_refuses_what_is_no_private_key(text: bytes) -> None:
    with pytest.raises(ProvisionError, match="holds no private key"):
        key_facts(text, place="here")


def test_shows_no_key_in_a_repr() -> None:
    key = _Key("/k", b"secret bytes", encrypted=False, fingerprint="SHA256:x")
    assert "secret" not in repr(key)


# --- the workspace on the host ---


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://ada:token@git.example.com/x.git", "https://git.example.com/x.git"),
        ("https://git.example.com:8443/x", "https://git.example.com:8443/x"),
        ("ssh://git@git.example.com/x", "ssh://git@git.example.com/x"),
        ("ssh://git:password@git.example.com/x", ""),
        ("git@git.example.com:x.git", "git@git.example.com:x.git"),
        ("/srv/git/x.git", ""),
        ("../x", ""),
        ("./a:b", ""),
        ("file:///srv/x", ""),
    ],
)
def test_keeps_a_remote_without_its_password(url: str, kept: str) -> None:
    assert without_credentials(url) == kept


@pytest.mark.parametrize(
    "name", [".env", ".ENV.local", "id_ed25519", "a.pem", "secrets.yaml", "service-account-x.json"]
)
def test_suspects_names_of_secrets(name: str) -> None:
    assert is_suspicious(name)


@pytest.mark.parametrize("name", [".env.example", "id_ed25519.pub", "environment", "secrets.py", "key.txt"])
def test_suspects_no_other_names(name: str) -> None:
    assert not is_suspicious(name)


def test_takes_the_files_of_a_directory_below_a_repository(tmp_path: Path) -> None:
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    part = tmp_path / "part"
    part.mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "outside").touch()
    (part / "inside").write_text("four")
    (part / "x.log").touch()
    os.mkfifo(part / "pipe")
    found = survey(part)
    assert (found.kind, found.files, found.size) == ("part", ("inside",), 4)


def test_leaves_submodules_out(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "protocol.file.allow=always"]
    for root in (inner, outer):
        root.mkdir()
        (root / "file").touch()
        subprocess.run([*git, "-C", str(root), "init", "-q"], check=True)
        subprocess.run([*git, "-C", str(root), "add", "."], check=True)
        subprocess.run([*git, "-C", str(root), "commit", "-q", "-m", "x"], check=True)
    subprocess.run([*git, "-C", str(outer), "submodule", "-q", "add", str(inner), "sub"], check=True)
    assert survey(outer).files == (".gitmodules", "file")


def test_works_on_plain_directories_where_git_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert survey(tmp_path).files == ("file", "link")
    (tmp_path / ".git").mkdir()
    with pytest.raises(ProvisionError, match="git is not on this host"):
        survey(tmp_path)


def test_repeats_what_git_says_about_a_broken_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    with pytest.raises(ProvisionError, match="git ls-files failed: fatal: not a git repository"):
        survey(tmp_path)


def test_gives_up_on_a_git_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("bottle_fsm.provision.workspace.GIT_SECONDS", 0.2)
    with pytest.raises(ProvisionError, match="took too long"):
        survey(tmp_path)
