"""From nothing to a bottle and back: the hello manifest by the command line, on the real engine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from e2e_bench import MANIFESTS, UP, Bench, simple

pytestmark = [pytest.mark.engine]
HELLO = "hello/greeter"
TOOLS = ("ca-alone", "curl", "curl-empty-environment", "git", "node", "npm", "openssl", "pip", "python-requests", "python-urllib", "wget")  # fmt: skip  # noqa: E501 - one list


@pytest.fixture(scope="module", name="hello")
def _hello(shared: Bench) -> tuple[Bench, str]:
    """The hello manifest, applied once in a fresh place; and what was shown."""
    shutil.copytree(MANIFESTS, shared.place / "manifests")
    ended = shared.ok("apply", shared.place / "manifests/hello.yaml", "--backend", "docker")
    return shared, ended.err


def test_shows_every_state_with_its_duration(hello: tuple[Bench, str]) -> None:
    _, shown = hello
    states = re.findall(rf"^{HELLO}  (\w+) +\d+\.\d\d s$", shown, re.MULTILINE)
    assert states == list(UP)


def test_shows_the_ca_fingerprint_that_the_interceptor_has(hello: tuple[Bench, str]) -> None:
    bench, shown = hello
    (fingerprint,) = re.findall(r"CA SHA-256 fingerprint: ((?:[0-9A-F]{2}:){31}[0-9A-F]{2})$", shown, re.MULTILINE)
    inside = bench.inside(
        HELLO, "openssl x509 -noout -fingerprint -sha256 -in /usr/local/share/ca-certificates/claude-bottle-mitm.crt"
    )
    assert inside.out.strip().partition("=")[2] == fingerprint
    assert bench.status(HELLO)["ca_sha256"] == fingerprint.replace(":", "").lower()


@pytest.mark.parametrize("tool", TOOLS)
def test_shows_a_trust_row_for_each_tool(hello: tuple[Bench, str], tool: str) -> None:
    assert re.search(rf"^{HELLO} +ok +{tool} +gate\S+ answered, certificate verified +\d", hello[1], re.MULTILINE)


@pytest.mark.parametrize(
    "probe",
    [
        "allow rule example.org:443",
        "verdict on a host without a rule",
        "host without a rule, HTTPS",
        "guard's proxy",
        "host at the inside network's gateway",
        "public address, direct",
        "a name, by the bottle's resolver",
    ],
)
def test_shows_a_self_test_row_for_each_probe(hello: tuple[Bench, str], probe: str) -> None:
    assert re.search(rf"^{HELLO} +ok +{re.escape(probe)} ", hello[1], re.MULTILINE)


def test_says_how_to_enter_look_around_and_destroy(hello: tuple[Bench, str]) -> None:
    _, shown = hello
    assert f"{HELLO}: is ready\n" in shown
    for words in (f"attach {HELLO}", f"status {HELLO}", f"logs {HELLO} --egress", f"destroy {HELLO}"):
        assert re.search(rf"^ +.*bottle-fsm {words}$", shown, re.MULTILINE)


def test_puts_prompt_skill_workspace_and_identity_inside(hello: tuple[Bench, str]) -> None:
    bench, _ = hello
    ended = bench.inside(
        HELLO,
        "grep -rl 'You are a guest in this bottle' ~ /run/bottle 2>/dev/null | xargs stat -c '%a %U';"
        "cat /workspace/README.md; git config user.email; echo $GREETING;"
        "find ~ -name reach.sh -perm -u+x | grep greet/scripts",
    )
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == "600 agent"
    assert (MANIFESTS / "workspace/README.md").read_text().splitlines()[0] in lines
    assert "greeter@example.org" in lines
    assert "Hello from inside the bottle" in lines


def test_changes_nothing_the_second_time_and_says_so(hello: tuple[Bench, str]) -> None:
    bench, _ = hello
    before = bench.resources(HELLO)
    started = {role: bench.inspect(before[role])["State"]["StartedAt"] for role in ("guard", "interceptor", "agent")}
    ended = bench.ok("apply", bench.place / "manifests/hello.yaml", "--backend", "docker")
    assert f"{HELLO}: unchanged: nothing to do\n" in ended.err
    assert bench.resources(HELLO) == before
    assert {role: bench.inspect(before[role])["State"]["StartedAt"] for role in started} == started


def test_plans_no_change_for_a_bottle_that_is_as_wanted(hello: tuple[Bench, str]) -> None:
    bench, _ = hello
    ended = bench.run("plan", bench.place / "manifests/hello.yaml", "--backend", "docker", "--detailed-exitcode")
    assert ended.code == 0, ended.err + ended.out


@pytest.mark.parametrize("code", [0, 3, 77])
def test_passes_the_exit_code_of_a_command_on(hello: tuple[Bench, str], code: int) -> None:
    ended = hello[0].inside(HELLO, f"echo out; echo err >&2; exit {code}")
    assert (ended.code, ended.out, ended.err) == (code, "out\n", "err\n")


def test_feeds_standard_input_to_a_command(hello: tuple[Bench, str]) -> None:
    ended = hello[0].ok("exec", "-i", HELLO, "--", "tr", "a-z", "A-Z", stdin="shout")
    assert ended.out == "SHOUT"


def test_gives_the_agent_a_real_terminal(hello: tuple[Bench, str]) -> None:
    ended = hello[0].on_terminal("attach", HELLO, answers={"$ ": "tty && stty size && whoami; exit 9"})
    assert ended.code == 9
    assert "/dev/pts/" in ended.out
    assert re.search(r"^agent\r$", ended.out, re.MULTILINE)


def test_copies_both_ways(hello: tuple[Bench, str], tmp_path: Path) -> None:
    bench, _ = hello
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep/run.sh").write_text("#!/bin/sh\necho ran\n")
    (tree / "deep/run.sh").chmod(0o755)
    (tree / "bytes").write_bytes(bytes(range(256)))
    bench.ok("cp", tree, f"{HELLO}:/home/agent/tree")
    assert bench.inside(HELLO, "~/tree/deep/run.sh; stat -c %U ~/tree/bytes").out == "ran\nagent\n"
    bench.ok("cp", f"{HELLO}:/home/agent/tree", tmp_path / "back")
    assert (tmp_path / "back/bytes").read_bytes() == bytes(range(256))
    assert (tmp_path / "back/deep/run.sh").stat().st_mode & 0o111


def test_shows_what_the_containers_wrote(hello: tuple[Bench, str]) -> None:
    bench, _ = hello
    refused = bench.inside(HELLO, "curl -s -o /dev/null -w '%{http_connect}' https://not-allowed.example/secret/path")
    assert refused.out == "403"
    lines = [json.loads(line) for line in bench.ok("logs", HELLO, "--egress").out.splitlines()]
    assert [line["action"] for line in lines if line["host"] == "not-allowed.example"] == ["deny"]
    everything = bench.ok("logs", HELLO).out
    assert re.search(r"^guard +\| .*startup", everything, re.MULTILINE)
    assert re.search(r"^interceptor +\| .*decision", everything, re.MULTILINE)


def test_keeps_an_unbroken_chain(hello: tuple[Bench, str], tmp_path: Path) -> None:
    bench, _ = hello
    bench.ok("audit", "verify")
    exported = tmp_path / "events.jsonl"
    exported.write_text(bench.ok("audit", "export").out)
    bench.ok("audit", "verify", exported)
    exported.write_text(exported.read_text().replace("provisioned", "provisionee", 1))
    assert bench.run("audit", "verify", exported).code == 2


def test_reports_a_launch_as_json_and_destroys_it_without_residue(bench: Bench) -> None:
    lines = bench.ok("apply", bench.write(simple()), "--json").objects
    assert lines[0]["schema"] == "bottle-fsm/1"
    assert [line["dest"] for line in lines if line["type"] == "event" and line["kind"] == "done"] == list(UP)
    assert (lines[-1]["type"], lines[-1]["exit_code"]) == ("outcome", 0)
    assert lines[-1]["bottles"][0]["outcome"] == "ready"

    bench.ok("exec", "trial/guest", "--", "sh", "-c", "echo precious > /workspace/work.txt")
    refused = bench.run("destroy", "trial/guest")
    assert refused.code == 4
    assert "1 changed files" in refused.err
    assert len(bench.left()) >= 6, "nothing was removed without a yes"

    asked = bench.on_terminal("destroy", "trial/guest", answers={"]": "no"})
    assert asked.code == 4
    assert bench.inside("trial/guest", "cat /workspace/work.txt").out == "precious\n"

    saved = bench.place / "saved"
    done = bench.ok("destroy", "trial/guest", "--save", saved)
    assert "trial/guest: is torn down: nothing of it is left\n" in done.err
    assert (saved / "work.txt").read_text() == "precious\n"
    assert bench.left() == []
    assert bench.status("trial/guest")["outcome"] == "torn_down"
    bench.ok("audit", "verify")


def test_does_not_say_torn_down_while_something_is_left(hello: tuple[Bench, str]) -> None:
    bench, _ = hello  # the last test of it
    network = bench.resources(HELLO)["net-outside"]
    with bench.engine.guarded("put a foreign container on the bottle's network") as api:
        image = bench.inspect(bench.resources(HELLO)["agent"])["Image"]
        foreign = api.create_container(image, ["sleep", "60"], host_config=api.create_host_config(network_mode=network))
        try:
            api.start(foreign["Id"])
            ended = bench.run("destroy", HELLO, "--yes")
            assert ended.code == 6
            assert "torn down" not in ended.err
            assert bench.status(HELLO)["state"] != "torn_down"
            assert api.inspect_container(foreign["Id"])["State"]["Running"], "it is not ours, so it is not touched"
        finally:
            api.remove_container(foreign["Id"], force=True)
    bench.ok("destroy", HELLO, "--yes")
    assert bench.left() == []
    assert bench.status(HELLO)["state"] == "torn_down"
