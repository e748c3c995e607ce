"""The gate's script, run by this machine's shell: which tools ask at once, and which one after the other."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest

from bottle_fsm.provision.gate_script import TOOL_MARK, gate_script

TOOLS = ("curl", "wget", "git", "python3", "node", "npm", "openssl", "deno", "bun", "go", "cargo", "java")
STUB = """#!/bin/sh
case "$*" in *version*|*find_spec*) exit 0 ;; esac
echo "begin $$" >> {record}
sleep 0.05
echo "end $$" >> {record}
"""


def asked(folder: Path, limit: str) -> list[str]:
    """Run the script with stubs for every tool; return what they wrote down, in order."""
    (folder / "bin").mkdir()
    for name in TOOLS:
        stub = folder / "bin" / name
        stub.write_text(STUB.format(record=folder / "record"))
        stub.chmod(0o755)
    env = {"PATH": f"{folder}/bin:/usr/bin:/bin", "BOTTLE_PROXY": "http://127.0.0.1:1", "HOME": str(folder)}
    done = subprocess.run(
        ["/bin/sh", "-c", f"{limit}\n{gate_script()}"], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.count(TOOL_MARK) >= len(TOOLS), done.stderr
    return (folder / "record").read_text().splitlines()


def overlapping(lines: list[str]) -> bool:
    return any(a.startswith("begin") and b.startswith("begin") for a, b in itertools.pairwise(lines))


def test_asks_with_all_tools_at_once(tmp_path: Path) -> None:
    assert overlapping(asked(tmp_path, ""))


@pytest.mark.parametrize("processes", [16, 127])
def test_asks_with_one_tool_after_the_other_where_few_processes_are_allowed(tmp_path: Path, processes: int) -> None:
    # said, not enforced: as root the limit holds nobody back, and what is asked for here is the script's own choice
    said = f"ulimit() {{ echo {processes}; }}"
    assert not overlapping(asked(tmp_path, said))
