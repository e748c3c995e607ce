"""The launcher needs nothing but the engine's socket: it runs in a network namespace that has no network at all."""

from __future__ import annotations

import pytest

from e2e_bench import Bench, simple

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"


def test_launches_enters_and_destroys_without_a_network_of_its_own(bench: Bench) -> None:
    assert bench.docker_host.startswith("unix://"), "another kind of engine needs a network to be reached"
    bench.program = ["unshare", "--net", *bench.program]
    alone = bench.run("--help")
    assert alone.code == 0, alone.err
    manifest = simple()
    manifest["agents"]["guest"] |= {"prompt": "Look around.", "workspace": {"mode": "none"}}
    bench.ok("apply", bench.write(manifest))
    assert bench.inside(GUEST, "echo in; exit 7").code == 7
    (bench.place / "file").write_text("carried\n")
    bench.ok("cp", bench.place / "file", f"{GUEST}:/workspace/file")
    assert bench.inside(GUEST, "cat /workspace/file").out == "carried\n"
    assert "startup" in bench.ok("logs", GUEST, "--role", "guard").out
    assert "unchanged" in bench.ok("apply", bench.place / "trial.yaml").err
    bench.ok("destroy", GUEST, "--yes")
    assert bench.left() == []
