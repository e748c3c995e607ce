from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from bottle_fsm.backend.choose import Choice
from bottle_fsm.model import Host
from bottle_fsm.store.lock import BottleLock
from cli_shell import MANIFEST, Shell

FINGERPRINT = re.compile(r"CA SHA-256 fingerprint: ([0-9A-F]{2}:){31}[0-9A-F]{2}\n")


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


# -- what people see ---------------------------------------------------------------------------------------------------


def test_shows_every_state_with_its_duration_and_the_proofs(shell: Shell) -> None:
    ended = shell.apply()
    assert ended.code == 0
    assert ended.out == ""
    states = re.findall(r"^demo/implementer  (\w+) +\d+\.\d\d s$", ended.err, re.MULTILINE)
    assert states == ["validated", "planned", "proxies_up", "mitm_up", "agent_up", "ca_trusted", "provisioned"]
    assert len(FINGERPRINT.findall(ended.err)) == 1
    assert re.search(r"^demo/implementer +ok +simulated$", ended.err, re.MULTILINE)
    assert ended.err.count("  simulated\n") == 1, "the second, equal matrix is not told again"
    row = r"^demo/implementer +ok +agent's networks  inside only  inside only  0 ms$"
    assert re.search(row, ended.err, re.MULTILINE)


def test_says_how_to_go_on(shell: Shell) -> None:
    err = shell.apply().err
    assert "demo/implementer: is ready\n" in err
    for verb in ("attach", "status", "logs", "audit", "destroy"):
        assert f"bottle-fsm {verb} demo/implementer" in err


