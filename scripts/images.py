#!/usr/bin/env python3
"""Build the images of bottles on the engine that the environment names: what `make images` calls."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bottle_fsm.backend.docker.client import connect
from bottle_fsm.backend.docker.images import IMAGE_NAMES, ensure_image
from bottle_fsm.errors import BottleError

REPO = Path(__file__).resolve().parent.parent


def main() -> int:
    """Build what is missing and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=REPO / ".build" / "images", help="keeps fetched artefacts")
    arguments = parser.parse_args()
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"images: {time.monotonic() - begun:5.1f} s  {text}", flush=True)

    try:
        engine = connect(os.environ)
        for name in IMAGE_NAMES:
            image = ensure_image(engine, name, say=say, data_dir=arguments.data_dir)
            say(f"{image.tag} {'built' if image.built else 'is there, unchanged'} ({image.id[:19]})")
        engine.close()
    except BottleError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
