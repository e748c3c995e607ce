"""The shipped machine definition, read to be drawn or described. Whoever runs it loads it with `runner.registry`."""

from __future__ import annotations

from typing import Final

from bottle_fsm import resources, yamlfile
from bottle_fsm.machine.definition import Definition, parse

_FUNCTIONS: Final = ("effect", "observe", "compensate")


def drawable() -> Definition:
    """Return the definition. Its functions are not looked up: a picture calls none, and needs no backend imported.

    Raises:
        DefinitionError: it is wrong in any other way.
    """
    path = resources.data_path("states") / "bottle.yaml"
    value = yamlfile.load(path).value
    names = {t[key] for t in value.get("transitions", ()) for key in _FUNCTIONS if key in t}
    return parse(value, place=path.name, names=names)