def test_aims_its_advice_at_the_state_directory_that_was_named(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / "an other"
    assert f"bottle-fsm --state-dir '{other}' attach demo/implementer" in shell.apply("--state-dir", other).err


def test_changes_nothing_the_second_time_and_says_so(shell: Shell) -> None:
    shell.apply()
    before = shell.ids()
    ended = shell.apply()
    assert ended.code == 0
    assert "demo/implementer: unchanged: nothing to do\n" in ended.err
    assert shell.ids() == before


def test_tells_a_retry_with_its_cause(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("create", "transient", "guard")
    ended = shell.apply()
    assert ended.code == 0
    assert "demo/implementer  proxies_up attempt 1 failed: create guard: the engine is busy\n" in ended.err
    assert re.search(r"^    attempt 2 follows in 0\.\d s$", ended.err, re.MULTILINE)


def test_tells_a_repair_with_its_cause(shell: Shell) -> None:
    shell.apply()
    guard = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "guard")
    shell.world.stop(guard.id)
    ended = shell.apply()
    assert ended.code == 0
    assert f"demo/implementer  repair: guard {guard.name}: exited with code 137\n" in ended.err
    assert "start guard (exited with code 137)" in ended.err
    assert "demo/implementer: is ready, repaired\n" in ended.err


def test_tells_a_revision_with_the_changed_key(shell: Shell) -> None:
    shell.apply()
    shell.manifest.write_text(MANIFEST.replace("Do it.", "Do it well."))
    ended = shell.apply()
    assert ended.code == 0
    assert "demo/implementer  revise: manifest changed: manifest.agents.implementer.prompt\n" in ended.err
    assert "demo/implementer: is ready, as the manifest says now\n" in ended.err


def test_tells_who_guards_and_what_to_be_warned_of(shell: Shell) -> None:
    shell.env["SHORT"] = "tiny"
    secret = 'COLOUR: blue, SHORT: {from: "${SHORT}", secret: true, to: [example.org]}'
    shell.manifest.write_text(MANIFEST.replace("COLOUR: blue", secret))
    err = shell.apply().err
    assert "demo/implementer      guard builtin: the fake backend simulates it\n" in err
    assert "demo/implementer      warning: the secret `SHORT` is shorter than 12 bytes" in err


def test_says_which_backend_auto_took_and_why(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.manifest.write_text(MANIFEST.replace("backend: fake\n", ""))
    asked: list[str] = []

    def choose(name: str, _host: Host) -> Choice:
        asked.append(name)
        return Choice("fake", "a test says so")

    monkeypatch.setattr("bottle_fsm.cli.verbs.apply.choose", choose)
    ended = shell.run("apply", shell.manifest)
    assert ended.code == 0
    assert ended.err.startswith("backend auto takes fake: a test says so\n")
    assert asked == ["auto"], "once for all bottles"
    again = shell.run("apply", shell.manifest)
    assert again.code == 0
    assert "auto takes" not in again.err, "a bottle that lives stays where it is"
    assert asked == ["auto"]


def test_needs_an_engine_only_after_the_manifest_is_right(shell: Shell, tmp_path: Path) -> None:
    shell.env["DOCKER_HOST"] = f"unix://{tmp_path}/no.sock"
    ended = shell.apply("--backend", "auto")
    assert ended.code == 1
    assert "error: backend auto: no container engine answers" in ended.err
    assert shell.kinds() == []


# -- what programs see -------------------------------------------------------------------------------------------------


def test_prints_header_events_and_outcome_as_json(shell: Shell) -> None:
    ended = shell.apply("--json")
    first, *events, last = ended.objects
    assert ended.code == 0
    assert first["schema"] == "bottle-fsm/1"
    assert first["command"] == "apply"
    assert [e["kind"] for e in events] == [k for k in shell.kinds() if k != "lock"]
    assert [e["sequence"] for e in events] == sorted(e["sequence"] for e in events)
    assert (last["outcome"], last["exit_code"]) == ("ok", 0)
    (row,) = last["bottles"]
    assert (row["bottle"], row["result"], row["state"], row["outcome"]) == (
        "demo/implementer",
        "launched",
        "provisioned",
        "ready",
    )
    assert FINGERPRINT.search(ended.err)
    assert "provisioned" not in ended.err


@pytest.mark.parametrize(
    ("policy", "left", "state"), [("teardown", "nothing", "torn_down"), ("keep", "kept", "planned")]
)
def test_says_in_json_whether_a_failed_launch_was_torn_down_or_kept(
    shell: Shell, policy: str, left: str, state: str
) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "guard")
    ended = shell.apply("--json", "--on-failure", policy)
    last = ended.objects[-1]
    assert (ended.code, last["exit_code"], last["outcome"]) == (5, 5, "launch_failed")
    (row,) = last["bottles"]
    assert (row["result"], row["left"], row["state"]) == ("failed", left, state)
    assert row["error"]["code"] == "launch_failed"
    assert "the guard ended with code 1" in row["error"]["problem"]


def test_ends_the_json_of_a_wrong_manifest_with_every_problem(shell: Shell) -> None:
    shell.manifest.write_text(MANIFEST.replace("egress:", "egres:"))
    ended = shell.apply("--json")
    first, last = ended.objects
    assert first["schema"] == "bottle-fsm/1"
    assert (last["outcome"], last["exit_code"], ended.code) == ("manifest", 1, 1)
    (problem,) = last["error"]["problems"]
    assert problem["hint"] == "Did you mean `egress`?"


# -- failures ----------------------------------------------------------------------------------------------------------


def test_fails_with_the_sidecars_own_error_and_leaves_nothing(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "guard")
    ended = shell.apply()
    assert ended.code == 5
    assert "demo/implementer  proxies_up attempt 1 failed: the guard ended with code 1\n" in ended.err
    assert "error: demo/implementer after planned: " in ended.err
    assert "Everything of this launch was taken away again.\n" in ended.err
    assert shell.ids() == []


def test_keeps_a_failed_launch_when_asked_and_resumes_it(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "guard")
    ended = shell.apply("--on-failure", "keep")
    assert ended.code == 5
    assert "demo/implementer  kept as it is, in the state planned\n" in ended.err
    assert "`bottle-fsm resume demo/implementer` goes on" in ended.err
    assert shell.ids() != []
    again = shell.run("resume", "demo/implementer")
    assert again.code == 0
    assert "demo/implementer: is ready, resumed\n" in again.err


def test_ends_with_6_when_something_is_left_and_goes_on_later(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "interceptor")
    shell.goes_wrong("remove", "refuse", "guard", times=2)
    ended = shell.apply("--json")
    assert ended.code == 6
    (row,) = ended.objects[-1]["bottles"]
    assert (row["left"], row["outcome"]) == ("leftovers", "leftover")
    assert "claude-bottle-pipelock-implementer-" in ended.err
    assert "error: demo/implementer: the launch failed" in ended.err
    again = shell.run("destroy", "implementer")
    assert again.code == 0
    assert "demo/implementer: is torn down: nothing of it is left\n" in again.err
    assert shell.ids() == []


def test_ends_with_3_when_another_process_holds_the_lock(shell: Shell) -> None:
    shell.apply()
    with BottleLock(shell.state, "demo/implementer", command="destroy"):
        ended = shell.apply()
    assert ended.code == 3
    assert re.match(r"error: demo/implementer: held by pid \d+ \(destroy\)\. Wait for it, or give --", ended.err)


def test_ends_with_4_when_a_decision_is_needed(shell: Shell, tmp_path: Path) -> None:
    shell.apply()
    other = tmp_path / "other.yaml"
    other.write_text(MANIFEST)
    ended = shell.run("apply", other, "implementer")
    assert ended.code == 4
    assert f"was made from {shell.manifest}, not from {other}" in ended.err
    assert shell.run("apply", other, "implementer", "--name", "another").code == 0


def test_takes_the_highest_exit_code_of_several_bottles(shell: Shell) -> None:
    shell.run("apply", shell.manifest, "reviewer")
    with BottleLock(shell.state, "demo/reviewer", command="exec"):
        ended = shell.run("apply", shell.manifest, "--parallel", "2", "--json")
    rows = {row["bottle"]: row for row in ended.objects[-1]["bottles"]}
    assert ended.code == 3
    assert (rows["demo/implementer"]["exit_code"], rows["demo/reviewer"]["exit_code"]) == (0, 3)
    assert ended.objects[-1]["outcome"] == "lock_held"


# -- before anything is created ----------------------------------------------------------------------------------------


HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
SSH = f"ssh: [{{host: h.example, user: git, identity_file: ./key, known_host_key: {HOST_KEY}}}]\n    egress:"


@pytest.mark.parametrize(
    ("old", "new", "place", "problem", "hint"),
    [
        ("bottle: dev, prompt", "bottle: dve, prompt", "agents/implementer/bottle", "no bottle `dve`", "`dev`"),
        ("prompt:", "skills: [nope], prompt:", "agents/implementer/skills/0", "`nope` is no directory", "Create"),
        ("egress:", SSH, "bottles/dev/ssh/0/identity_file", "does not exist", "Correct the path"),
        ("COLOUR: blue", 'COLOUR: "${NOT_THERE}"', "bottles/dev/env/COLOUR", "NOT_THERE", ""),
        ("egress:", "egres:", "bottles/dev/egres", "the key `egres` is not known", "Did you mean `egress`?"),
        ("[example.org]", "5", "bottles/dev/egress/allow", "", ""),
        ("name: demo", "name: demo\nname: twice", "name", "", ""),
    ],
)
def test_reports_manifest_errors_and_creates_nothing(  # noqa: PLR0917 - one row a manifest error
    shell: Shell, old: str, new: str, place: str, problem: str, hint: str
) -> None:
    shell.manifest.write_text(MANIFEST.replace(old, new, 1))
    ended = shell.run("apply", shell.manifest)
    assert ended.code == 1
    line = rf"^error: .*demo\.yaml:\d+ {place}: .*{re.escape(problem)}.*{re.escape(hint)}"
    assert re.search(line, ended.err, re.MULTILINE)
    assert "Traceback" not in ended.err
    assert not shell.state.exists()


def test_reports_the_errors_of_all_agents_together(shell: Shell) -> None:
    text = MANIFEST.replace("Do it.,", "Do it., skills: [one],").replace("reviewer: {", "reviewer: {skills: [two], ")
    shell.manifest.write_text(text.replace("blue", '"${GONE}"'))
    err = shell.run("apply", shell.manifest).err
    assert "`one`" in err
    assert "`two`" in err
    assert err.count("GONE") - err.count("Set GONE") <= err.count("error: ")
    assert len([line for line in err.splitlines() if "env/COLOUR" in line]) == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("implementor", "error: BOTTLE: there is no bottle `implementor`. Did you mean demo/implementer?\n"),
        ("zzz", "error: BOTTLE: there is no bottle `zzz`. Known are demo/implementer, demo/reviewer.\n"),
        ("demo/", "error: BOTTLE: `demo/` may mean demo/implementer, demo/reviewer. Write it as project/agent.\n"),
    ],
)
def test_names_the_nearest_bottle(shell: Shell, word: str, message: str) -> None:
    ended = shell.run("apply", shell.manifest, word)
    assert (ended.code, ended.err) == (1, message)


