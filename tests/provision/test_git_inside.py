from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.errors import DecisionNeededError, ProvisionError
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.provision import git as git_module
from bottle_fsm.provision.git import MARK, GitProvisioner, read_mark
from bottle_fsm.provision.workspace import Survey, pack
from provision_bench import Bench, RecordedStep, RecordedSteps

pytestmark = pytest.mark.engine

USER = {"name": "Ada Lovelace", "email": "ada@example.com"}


def git(where: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Host", "-c", "user.email=host@example.com", "-c", "init.defaultBranch=trunk"]
    done = subprocess.run(["git", *identity, "-C", str(where), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q")
    (root / ".gitignore").write_text("ignored/\n*.log\n")
    (root / "tracked.txt").write_text("one\n")
    (root / "gone.txt").write_text("gone\n")
    (root / "run.sh").write_text("#!/bin/sh\necho it runs\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("tracked.txt")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    git(root, "branch", "other")
    git(root, "remote", "add", "origin", "https://ada:token-of-ada@git.example.com/project.git")
    git(root, "config", "http.extraHeader", "Authorization: secret-of-the-host")
    (root / ".git" / "hooks" / "post-checkout").write_text("#!/bin/sh\ntouch /tmp/hook-ran\n")
    (root / "tracked.txt").write_text("two\n")
    (root / "gone.txt").unlink()
    (root / "new ünicode\nname.txt").write_text("untracked\n")
    (root / "ignored").mkdir()
    (root / "ignored" / "big").write_text("not this")
    (root / "build.log").write_text("nor this")
    return root


@pytest.fixture
def fresh(bench: Bench, network: str, images: dict[str, ImageRef]) -> DockerBottle:
    return bench.agent(images["agent"].id, network)


def item(source: Path | None, *, mode: str = "copy", user: dict[str, str] | None = None) -> ProvisionItem:
    inputs: dict[str, Any] = {"mode": mode, "target": "/workspace", "user": user or {}}
    return ProvisionItem("git", asked=True, inputs=inputs | ({"source": str(source)} if source else {}))


def apply(bottle: DockerBottle, what: ProvisionItem) -> dict[str, Any]:
    step = RecordedStep()
    GitProvisioner().apply(bottle, what, RecordedSteps(), step)
    GitProvisioner().verify(bottle, what)
    return step.findings


def inside(bottle: DockerBottle, script: str) -> str:
    result = bottle.exec(["sh", "-c", f"cd /workspace && {script}"])
    assert result.code == 0, result
    return result.text


def test_brings_tracked_and_unignored_files_as_they_are_on_disk(fresh: DockerBottle, repository: Path) -> None:
    evidence = apply(fresh, item(repository))["workspace"]
    names = inside(fresh, "find . -path ./.git -prune -o ! -type d -print0 | sort -z").split("\0")
    assert sorted(filter(None, names)) == sorted(
        ["./.gitignore", "./link", "./new ünicode\nname.txt", "./run.sh", "./tracked.txt"]
    )
    assert inside(fresh, "cat tracked.txt; ./run.sh; readlink link") == "two\nit runs\ntracked.txt"
    assert inside(fresh, "stat -c %U run.sh .git/HEAD") == "agent\nagent"
    assert (evidence["kind"], evidence["files"], evidence["changed"]) == ("repository", 5, True)


def test_brings_a_repository_in_which_git_works(fresh: DockerBottle, repository: Path) -> None:
    apply(fresh, item(repository, user=USER))
    assert inside(fresh, "git log --format=%s") == "first"
    assert inside(fresh, "git branch --format='%(HEAD) %(refname:short)'") == "  other\n* trunk"
    assert set(inside(fresh, "git status --porcelain -z").split("\0")) == {
        " M tracked.txt",
        " D gone.txt",
        "?? new ünicode\nname.txt",
        "",
    }
    inside(fresh, "git add -A && git commit -q -m second")
    assert inside(fresh, "git log -1 --format='%s by %an <%ae>'") == "second by Ada Lovelace <ada@example.com>"
    assert inside(fresh, "git fsck --strict 2>&1") == ""


def test_leaves_hooks_and_credentials_on_the_host(fresh: DockerBottle, repository: Path) -> None:
    apply(fresh, item(repository))
    assert inside(fresh, "git remote get-url origin") == "https://git.example.com/project.git"
    for needle in ("token-of-ada", "secret-of-the-host", str(repository)):
        assert fresh.exec(["grep", "-rlF", needle, "/workspace"]).text == ""
    assert fresh.exec(["test", "-e", "/workspace/.git/hooks/post-checkout"]).code == 1


def test_leaves_unreachable_objects_on_the_host(fresh: DockerBottle, repository: Path) -> None:
    (repository / "secret").write_text("dropped secret")
    blob = git(repository, "hash-object", "-w", "secret")
    (repository / "secret").unlink()
    apply(fresh, item(repository))
    assert fresh.exec(["git", "-C", "/workspace", "cat-file", "-e", blob]).code != 0


def test_brings_a_usable_repository_for_a_worktree(fresh: DockerBottle, repository: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(repository, "worktree", "add", "-q", "-b", "feature", str(tree))
    (tree / "tracked.txt").write_text("in the worktree\n")
    evidence = apply(fresh, item(tree))
    assert evidence["workspace"]["kind"] == "worktree"
    assert inside(fresh, "git rev-parse --abbrev-ref HEAD; git status --porcelain") == "feature\n M tracked.txt"
    assert fresh.exec(["test", "-d", "/workspace/.git"]).code == 0


def test_brings_a_repository_without_commits(fresh: DockerBottle, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("a")
    apply(fresh, item(tmp_path, user=USER))
    assert inside(fresh, "git add a && git commit -q -m first && git log --format=%s") == "first"


def test_brings_a_shallow_clone_with_a_detached_head(fresh: DockerBottle, repository: Path, tmp_path: Path) -> None:
    git(repository, "commit", "-q", "-a", "-m", "second")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", str(shallow))
    git(shallow, "checkout", "-q", "--detach")
    git(shallow, "commit", "-q", "--allow-empty", "-m", "on no branch")
    apply(fresh, item(shallow))
    assert inside(fresh, "git log --format=%s; git status --porcelain") == "on no branch\nsecond"
    assert inside(fresh, "git symbolic-ref -q HEAD || echo detached") == "detached"


def test_brings_a_plain_directory_whole(fresh: DockerBottle, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("content")
    (tmp_path / "hard").hardlink_to(tmp_path / "sub" / "file")
    evidence = apply(fresh, item(tmp_path))
    assert inside(fresh, "cat sub/file hard; ls -A") == "contentcontenthard\nsub"
    assert evidence["workspace"]["kind"] == "plain"


def test_never_copies_again_after_the_first_completion(fresh: DockerBottle, repository: Path) -> None:
    first = apply(fresh, item(repository))["workspace"]
    inside(fresh, "echo work > tracked.txt && rm run.sh")
    (repository / "tracked.txt").write_text("three\n")
    again = apply(fresh, item(repository))["workspace"]
    assert inside(fresh, "cat tracked.txt; ls run.sh 2>&1 || true").startswith("work\n")
    assert (again["changed"], again["sha256"]) == (False, first["sha256"])


def test_keeps_the_mark_where_the_agent_cannot_reach_it(fresh: DockerBottle, repository: Path) -> None:
    apply(fresh, item(repository))
    assert fresh.exec(["sh", "-c", f"rm -f {MARK} || rm -rf $(dirname {MARK})"]).code != 0
    assert read_mark(fresh)["state"] == "complete"


def test_finishes_a_copy_that_was_interrupted(
    fresh: DockerBottle, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "_UNPACK", 'tar -xf "$2" -C "$1" tracked.txt; exit 1')
    with pytest.raises(ProvisionError, match="workspace: exit code 1"):
        apply(fresh, item(repository))
    assert read_mark(fresh)["state"] == "begun"
    with pytest.raises(ProvisionError, match="not completed"):
        GitProvisioner().verify(fresh, item(repository))
    monkeypatch.undo()
    apply(fresh, item(repository))
    assert inside(fresh, "./run.sh; git status --porcelain | wc -l") == "it runs\n3"
    assert fresh.exec(["test", "-e", "/home/agent/.bottle/workspace.tar"]).code == 1


def test_refuses_to_mix_two_states_of_the_source(
    fresh: DockerBottle, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "_UNPACK", "exit 1")
    with pytest.raises(ProvisionError):
        apply(fresh, item(repository))
    monkeypatch.undo()
    (repository / "tracked.txt").write_text("three\n")
    with pytest.raises(DecisionNeededError, match="changed since its copy was interrupted") as caught:
        apply(fresh, item(repository))
    assert caught.value.exit_code == 4


def test_says_when_the_source_is_gone(fresh: DockerBottle, tmp_path: Path) -> None:
    with pytest.raises(DecisionNeededError, match="no longer there"):
        apply(fresh, item(tmp_path / "absent"))


def test_sets_the_identity_once(fresh: DockerBottle) -> None:
    assert apply(fresh, item(None, mode="none", user=USER))["git"] == {
        "identity": USER,
        "changed": "safe.directory,user.name,user.email",
    }
    assert apply(fresh, item(None, mode="none", user=USER))["git"]["changed"] == ""
    assert fresh.exec(["git", "config", "--global", "--get-all", "safe.directory"]).text == "/workspace"
    other = {**USER, "email": "ada@example.org"}
    with pytest.raises(ProvisionError, match=r"user\.email is not as planned"):
        GitProvisioner().verify(fresh, item(None, mode="none", user=other))
    assert apply(fresh, item(None, mode="none", user=other))["git"]["changed"] == "user.email"


def test_only_looks_at_a_bound_workspace(fresh: DockerBottle, repository: Path) -> None:
    assert "workspace" not in apply(fresh, item(repository, mode="bind"))
    assert read_mark(fresh) == {}
    fresh.exec(["chmod", "500", "/workspace"])
    with pytest.raises(ProvisionError, match="cannot write in /workspace"):
        GitProvisioner().verify(fresh, item(repository, mode="bind"))
    elsewhere = ProvisionItem("git", asked=True, inputs={**item(None, mode="bind").inputs, "target": "/absent"})
    with pytest.raises(ProvisionError, match="/absent is not there"):
        GitProvisioner().verify(fresh, elsewhere)


def test_works_in_an_image_without_git_unless_an_identity_is_asked_for(fresh: DockerBottle, repository: Path) -> None:
    fresh.exec(["rm", "/usr/bin/git"], user="root")
    apply(fresh, item(repository))
    assert inside(fresh, "cat tracked.txt") == "two"
    with pytest.raises(ProvisionError, match="no git to give an identity to"):
        apply(fresh, item(repository, user=USER))


def test_takes_a_broken_mark_for_none(fresh: DockerBottle) -> None:
    fresh.copy_in(b"[]", MARK, owner="root")
    assert read_mark(fresh) == {}


def test_says_which_file_changed_while_it_was_read(fresh: DockerBottle, tmp_path: Path) -> None:
    gone = Survey(tmp_path, "plain", ("absent",), 1)
    with (tmp_path / "tar").open("wb") as target, pytest.raises(ProvisionError, match="changed while it was read"):
        pack(gone, target)
