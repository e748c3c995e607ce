from __future__ import annotations

from pathlib import Path

import pytest

from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject, ProvisionItem
from bottle_fsm.plan.diff import Operation
from bottle_fsm.plan.render import changes, render, to_json
from cli_shell import MANIFEST, Shell

PLAN = BottlePlan(
    bottle="demo/a",
    slug="a-1",
    backend="docker",
    spec="s",
    endpoint={"url": "unix:///run/e.sock", "name": ""},
    guard="pipelock",
    guard_reason="its image is here",
    objects=(PlannedObject("agent", "container", "c-a", "agent_up", {}),),
    policy={
        "allow": [
            {"host": "api.anthropic.com", "port": 443, "scan": "off", "credentials": "injected"},
            {"host": "api.example", "port": 8443, "methods": ["GET", "PUT"], "paths": ["/a/*", "/b"]},
            {
                "host": "odd.example",
                "port": 443,
                "scan": "warn",
                "credentials": "agent",
                "inject": ["header X\x1b"],
                "websocket": True,
                "bypass_tls": True,
            },
            {"host": "plain.example", "port": 80},
            {"host": "platform.claude.com", "port": 443, "methods": ["GET"]},
        ],
        "ssh": [["git.example.com", 22]],
        "hosts": {"git.example.com": "10.0.0.7"},
    },
    env={"A": "b\x1b[31m"},
    secrets={"TOKEN": ("api.example",), "KEY": ()},
    injections=(
        {
            "rule": "https://api.example:8443",
            "kind": "bearer",
            "name": "",
            "template": "${GITHUB_TOKEN}",
            "held": {"GITHUB_TOKEN": "mark"},
        },
        {
            "rule": "https://odd.example:443",
            "kind": "header",
            "name": "X\x1b",
            "template": "v1 ${K}",
            "held": {"K": "m"},
        },
        {"rule": "https://odd.example:443", "kind": "query", "name": "key", "template": "${K}", "held": {"K": "m"}},
    ),
    provision=(
        ProvisionItem("prompt", asked=True, inputs={"text": "äö", "target": "/p"}),
        ProvisionItem(
            "skills",
            asked=True,
            inputs={"directory": "/s", "skills": [{"name": "review", "files": 2, "bytes": 9}]},
        ),
        ProvisionItem("ssh", asked=True, inputs={"hosts": [{"user": "git", "host": "git.example.com", "port": 22}]}),
        ProvisionItem("git", asked=False, reason="nothing asked"),
    ),
    warnings=("mind\nthis",),
    isolation=("gVisor", "no capabilities"),
)
OPERATIONS = [
    Operation("replace", "agent", "c-a", "manifest changed: image"),
    Operation("remove", "guard", "c-b", "a duplicate"),
]
TEXT = """\
demo/a: would be revised
  operations
    ± replace agent        c-a  (manifest changed: image)
    - remove  guard        c-b  (a duplicate)
  backend
    docker  url=unix:///run/e.sock
  guard
    pipelock: its image is here
  isolation
    gVisor
    no capabilities
  egress
    allow https://api.anthropic.com:443  (the provider needs it)
    allow https://api.example:8443  methods GET, PUT; paths /a/*, /b
    allow https://odd.example:443  scan warn; credentials agent: any credential the agent has may be sent there: \
upload to any account; websocket; TLS stays closed
    allow http://plain.example:80
    allow https://platform.claude.com:443  methods GET  (the provider needs it)
    allow ssh to git.example.com:22, reachable with any key
    git.example.com is 10.0.0.7
    everything else is refused
    inject Authorization at https://api.example:8443 from ${GITHUB_TOKEN}
    inject X\\x1b at https://odd.example:443 from v1 ${K}
    inject the parameter key at https://odd.example:443 from ${K}
  environment
    A=b\\x1b[31m
    TOKEN (secret, may go to api.example)
    KEY (secret, may go nowhere outside)
  provisioning
    prompt   4 bytes to /p
    skills   review (2 files, 9 bytes) to /s
    ssh      git@git.example.com:22
    git      skipped: nothing asked
  warnings
    mind\\nthis
    m.yaml:3 allow/0: no use"""


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_renders_everything_that_a_person_decides_by() -> None:
    hosts = ("api.anthropic.com", "platform.claude.com")
    warnings = ("m.yaml:3 allow/0: no use",)
    assert render(PLAN, OPERATIONS, headline="would be revised", provider_hosts=hosts, warnings=warnings) == TEXT


