"""The base of all manifest models, and the text type that they share. Not its duty: any key of the manifest."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(strict=True)]


class Strict(BaseModel):
    """Base of all manifest models: frozen, and closed against keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, validate_default=False)
