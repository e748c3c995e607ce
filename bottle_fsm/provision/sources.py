"""Read what planning must know of this host: skill trees and the workspace, as digests, counts and names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottle_fsm.plan.build import HostSources

if TYPE_CHECKING:
    from bottle_fsm.manifest.spec import BottleSpec
    from bottle_fsm.model import Host


def read_sources(spec: BottleSpec, host: Host) -> HostSources:
    """Read the sources that a spec names. Looks only; changes nothing."""
    raise NotImplementedError
