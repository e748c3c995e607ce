"""The manifest's reference, made from the models: the JSON Schema, and the page `docs/manifest.md`.

To renew the page: `python -c "import bottle_fsm.manifest.reference as r; r.write_page('docs/manifest.md')"`.
Not its duty: checking a manifest; `load` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bottle_fsm.manifest.model import EnvValue, Manifest, Rule
from bottle_fsm.manifest.planned import PLANNED_RULE_KEYS
from bottle_fsm.manifest.shape import bare, is_model
from bottle_fsm.model import Json

_INTRO: Final = """# Manifest reference

Generated from the models (`bottle_fsm/manifest/reference.py`); a test keeps both equal. `bottle-fsm schema` prints the
same as JSON Schema, and `manifests/reference.yaml` shows every key in use.

- A manifest is one YAML document in UTF-8, at most 1 MiB. Unknown and duplicate keys, anchors, aliases and tags are
  refused, and so is a key without a value. `true` and `false` are the only booleans; `no`, `on` and `off` are texts.
- Relative paths start from the manifest's directory; `~/` is your home.
- `${NAME}` takes a variable of the host's environment, `${NAME:-default}` with a default for unset or empty, `$$` is a
  dollar sign. This holds in the values of `env` and `inject` and nowhere else. A value of `env` that is taken from the
  host is not secret unless `secret: true` says so; one that begins with `?` is asked for on the terminal and is always
  secret.
- Names of projects, bottles and agents have 1 to 63 letters, digits, `.`, `_` or `-`.
- Hosts are names without scheme, path and port; `*.suffix` stands for every name below the suffix, not for the suffix
  itself. They are compared in lower case and in their DNS spelling. An address is not a host: give it a name under
  `hosts`.
- One rule holds for a host and port, the nearest: an exact name before a wildcard, a longer wildcard before a shorter.
- Paths begin with a slash and are compared without their query, byte for byte. `*` stands for any text, slashes and no
  text at all included; there is no `**` and no `?`. Where methods or paths are limited, requests that a server could
  take for others are refused; [egress.md](egress.md#rules) lists them.
- Variables that the launcher sets itself (proxies, certificate stores, `HOME`, `SSH_AUTH_SOCK`, `BOTTLE_…`) cannot be
  set.
- A key marked **planned** is known, but this release does not enforce it yet. Using it is refused, so that nobody takes
  for granted what does not hold.
"""
_PLANNED: Final = "**Planned.** "


def schema() -> Json:
    """Return the manifest's JSON Schema."""
    value = Manifest.model_json_schema(by_alias=True)
    # The file's name stands in for a missing `name`; the model itself always has one.
    value["required"] = [key for key in value["required"] if key != "name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **value}


def write_page(path: str | Path) -> None:
    """Write the reference page to a file."""
    Path(path).write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the reference page as Markdown."""
    return "\n".join([_INTRO, *(_section(where, model) for where, model in sections())])


def sections(where: str = "", model: type[BaseModel] = Manifest) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every model of the manifest with the key path where it stands; parents come first."""
    yield where, model
    for path, child in _children(where, model):
        yield from sections(path, child)


def _children(where: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        path = f"{where}/{field.alias or name}".lstrip("/")
        kind = bare(field.annotation)
        if get_origin(kind) is dict:
            path, kind = f"{path}/NAME", bare(get_args(kind)[1])
        elif get_origin(kind) is tuple:
            path, kind = f"{path}/N", bare(get_args(kind)[0])
        if is_model(kind):
            yield path, kind


def _section(where: str, model: type[BaseModel]) -> str:
    title = f"## `{where}`" if where else "## The file"
    about = " ".join((model.__doc__ or "").split())
    rows = [_row(model, name, field) for name, field in model.model_fields.items()]
    head = ["| key | value | default | meaning |", "|---|---|---|---|"]
    return "\n".join([title, "", about, "", *head, *rows, ""])


def _row(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    planned = _PLANNED if model is Rule and name in PLANNED_RULE_KEYS else ""
    meaning = f"{planned}{field.description}{_bounds(field)}"
    return f"| `{field.alias or name}` | {_kind(field.annotation)} | {_default(model, name, field)} | {meaning} |"


def _bounds(field: FieldInfo) -> str:
    bounds = {name: getattr(item, name) for item in field.metadata for name in ("ge", "le") if hasattr(item, name)}
    return f"; {bounds['ge']} to {bounds['le']}" if len(bounds) == 2 else ""  # noqa: PLR2004 - both ends


def _default(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    if model is Manifest and name == "name":
        return "the file's name"
    if field.is_required():
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, BaseModel):
        said = field.default.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return f"`{json.dumps(said)}`" if said else "as below"
    return f"`{json.dumps(field.default, ensure_ascii=False)}`"


def _kind(annotation: Any) -> str:
    """Return a type in plain words."""
    kind = bare(annotation)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin is dict:
        return f"mapping of names to: {_kind(inner[1])}"
    if origin is tuple:
        return f"list of: {_kind(inner[0])}"
    if is_model(kind):
        return "text or mapping" if kind in {EnvValue, Rule} else "mapping"
    return {str: "text", bool: "`true`, `false`", int: "whole number", float: "number"}[kind]
