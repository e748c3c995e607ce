"""What is put inside a bottle, one module a thing; the order is `backend.base.PROVISION_ORDER`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bottle_fsm.provision.provisioner import Provisioner

PROVISIONERS: Final[Mapping[str, Provisioner]] = MappingProxyType({})
