"""The shape of the manifest models: which model stands at a key path, and which keys it has.

Not its duty: values. `wording` asks it for known keys, `reference` writes it down.
"""

from __future__ import annotations

import types
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel

from bottle_fsm.manifest.model import Manifest
from bottle_fsm.yamlfile import KeyPath


def model_at(path: KeyPath) -> type[BaseModel] | None:
    """Return the model that describes the mapping at a key path; None where there is none."""
    kind: Any = Manifest
    for step in path:
        kind = _below(bare(kind), step)
    found = bare(kind)
    return found if is_model(found) else None


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return a model's keys as a file writes them."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _below(kind: Any, step: str | int) -> Any:
    if is_model(kind):
        return next((f.annotation for name, f in kind.model_fields.items() if step in {name, f.alias}), None)
    inner = get_args(kind)
    if get_origin(kind) is dict:
        return inner[1]
    return inner[0] if get_origin(kind) is tuple else None


def bare(kind: Any) -> Any:
    """Return a type without `Annotated` and `| None`."""
    if get_origin(kind) is Annotated:
        return bare(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        return bare(next(part for part in get_args(kind) if part is not types.NoneType))
    return kind


def is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    """Tell whether a type is one of the models."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)
