"""Where the things that a manifest names lie on this host. Pure path arithmetic; nothing is opened.

Not its duty: whether they are there; `hostcheck` looks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bottle_fsm.manifest.names import is_skill_path
from bottle_fsm.manifest.spec import BottleSpec

SKILLS_DIR: Final = ".claude/skills"
"""Below the user's home: where a skill that is named by its plain name lies, whatever the provider."""


def host_path(text: str, spec: BottleSpec, home: Path) -> Path:
    """Return the absolute path that a manifest's text means: below `~/`, absolute, or relative to the manifest."""
    if text == "~" or text.startswith("~/"):
        return Path(os.path.normpath(home / text[2:]))
    return Path(os.path.normpath(spec.base_dir / text))


def skill_source(name: str, spec: BottleSpec, home: Path) -> Path:
    """Return the directory of a skill; its last part is the name that the skill has inside the bottle."""
    if is_skill_path(name):
        return host_path(name, spec, home)
    return home / SKILLS_DIR / name
