"""A real ssh command and real git clones from inside a bottle, to a real sshd and a real git server."""

from __future__ import annotations

import pytest

from cli_shell import Ended
from e2e_bench import Bench, simple
from engine_world import EngineWorld

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"
CLONE = "rm -rf /workspace/got && git clone -q {url} /workspace/got && cat /workspace/got/README.md"


def _wrong(world: EngineWorld) -> dict[str, object]:
    identity, host_key = str(world.keys.where / "bound"), world.keys.public("stranger")
    return world.ssh("wrong", identity_file=identity, known_host_key=host_key)


@pytest.fixture(scope="module", name="bottle")
def _bottle(shared: Bench, world: EngineWorld) -> Bench:
    """A bottle with two ssh hosts: `code`, and `wrong`, whose pinned key is not the server's."""
    ssh = [world.ssh("code"), _wrong(world)]
    egress = world.egress("web", "code", "wrong", "other", allow=[world.name("web")])
    shared.ok("apply", shared.write(simple(egress=egress, ssh=ssh)))
    return shared


def accepted(world: EngineWorld) -> int:
    """Return how many logins the sshd accepted."""
    return world.log().count("Accepted publickey for git")


def test_runs_a_command_by_ssh(bottle: Bench, world: EngineWorld) -> None:
    before = accepted(world)
    ended = bottle.inside(GUEST, f"ssh -o BatchMode=yes {world.name('code')} 'whoami; echo $SSH_CONNECTION'")
    assert ended.code == 0, ended.err
    who, connection = ended.out.splitlines()
    assert who == "git"
    assert connection.endswith(f"{world.address} 22")
    assert accepted(world) == before + 1


def test_clones_by_https(bottle: Bench, world: EngineWorld) -> None:
    url = f"https://{world.name('web')}/git/project.git"
    ended = bottle.inside(GUEST, CLONE.format(url=url))
    assert (ended.code, ended.out) == (0, "from outside\n"), ended.err
    assert len(world.requests("/git/project.git/info/refs?service=git-upload-pack")) == 1


def test_clones_and_pushes_by_ssh(bottle: Bench, world: EngineWorld) -> None:
    before = accepted(world)
    ended = bottle.inside(GUEST, CLONE.format(url=f"ssh://git@{world.name('code')}/srv/git/project.git"))
    assert (ended.code, ended.out) == (0, "from outside\n"), ended.err
    pushed = bottle.inside(
        GUEST,
        "cd /workspace/got && git checkout -q -b from-inside && "
        "git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m inside && "
        "git push -q origin from-inside && git rev-parse HEAD",
    )
    assert pushed.code == 0, pushed.err
    with world.engine.guarded("look into the outside repository") as api:
        made = api.exec_create(world.machine, ["git", "-C", "/srv/git/project.git", "rev-parse", "from-inside"])
        assert api.exec_start(made["Id"]).decode() == pushed.out
    assert accepted(world) == before + 2


def test_refuses_a_server_with_another_host_key(bottle: Bench, world: EngineWorld) -> None:
    before = accepted(world)
    ended = bottle.inside(GUEST, f"ssh -o BatchMode=yes {world.name('wrong')} true")
    assert ended.code == 255
    assert "Host key verification failed" in ended.err
    assert accepted(world) == before


def test_binds_a_key_to_the_pinned_server_even_if_the_agent_trusts_another(bottle: Bench, world: EngineWorld) -> None:
    careless = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
    before = accepted(world)
    for key, code in (("bound", 255), ("user", 0)):  # the second is bound to this very server, by another name
        offer = f"ssh-add -L | grep ' {key}$' > /tmp/{key}.pub"
        script = f"{offer} && ssh {careless} -i /tmp/{key}.pub {world.name('wrong')} true"
        ended = bottle.inside(GUEST, script)
        assert ended.code == code, ended.err
    assert accepted(world) == before + 1


