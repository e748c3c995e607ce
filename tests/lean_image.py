"""The agent's image with less in it: few public roots and no Node, npm, pip and requests, which a launch has to try.

A launch with it takes two thirds of the time. What the whole image gives has tests of its own.
"""

from __future__ import annotations

import io
from typing import Final

from bottle_fsm.backend.docker.client import Engine

LEAN: Final = "bottle-test-agent:lean"
WHOLE: Final = "bottle-agent:latest"
_MADE_FROM: Final = "bottle-test.made-from"
_DOCKERFILE: Final = """\
FROM {whole}
USER root
RUN sed -i '12,$d' /etc/ca-certificates.conf && update-ca-certificates --fresh >/dev/null && rm -rf \
  /usr/local/bin/node /usr/local/bin/npm /usr/local/bin/npx /usr/local/lib/node_modules \
  /usr/lib/python3/dist-packages/pip* /usr/lib/python3/dist-packages/requests*
USER agent
LABEL {label}={whole}
"""


def ensure_lean(engine: Engine, whole: str) -> None:
    """Build it unless the engine has the one made from this agent's image; one worker at a time."""
    with engine.guarded("build the lean image", timeout=300.0) as api:
        if any((found.get("Labels") or {}).get(_MADE_FROM) == whole for found in api.images(LEAN)):
            return
        recipe = _DOCKERFILE.format(whole=whole, label=_MADE_FROM).encode()
        lines = list(api.build(fileobj=io.BytesIO(recipe), tag=LEAN, network_mode="none", rm=True, decode=True))
        assert api.images(LEAN), lines[-5:]