def test_renders_whose_credentials_may_pass_where_it_is_not_the_default() -> None:
    entries = [
        {"host": "a.b", "port": 443, "credentials": "injected"},
        {"host": "c.d", "port": 443, "credentials": "none", "inject": ["bearer Authorization"]},
        {"host": "e.f", "port": 443, "credentials": "injected", "inject": ["bearer Authorization"]},
    ]
    shown = render(BottlePlan.from_json({**PLAN.to_json(), "policy": {"allow": entries}}), [], headline="x")
    assert "    allow https://a.b:443  credentials injected\n    allow https://c.d:443  credentials none\n" in shown
    assert "    allow https://e.f:443\n" in shown


def test_renders_rules_that_an_older_launch_recorded() -> None:
    old = BottlePlan.from_json({**PLAN.to_json(), "policy": {"allow": [["api.anthropic.com", 443], ["a.b", 80]]}})
    shown = render(old, [], headline="x", provider_hosts=("api.anthropic.com",))
    assert "    allow https://api.anthropic.com:443  (the provider needs it)\n    allow http://a.b:80\n" in shown


def test_shows_of_a_rule_only_what_is_not_as_it_is_by_default() -> None:
    injecting = {"host": "a.b", "port": 443, "inject": ["header X"], "credentials": "none"}
    same = {"host": "c.d", "port": 443, "scan": "block", "credentials": "none", "websocket": False, "methods": []}
    made = BottlePlan.from_json({**PLAN.to_json(), "policy": {"allow": [injecting, same]}})
    shown = render(made, [], headline="x")
    assert "    allow https://a.b:443  credentials none\n    allow https://c.d:443\n" in shown


def test_renders_other_items_by_their_parts() -> None:
    item = ProvisionItem(
        "git", asked=True, inputs={"mode": "copy", "user": {"name": "Ada"}, "empty": "", "list": [1, 2]}
    )
    shown = render(BottlePlan.from_json({**PLAN.to_json(), "provision": [item.to_json()]}), [], headline="x")
    assert "    git      mode copy, user name=Ada, list 1, 2\n" in shown
    assert "  operations\n" not in shown


def test_tells_changes_from_what_is_adopted() -> None:
    assert changes(OPERATIONS)
    assert not changes([Operation("adopt", "agent", "c-a", "found as planned")])
    value = to_json(PLAN, OPERATIONS)
    assert value["operations"][0] == {
        "action": "replace",
        "role": "agent",
        "name": "c-a",
        "cause": "manifest changed: image",
    }
    assert BottlePlan.from_json(value["plan"]) == PLAN
    assert value["digest"] == PLAN.digest


# -- the verb ----------------------------------------------------------------------------------------------------------


def test_shows_what_would_be_created_and_creates_no_journal(shell: Shell) -> None:
    ended = shell.run("plan", shell.manifest, "implementer")
    assert ended.code == 0
    assert ended.out.startswith("demo/implementer: would be launched\n  operations\n    + create  net-inside ")
    assert "    allow https://example.org:443\n" in ended.out
    assert "    COLOUR=blue\n" in ended.out
    assert "note: this state directory is new: the last part of each name is chosen by apply" in ended.out
    assert not (shell.state / "root.json").exists()
    assert not (shell.state / "journal.sqlite3").exists()


def test_says_which_hosts_the_provider_needs(shell: Shell) -> None:
    shell.manifest.write_text(MANIFEST.replace("bottle: dev, prompt", "provider: claude, bottle: dev, prompt"))
    out = shell.run("plan", shell.manifest).out
    assert "allow https://api.anthropic.com:443  (the provider needs it)\n" in out
    assert "scan" not in out
    assert "credentials" not in out


def test_names_what_apply_then_makes(shell: Shell) -> None:
    shell.run("apply", shell.manifest, "reviewer")
    planned = {o["name"] for o in shell.run("plan", shell.manifest, "implementer", "--json").objects[1]["operations"]}
    before = {o.name for o in shell.world.objects()}
    shell.apply()
    assert {o.name for o in shell.world.objects()} - before == planned


@pytest.mark.parametrize(("flag", "changed", "same"), [((), 0, 0), (("--detailed-exitcode",), 2, 0)])
def test_ends_with_2_on_changes_only_when_asked(shell: Shell, flag: tuple[str, ...], changed: int, same: int) -> None:
    assert shell.run("plan", shell.manifest, "implementer", *flag).code == changed
    shell.apply()
    ended = shell.run("plan", shell.manifest, "implementer", *flag)
    assert ended.code == same
    assert ended.out.startswith("demo/implementer: is as the manifest says: nothing to do\n")
    assert "    = adopt   agent " in ended.out


