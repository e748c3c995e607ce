from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.rule import Rule, rule_of_entry
from bottle_fsm.errors import DefinitionError, ValidationError
from bottle_fsm.manifest.model import Manifest
from bottle_fsm.manifest.spec import BottleSpec, specs
from bottle_fsm.model import Host, canonical
from bottle_fsm.plan.build import CommonParts, HostSources, agent_command, common_parts, launch_policy
from bottle_fsm.provision.sources import read_sources

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJc1ysXGaskqNhGfVRtcHwsMaIYQdaZ5lkkSZ2UQ6rh"
CANARY = "canary-value-of-a-secret"


def spec(tmp_path: Path, *, agent: dict[str, Any] | None = None, reach: dict[str, Any] | None = None) -> BottleSpec:
    manifest = Manifest.model_validate(
        {
            "version": 1,
            "name": "demo",
            "bottles": {"dev": {"egress": {"allow": ["example.org"]}, **(reach or {})}},
            "agents": {"ada": {"bottle": "dev", "command": ["work"], **(agent or {})}},
        }
    )
    (made,) = specs(manifest, tmp_path / "bottles.yaml")
    return made


def host(tmp_path: Path, **environ: str) -> Host:
    return Host(root_id="root", state_dir=tmp_path / "state", home=tmp_path / "home", environ=environ)


def parts(tmp_path: Path, made: BottleSpec, **environ: str) -> CommonParts:
    return common_parts(made, read_sources(made, host(tmp_path, **environ)))


def test_skips_everything_that_is_not_asked_for_with_a_reason(tmp_path: Path) -> None:
    found = parts(tmp_path, spec(tmp_path))
    assert [(item.name, item.asked, bool(item.reason)) for item in found.provision] == [
        ("prompt", False, True),
        ("skills", False, True),
        ("ssh", False, True),
        ("git", False, True),
    ]
    allow = [{"host": "example.org", "port": 443}]
    assert found.policy == {"allow": allow, "ssh": [], "hosts": {}, "model_host": ""}
    assert found.warnings == ()


def test_allows_the_providers_own_hosts_and_says_so(tmp_path: Path) -> None:
    found = parts(tmp_path, spec(tmp_path, agent={"provider": "claude", "prompt": "Be good."}))
    assert found.policy["allow"] == [
        {"host": "api.anthropic.com", "port": 443, "scan": "off", "credentials": "injected"},
        {"host": "example.org", "port": 443},
        {"host": "platform.claude.com", "port": 443, "credentials": "injected"},
    ]
    assert found.env["DISABLE_AUTOUPDATER"] == "1"
    assert found.provision[0].inputs == {"target": "/home/agent/.claude/CLAUDE.md", "text": "Be good."}
    assert found.warnings == (
        "allowed without being asked for, as provider claude needs it: api.anthropic.com, platform.claude.com",
    )


def test_lets_a_rule_of_the_manifest_take_the_place_of_the_providers_own_in_what_it_says(
    tmp_path: Path,
) -> None:
    own = {"host": "api.anthropic.com", "methods": ["POST"]}
    other = {"host": "platform.claude.com", "port": 8443}
    made = spec(tmp_path, agent={"provider": "claude"}, reach={"egress": {"allow": [own, other]}})
    found = parts(tmp_path, made)
    assert found.policy["allow"] == [
        {"host": "api.anthropic.com", "port": 443, "methods": ["POST"], "scan": "off", "credentials": "injected"},
        {"host": "platform.claude.com", "port": 443, "credentials": "injected"},
        {"host": "platform.claude.com", "port": 8443},
    ]
    assert found.warnings == ("allowed without being asked for, as provider claude needs it: platform.claude.com",)
    both = {"allow": ["api.anthropic.com", "platform.claude.com"]}
    assert parts(tmp_path, spec(tmp_path, agent={"provider": "claude"}, reach={"egress": both})).warnings == ()


