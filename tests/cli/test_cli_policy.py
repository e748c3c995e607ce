"""`policy suggest`: what was denied for want of a rule, as lines that a manifest takes, and nothing that misleads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.cli.decisions import record_of
from bottle_fsm.errors import UsageError
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.store.record import BottleRecord
from cli_shell import MANIFEST, Shell
from traffic.traffic_bench import decision

SUGGEST = "policy", "suggest", "implementer"


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.apply()
    return found


def denied(number: int, host: str, **more: Any) -> bytes:
    fields = {"action": "deny", "reason": "not_listed", "method": "CONNECT", "path": "", **more}
    return decision(number, host=host, **fields)


def test_prints_lines_that_a_manifest_takes_the_most_frequent_first(shell: Shell) -> None:
    shell.say(
        "interceptor",
        denied(1, "rare.test"),
        *(denied(n, "often.test") for n in range(2, 5)),
        denied(6, "plain.test", port=80, method="GET", path="/a"),
        denied(7, "plain.test", port=80, method="POST", path="/b"),
        denied(8, "high.test", port=8443),
        denied(9, "no"),
    )
    ended = shell.run(*SUGGEST)
    launch = shell.run("status", "--json").objects[0]["launch"]
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"# demo/implementer, launch {launch}: denied, as no rule names it. Review before you add it.",
        "allow:",
        "  - often.test  # 3 times; CONNECT",
        '  - plain.test:80  # 2 times; GET POST; "/a" "/b"',
        "  - high.test:8443  # once; CONNECT",
        '  - "no"  # once; CONNECT',
        "  - rare.test  # once; CONNECT",
    ]
    rules = ended.out.replace("allow:", "").replace("\n", "\n      ")
    shell.manifest.write_text(MANIFEST.replace("{allow: [example.org]}", f"\n      allow:\n      {rules}"))
    (reach,) = load_manifest(shell.manifest).manifest.bottles.values()
    assert [(r.host, r.port) for r in reach.egress.allow] == [
        ("often.test", 443), ("plain.test", 80), ("high.test", 8443), ("no", 443), ("rare.test", 443),
    ]  # fmt: skip


def test_suggests_nothing_that_was_denied_for_another_reason(shell: Shell) -> None:
    shell.say(
        "interceptor",
        decision(1),
        *(denied(n, f"h{n}.test", reason=r) for n, r in enumerate(("host_mismatch", "sni_missing", "not_ready"), 2)),
        denied(5, "leak.test", reason="guard_refused", by="guard", findings=["github_token"]),
        denied(6, "denied.bottle-fsm.internal"),
        denied(7, "Denied.bottle-fsm.internal."),
        denied(8, "example.org"),
        denied(9, "zero.test", port=0),
    )
    shell.say("guard", denied(10, "guards.test", event="blocked", by="guard"))
    ended = shell.run(*SUGGEST)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "demo/implementer: nothing was denied for want of a rule\n"


def test_leaves_out_addresses_and_names_that_no_manifest_takes(shell: Shell) -> None:
    strange = ["10.0.0.1", "0x7f.1", "[::1]", "localhost", "a_b.test", "*.test", "-x.test", "evil\n  - all.test", "a b"]
    shell.say("interceptor", *(denied(n, host) for n, host in enumerate([*strange, "10.0.0.1", "fine.test"])))
    ended = shell.run(*SUGGEST)
    assert ended.out.splitlines()[1:] == ["allow:", "  - fine.test  # once; CONNECT"]
    assert ended.err == (f"note: {len(strange)} names were left out: addresses, or none that a manifest would take\n")


def test_keeps_hostile_methods_and_paths_within_their_comment(shell: Shell) -> None:
    hostile = ["/\n  - evil.test", "/\u2028x", "/\x1b[31m", '/"#', "/" + "p" * 500, "/6", "/7"]
    shell.say(
        "interceptor",
        *(denied(n, "a.test", method="GET\n- b.test", path=path) for n, path in enumerate(hostile)),
    )
    out = shell.run(*SUGGEST).out
    assert len(out.splitlines()) == 3
    assert out.replace("\n", "").isprintable()
    assert out.isascii()
    line = out.splitlines()[2]
    assert line.startswith('  - a.test  # 7 times; GET\\n- b.test; "/\\n  - evil.test" "/\\u2028x" "/\\u001b[31m" ')
    assert line.endswith('ppp"'), "five examples, each cut"
    assert len(line) < 300


def test_tells_of_ssh_apart(shell: Shell) -> None:
    shell.say("interceptor", denied(1, "git.test", port=22, by="relay"), denied(2, "git.test", port=22, by="relay"))
    assert shell.run(*SUGGEST).out.splitlines()[1:] == [
        "# ssh to git.test:22: 2 times; an entry of `ssh:` with a key allows it"
    ]


def test_gives_programs_an_object_each_and_remembers_a_bottle_that_is_gone(shell: Shell) -> None:
    shell.say("interceptor", denied(1, "one.test"), denied(2, "10.0.0.1"))
    shell.run("destroy", "implementer", "--yes")
    header, found, outcome = shell.run(*SUGGEST, "--json").objects
    assert (header["type"], header["command"]) == ("header", "policy suggest")
    assert found == {
        "type": "suggestion", "bottle": "demo/implementer", "launch": found["launch"], "host": "one.test", "port": 443,
        "ssh": False, "count": 1, "last": "2026-05-01T00:00:01Z", "methods": ["CONNECT"], "paths": [],
    }  # fmt: skip
    assert (outcome["exit_code"], outcome["suggestions"], outcome["left_out"]) == (0, 1, 1)


def test_suggests_from_what_is_kept_although_the_engine_does_not_answer(shell: Shell) -> None:
    shell.say("interceptor", denied(1, "one.test"))
    shell.run(*SUGGEST)
    shell.goes_wrong("logs", "unavailable")
    ended = shell.run(*SUGGEST)
    assert "one.test" in ended.out
    assert ended.err == "note: the newest decisions cannot be collected: the simulated engine does not answer\n"


def test_says_when_a_bottle_was_never_launched(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="never launched"):
        record_of(tmp_path, BottleRecord("demo/nobody"))


def test_is_not_confused_by_a_damaged_record(shell: Shell) -> None:
    shell.say("interceptor", denied(1, "one.test"))
    shell.run(*SUGGEST)
    (record,) = (shell.state / "egress").rglob("*.jsonl")
    with record.open("ab") as file:
        file.write(
            b'\x00\x00\n{"source": "interceptor", "event": "decision", "reason": "not_listed", "port": "x"}\n[]\n'
        )
        file.write(
            json.dumps({"source": "interceptor", "event": "decision", "reason": "not_listed", "port": 1}).encode()
        )
        file.write(b"\n")
    ended = shell.run(*SUGGEST)
    assert ended.out.splitlines()[2:] == ["  - one.test  # once; CONNECT"]
