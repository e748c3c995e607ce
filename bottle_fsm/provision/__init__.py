"""What is put inside a bottle, one module a thing; the order is `backend.base.PROVISION_ORDER`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bottle_fsm.provision.git import GitProvisioner
from bottle_fsm.provision.prompt import PromptProvisioner
from bottle_fsm.provision.provisioner import Provisioner
from bottle_fsm.provision.skills import SkillsProvisioner
from bottle_fsm.provision.ssh import SshProvisioner

PROVISIONERS: Final[Mapping[str, Provisioner]] = MappingProxyType(
    {
        "prompt": PromptProvisioner(),
        "skills": SkillsProvisioner(),
        "ssh": SshProvisioner(),
        "git": GitProvisioner(),
    }
)
"""Everything after `ca`, by the name that the order and the plan's items have. `ca` is not here: it needs the
interceptor's certificate, which only a backend can fetch (`ca.trust`)."""