def test_says_that_a_manifest_is_not_there(shell: Shell) -> None:
    ended = shell.run("apply", "nowhere.yaml")
    assert ended.code == 1
    assert ended.err.startswith("error: nowhere.yaml")


def test_refuses_a_state_directory_of_another_machine(shell: Shell) -> None:
    shell.apply()
    identity = shell.state / "root.json"
    identity.write_text(json.dumps({**json.loads(identity.read_text()), "machine": "another"}))
    ended = shell.apply()
    assert ended.code == 4
    assert "this state directory was made on another machine" in ended.err
    assert shell.run("audit", "verify").code == 0, "but reading it is fine"


# -- the log -----------------------------------------------------------------------------------------------------------


def test_appends_committed_events_to_the_log_file(shell: Shell, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    shell.apply("--log-file", log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == [k for k in shell.kinds() if k != "lock"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    shell.run("destroy", "implementer", "--yes", "--log-file", log)
    more = [json.loads(line) for line in log.read_text().splitlines()]
    assert more[: len(lines)] == lines
    assert more[-1]["to"] == "torn_down"


def test_prints_log_lines_instead_of_the_table_when_asked(shell: Shell) -> None:
    ended = shell.run("--log", "json", "apply", shell.manifest, "implementer")
    lines = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    assert len({line["ca_sha256"] for line in lines if "ca_sha256" in line}) == 1
    assert [line["sequence"] for line in lines] == sorted(line["sequence"] for line in lines)
    assert lines[-1]["to"] == "provisioned"
    assert "demo/implementer  provisioned" not in ended.err


def test_refuses_a_log_file_that_cannot_be_written(shell: Shell, tmp_path: Path) -> None:
    ended = shell.apply("--log-file", tmp_path / "no" / "log")
    assert ended.code == 1
    assert "log: cannot be written: No such file or directory.\n" in ended.err
    assert shell.kinds() == []


def test_never_shows_a_secret(shell: Shell, tmp_path: Path) -> None:
    canary = "canary-0123456789abcdef"
    shell.env["TOKEN"] = canary
    secret = 'COLOUR: blue, TOKEN: {from: "${TOKEN}", secret: true, to: [example.org]}'
    shell.manifest.write_text(MANIFEST.replace("COLOUR: blue", secret))
    log = tmp_path / "log"
    shown = [
        shell.run("plan", shell.manifest),
        shell.run("plan", shell.manifest, "--json"),
        shell.apply("--log-file", log, "--json"),
        shell.run("status", "--json"),
        shell.run("status", "implementer"),
        shell.run("audit", "--json"),
        shell.run("audit", "export"),
    ]
    assert all(ended.code == 0 for ended in shown)
    assert canary not in "".join(ended.out + ended.err for ended in shown) + log.read_text()
    assert "TOKEN (secret, may go to example.org)" in shown[0].out


def test_keeps_control_characters_of_a_manifest_off_the_screen(shell: Shell, tmp_path: Path) -> None:
    odd = tmp_path / "a\x1b]0;title\x07\nb.yaml"
    odd.write_text(MANIFEST.replace("egress:", "egres:"))
    err = shell.run("apply", odd).err
    assert "\x1b" not in err
    assert "a\\x1b]0;title\\x07\\nb.yaml" in err
