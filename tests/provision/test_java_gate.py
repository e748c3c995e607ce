"""What Java is asked with: the class that is shipped is the source that is shown."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from bottle_fsm.provision.java_gate import JAVA_GATE, SOURCE
from tiny_servers import TinyServer

CLASS = base64.b64decode(JAVA_GATE, validate=True)


def run(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    command = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", str(folder), "Gate", url]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_is_a_class_that_java_8_can_run() -> None:
    assert (CLASS[:4], int.from_bytes(CLASS[6:8], "big")) == (b"\xca\xfe\xba\xbe", 52)
    assert b"Gate" in CLASS


@pytest.mark.skipif(shutil.which("javac") is None, reason="no Java compiler on this machine")
def test_is_compiled_from_the_source_and_prints_what_it_is_answered(tmp_path: Path) -> None:
    (tmp_path / "Gate.java").write_text(SOURCE)
    compile_ = ["javac", "-g:none", "-Xlint:-options", "--release", "8", "Gate.java"]
    subprocess.run(compile_, cwd=tmp_path, check=True, timeout=120)
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "Gate.class").write_bytes(CLASS)
    with TinyServer().running() as server:
        url = f"http://{server.address}"
        server.pages["/"] = ("application/json", b'{"gate": "ok"}\nin two lines')
        done = [run(folder, f"{url}/") for folder in (tmp_path, shipped)]
    assert [(d.returncode, d.stdout) for d in done] == [(0, '{"gate": "ok"}\nin two lines\n')] * 2
    assert run(shipped, url).returncode == 1