@pytest.mark.parametrize("case", ["another port", "a host without an entry", "an allowed web host"])
def test_refuses_ssh_to(bottle: Bench, world: EngineWorld, case: str) -> None:
    host, port = {
        "another port": ("code", 2222),
        "a host without an entry": ("other", 22),
        "an allowed web host": ("web", 22),
    }[case]
    before = world.ssh_connections(port)
    proxy = 'nc -X connect -x "$BOTTLE_RELAY" %h %p'
    for more in ("", f"-o ProxyCommand='{proxy}'", "-o ProxyCommand=none"):
        words = f"-o BatchMode=yes -o ConnectTimeout=5 {more} -p {port} git@{world.name(host)} true"
        ended = bottle.inside(GUEST, f"timeout 20 ssh -o StrictHostKeyChecking=no {words}")
        assert ended.code != 0
    assert world.ssh_connections(port) == before
    greeting = f"exec 3<>/dev/tcp/{world.address}/{port}; head -c 4 <&3"
    assert world.visit("bash", "-c", greeting) == (0, "SSH-"), "the control: the sshd does listen there"
    assert world.ssh_connections(port) == before + 1


def test_carries_nothing_but_ssh_on_the_ssh_rule(bottle: Bench, world: EngineWorld) -> None:
    script = (
        f"printf 'GET / HTTP/1.1\\r\\n\\r\\n' | timeout 15 nc -X connect -x \"$BOTTLE_RELAY\" {world.name('code')} 22"
    )
    before = world.ssh_connections(22)
    ended = bottle.inside(GUEST, script)
    assert "Invalid SSH identification" not in ended.out
    assert world.ssh_connections(22) <= before + 1
    assert "GET / HTTP" not in world.log(), "not a byte of it arrived"


def test_keeps_the_private_key_out_of_the_bottle(bottle: Bench, world: EngineWorld) -> None:
    body = (world.keys.where / "user").read_text().splitlines()[2]
    ended = bottle.inside(
        GUEST,
        f"ssh-add -l; for text in '{body}' 'BEGIN OPENSSH PRIVATE KEY'; do"
        ' grep -rlF "$text" ~ /run /tmp /workspace /etc /var /dev/shm 2>/dev/null | wc -l; done',
    )
    *held, with_body, with_header = ended.out.splitlines()
    assert sorted(line.split()[2] for line in held) == ["bound", "user"], "the keys can be used"
    assert (with_body, with_header) == ("0", "0"), "and cannot be read"


def locked(world: EngineWorld) -> dict[str, object]:
    ssh = [world.ssh("code", identity_file=str(world.keys.where / "locked"))]
    return simple(egress=world.egress("code", allow=[]), ssh=ssh)


def test_asks_for_the_passphrase_on_a_terminal(bench: Bench, world: EngineWorld) -> None:
    manifest = bench.write(locked(world))
    without = bench.run("apply", manifest)
    assert without.code == 4
    assert str(world.keys.where / "locked") in without.err
    assert "terminal" in without.err

    shown = bench.on_terminal("apply", manifest, answers={"Passphrase for": world.keys.passphrase})
    assert shown.code == 0, shown.out
    assert world.keys.passphrase not in shown.out
    ended = _whoami(bench, world)
    assert (ended.code, ended.out) == (0, "git\n"), ended.err


def test_says_that_a_passphrase_is_wrong_and_gives_nothing_over(bench: Bench, world: EngineWorld) -> None:
    shown = bench.on_terminal("apply", bench.write(locked(world)), answers={"Passphrase for": "not the passphrase"})
    assert shown.code == 5
    assert "Is the passphrase right?" in shown.out
    assert "not the passphrase" not in shown.out
    assert bench.left() == []


def _whoami(bench: Bench, world: EngineWorld) -> Ended:
    return bench.inside(GUEST, f"ssh -o BatchMode=yes {world.name('code')} whoami")