def test_plans_rules_in_long_form_without_defaults_and_values(tmp_path: Path) -> None:
    rules: list[Any] = [
        {"host": "*.b.example", "port": 80, "scan": "block", "websocket": False, "credentials": "none"},
        {
            "host": "a.example",
            "methods": ["DELETE", "GET", "GET"],
            "paths": ["/z", "/a/*", "/z"],
            "scan": "warn",
            "inject": {"header": "X-Key", "value": "Bearer ${CANARY}"},
            "credentials": "injected",
            "websocket": True,
        },
        {"host": "c.example", "bypass_tls": True, "credentials": "agent"},
    ]
    found = parts(tmp_path, spec(tmp_path, reach={"egress": {"allow": rules}})).policy["allow"]
    assert found == [
        {"host": "*.b.example", "port": 80},
        {"host": "a.example", "port": 443, "methods": ["GET", "DELETE"], "paths": ["/a/*", "/z"], "scan": "warn",
         "inject": ["header X-Key"], "websocket": True},
        {"host": "c.example", "port": 443, "bypass_tls": True, "credentials": "agent"},
    ]  # fmt: skip
    assert "CANARY" not in json.dumps(found)
    assert [rule_of_entry(entry).credentials for entry in found] == ["none", "injected", "agent"]


def test_lets_the_manifest_win_over_the_providers_variables(tmp_path: Path) -> None:
    made = spec(tmp_path, agent={"provider": "claude"}, reach={"env": {"DISABLE_AUTOUPDATER": "0"}})
    assert parts(tmp_path, made).env["DISABLE_AUTOUPDATER"] == "0"


def test_adds_flags_only_to_a_command_that_the_manifest_leaves_out(tmp_path: Path) -> None:
    own = spec(tmp_path, agent={"provider": "claude", "command": ["claude", "-p"]}).agent_model
    default = spec(tmp_path, agent={"provider": "claude", "command": []}).agent_model
    assert own is not None
    assert default is not None
    assert agent_command(own) == ("claude", "-p")
    assert agent_command(default) == ("claude", "--dangerously-skip-permissions")


def test_plans_ssh_hosts_with_absolute_keys_and_warns(tmp_path: Path) -> None:
    entry = {"host": "git.example.com", "user": "git", "identity_file": "~/.ssh/id", "known_host_key": KEY}
    found = parts(tmp_path, spec(tmp_path, reach={"ssh": [entry]}))
    (planned,) = found.provision[2].inputs["hosts"]
    assert planned == {**entry, "port": 22, "identity_file": str(tmp_path / "home/.ssh/id")}
    assert found.policy["ssh"] == [["git.example.com", 22]]
    assert found.warnings == (
        "git.example.com:22 is reachable by ssh with any key, and bytes in that tunnel are not looked at",
    )


def test_holds_names_of_secrets_and_never_values(tmp_path: Path) -> None:
    env = {
        "TOKEN": {"from": "${CANARY}", "secret": True, "to": ["api.example.org"]},
        "SHORT": {"from": "${TINY}", "secret": True},
        "SHOWN": "${PLAIN}",
    }
    found = parts(tmp_path, spec(tmp_path, reach={"env": env}), CANARY=CANARY, TINY="abc", PLAIN="seen")
    assert found.secrets == {"SHORT": (), "TOKEN": ("api.example.org",)}
    assert found.env == {"SHOWN": "seen"}
    assert any("`SHORT` is shorter than 12 bytes" in warning for warning in found.warnings)
    text = json.dumps([found.env, found.policy, [i.to_json() for i in found.provision], found.warnings, repr(found)])
    assert CANARY not in text


def test_plans_skills_by_digest(tmp_path: Path) -> None:
    skill = tmp_path / "skills" / "review"
    skill.mkdir(parents=True)
    (skill / "SKILL.md").write_text("Look twice.")
    made = spec(tmp_path, agent={"skills": ["./skills/review"], "provider": "codex"})
    first = parts(tmp_path, made).provision[1].inputs
    assert first["directory"] == "/home/agent/.agents/skills"
    (planned,) = first["skills"]
    assert (planned["name"], planned["source"], planned["files"], planned["bytes"]) == ("review", str(skill), 1, 11)
    assert "Look twice" not in str(first)
    (skill / "SKILL.md").write_text("Look again.")
    assert parts(tmp_path, made).provision[1].inputs["skills"][0]["sha256"] != planned["sha256"]


