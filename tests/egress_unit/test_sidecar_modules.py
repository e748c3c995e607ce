"""What the sidecars import is what their image holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.build import recipe
from bottle_fsm.resources import PACKAGE


def imported(module: Path) -> set[str]:
    """Return the files of this package that a module imports, as `bottle_fsm/…`."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bottle_fsm":
            place = str(node.module).replace(".", "/")
            candidates = [f"{place}.py", f"{place}/__init__.py", *(f"{place}/{name.name}.py" for name in node.names)]
            found |= {name for name in candidates if (PACKAGE.parent / name).is_file()}
    return found


@pytest.mark.parametrize("process", ["guard", "interceptor"])
def test_the_image_holds_every_module_of_ours_that_a_sidecar_imports(process: str) -> None:
    needed, seen = {f"bottle_fsm/egress/{process}.py"}, set[str]()
    while needed - seen:
        name = (needed - seen).pop()
        seen.add(name)
        needed |= imported(PACKAGE.parent / name)
    assert seen <= set(recipe("sidecar").files)
    assert {"bottle_fsm/hostname.py", "bottle_fsm/places.py"} < seen