def test_prints_json(shell: Shell) -> None:
    first, one, two, last = shell.run("plan", shell.manifest, "--json", "--detailed-exitcode").objects
    assert first["schema"] == "bottle-fsm/1"
    assert [one["bottle"], two["bottle"]] == ["demo/implementer", "demo/reviewer"]
    assert one["changes"] is True
    assert one["plan"]["env"] == {"COLOUR": "blue"}
    assert (last["outcome"], last["exit_code"]) == ("changes", 2)


def test_compares_with_the_world_as_it_is(shell: Shell) -> None:
    shell.apply()
    guard = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "guard")
    shell.world.stop(guard.id)
    out = shell.run("plan", shell.manifest, "implementer").out
    assert out.startswith("demo/implementer: would be repaired\n")
    assert f"    ~ start   guard        {guard.name}  (exited with code 137)\n" in out


def test_finds_what_is_wrong_inside(shell: Shell) -> None:
    shell.apply()
    agent = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "agent")
    shell.world.put(agent.id, "/usr/local/share/ca-certificates/claude-bottle-mitm.crt", "644 root YQ==")
    ended = shell.run("plan", shell.manifest, "implementer", "--detailed-exitcode")
    assert ended.out.startswith("demo/implementer: would be repaired: the agent does not trust the bottle's CA\n")
    assert ended.code == 2


def test_names_the_key_that_changed(shell: Shell) -> None:
    shell.apply()
    shell.manifest.write_text(MANIFEST.replace("blue", "red"))
    out = shell.run("plan", shell.manifest, "implementer").out
    assert out.startswith("demo/implementer: would be revised: manifest changed: manifest.bottles.dev.env.COLOUR")
    assert "    ± replace agent " in out
    assert "(manifest changed: env.COLOUR)" in out


def test_sees_an_interrupted_launch_and_a_begun_teardown(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "interceptor")
    shell.apply("--on-failure", "keep")
    assert shell.run("plan", shell.manifest, "implementer").out.startswith(
        "demo/implementer: would be resumed after proxies_up\n"
    )
    shell.goes_wrong("remove", "refuse", "guard", times=2)
    assert shell.run("destroy", "implementer").code == 6
    assert shell.run("plan", shell.manifest, "implementer").out.startswith(
        "demo/implementer: its teardown would be finished, then it would be launched\n"
    )


def test_plans_a_launch_again_after_a_teardown(shell: Shell) -> None:
    shell.apply()
    shell.run("destroy", "implementer", "--yes")
    assert "would be launched" in shell.run("plan", shell.manifest, "implementer").out


def test_says_when_apply_will_refuse(shell: Shell, tmp_path: Path) -> None:
    shell.apply()
    other = tmp_path / "other.yaml"
    other.write_text(MANIFEST)
    out = shell.run("plan", other, "implementer", "--backend", "docker").out
    assert f"note: apply will refuse: this bottle was made from {shell.manifest}; --name gives another name\n" in out
    assert "note: apply will refuse: this bottle lives on the backend fake; destroy it first\n" in out


def test_refuses_a_wrong_manifest_and_says_so_in_json(shell: Shell) -> None:
    shell.manifest.write_text("version: 2\n")
    ended = shell.run("plan", shell.manifest, "--json")
    assert ended.code == 1
    assert ended.objects[-1]["outcome"] == "manifest"
    assert len(ended.objects[-1]["error"]["problems"]) == ended.err.count("error: ")


ODD_RULES = MANIFEST.replace("{allow: [example.org]}", '{allow: [a.example.org, "*.example.org"]}')
REMARK = (
    "bottles/dev/egress/allow/0: `a.example.org:443` says the same as `*.example.org:443`, which covers it. Remove it"
)


def test_warns_of_a_rule_that_does_nothing_with_its_line(shell: Shell) -> None:
    shell.manifest.write_text(ODD_RULES)
    out = shell.run("plan", shell.manifest, "implementer").out
    assert f"  warnings\n    {shell.manifest}:7 {REMARK}\n" in out
    found = shell.run("plan", shell.manifest, "--json").objects[1]
    assert found["remarks"] == [f"{shell.manifest}:7 {REMARK}"]
    assert found["plan"]["warnings"] == []


def test_warns_at_apply_once_for_bottles_that_share_a_reach(shell: Shell) -> None:
    shell.manifest.write_text(ODD_RULES)
    ended = shell.apply()
    assert ended.code == 0
    assert ended.err.count(f"warning: {shell.manifest}:7 {REMARK}\n") == 1
    # where the rule stands is no part of the plan: a line above it changes nothing
    shell.manifest.write_text("# a comment\n" + ODD_RULES)
    ended = shell.run("plan", shell.manifest, "implementer", "--detailed-exitcode")
    assert ended.code == 0
    assert f"    {shell.manifest}:8 {REMARK}\n" in ended.out