def test_reports_all_sources_that_may_not_be_copied(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to("/etc/passwd")
    (tmp_path / "three").mkdir()
    made = spec(tmp_path, agent={"skills": ["./one", "./two", "./three"], "workspace": {"source": "./absent"}})
    with pytest.raises(ValidationError) as caught:
        read_sources(made, host(tmp_path))
    assert [problem.place.split(" ")[1] for problem in caught.value.problems] == [
        "agents/ada/skills/0",
        "agents/ada/skills/1",
        "agents/ada/skills/2",
        "agents/ada/workspace/source",
    ]
    assert "the link leaves the tree" in str(caught.value)
    assert "three: holds no file" in str(caught.value)


def test_names_likely_secrets_of_the_workspace(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name in (".env", ".env.example", "server.pem", "id_rsa", "readme.md"):
        (work / name).write_text(CANARY)
    found = parts(tmp_path, spec(tmp_path, agent={"workspace": {"source": "./work", "mode": "copy"}}))
    inputs = found.provision[3].inputs
    assert (inputs["mode"], inputs["kind"], inputs["files"], inputs["bytes"]) == ("copy", "plain", 5, 5 * len(CANARY))
    assert found.warnings == (
        "the workspace holds what looks like secrets, and the agent will see it: .env, id_rsa, server.pem",
    )


def test_counts_likely_secrets_beyond_the_first(tmp_path: Path) -> None:
    sources = HostSources(suspects=tuple(f"{number}.pem" for number in range(11)))
    (warning,) = common_parts(spec(tmp_path), sources).warnings
    assert warning.endswith("7.pem and 3 more")


def test_asks_git_for_an_identity_without_a_workspace(tmp_path: Path) -> None:
    user = {"name": "Ada", "email": "ada@example.com"}
    item = parts(tmp_path, spec(tmp_path, agent={"git": {"user": user}})).provision[3]
    assert item.asked
    assert item.inputs == {"mode": "none", "target": "/workspace", "user": user}


def test_refuses_rules_that_make_no_policy_with_their_place(tmp_path: Path) -> None:
    entry = {"host": "git.example.com", "user": "git", "identity_file": "~/.ssh/id", "known_host_key": KEY}
    made = spec(tmp_path, agent={"provider": "codex"}, reach={"ssh": [{**entry, "host": "chatgpt.com", "port": 443}]})
    with pytest.raises(ValidationError, match=r"bottles\.yaml bottles/dev/egress: .*both as https and as ssh-tcp"):
        parts(tmp_path, made)


def test_plans_a_bottle_without_any_way_out(tmp_path: Path) -> None:
    assert parts(tmp_path, spec(tmp_path, reach={"egress": {}})).policy["allow"] == []


def test_refuses_a_spec_that_was_not_validated(tmp_path: Path) -> None:
    made = spec(tmp_path)
    (absent,) = specs(made.manifest, tmp_path / "bottles.yaml", ["nobody"])
    with pytest.raises(DefinitionError):
        common_parts(absent, HostSources())
    with pytest.raises(DefinitionError):
        read_sources(absent, host(tmp_path))


def test_makes_one_policy_a_launch_from_one_plan(tmp_path: Path) -> None:
    made = spec(
        tmp_path, reach={"egress": {"allow": ["example.org", "old.example:80"], "hosts": {"example.org": "10.0.0.1"}}}
    )
    policy = launch_policy(parts(tmp_path, made).policy, bottle="demo/ada", launch="one")
    assert policy.launch == "one"
    assert policy.rules == (Rule("example.org", 443, "https"), Rule("old.example", 80, "http"))
    assert policy.hosts == (("example.org", "10.0.0.1"),)


def test_makes_the_policy_of_a_plan_that_an_older_launch_recorded() -> None:
    recorded = {"allow": [["*.b.example", 443], ["plain.example", 80]], "ssh": [["git.example", 22]], "hosts": {}}
    entries = [{"host": "*.b.example", "port": 443}, {"host": "plain.example", "port": 80}]
    now = launch_policy({**recorded, "allow": entries}, bottle="demo/ada", launch="one")
    assert launch_policy(recorded, bottle="demo/ada", launch="one") == now
    assert now.rules == (
        Rule("*.b.example", 443, "https"), Rule("git.example", 22, "ssh-tcp"), Rule("plain.example", 80, "http")
    )  # fmt: skip


NAMES = st.lists(st.from_regex(r"[a-z]{1,8}\.example", fullmatch=True), min_size=1, max_size=6, unique=True)


@given(names=NAMES, ports=st.lists(st.integers(1, 65535), min_size=6, max_size=6), turned=st.randoms())
def test_plans_equal_parts_for_equal_wishes_in_any_order(names: list[str], ports: list[int], turned: Any) -> None:
    rules = [{"host": name, "port": port} for name, port in zip(names, ports, strict=False)]
    shuffled = list(rules)
    turned.shuffle(shuffled)
    one, two = (
        common_parts(spec(Path("/nowhere"), reach={"egress": {"allow": list(allow)}}), HostSources())
        for allow in (rules, shuffled)
    )
    assert canonical(one.policy) == canonical(two.policy)
    # only the digest of the wish itself sees the order
    assert replace(one, spec="") == replace(two, spec="")
