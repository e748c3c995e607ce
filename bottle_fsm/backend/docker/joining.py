"""Containers and networks: who has which address where, joining, and seeing that a container is where it belongs.

Not its duty: making either of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.docker import addresses
from bottle_fsm.backend.docker.errors import ObjectGoneError
from bottle_fsm.backend.docker.networks import check_members, leave_network, network_ids
from bottle_fsm.backend.docker.plan import ContainerPlan, subnet_fact
from bottle_fsm.backend.docker.wait import check_running
from bottle_fsm.backend.docker.work import Work
from bottle_fsm.errors import DriftError

PLACES: Final = {
    (naming.ROLE_GUARD, naming.ROLE_NET_BETWEEN): addresses.PARTNER,
    (naming.ROLE_INTERCEPTOR, naming.ROLE_NET_BETWEEN): addresses.INTERCEPTOR,
    (naming.ROLE_INTERCEPTOR, naming.ROLE_NET_INSIDE): addresses.INTERCEPTOR,
    (naming.ROLE_AGENT, naming.ROLE_NET_INSIDE): addresses.PARTNER,
}
"""Who has which number in which network."""


def placeholders(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses that a plan's texts name, as far as their subnets are chosen."""
    homes = {
        "guard": (naming.ROLE_GUARD, naming.ROLE_NET_BETWEEN),
        "interceptor": (naming.ROLE_INTERCEPTOR, naming.ROLE_NET_INSIDE),
    }
    known = {name: (role, net, facts.get(subnet_fact(net))) for name, (role, net) in homes.items()}
    return {name: addresses.address(subnet, PLACES[role, net]) for name, (role, net, subnet) in known.items() if subnet}


def join(work: Work, plan: ContainerPlan, container_id: str) -> None:
    """Connect a new container to its further networks; the first one it got when it was created."""
    for network in plan.networks[1:]:
        with work.steps.act(f"connect {plan.role} to {network}", cause="before its first start", role=plan.role):
            _connect(work, plan, container_id, network)


def rejoin(work: Work, plan: ContainerPlan, container_id: str) -> None:
    """Join a network that was made again since this container last ran: it would look for the old one.

    Only for one that is stopped; a running one that sits elsewhere is drift, and `check_networks` says so.
    """
    wanted = _wanted(work, plan)
    present = _joined(work, plan, container_id)
    if set(present) == set(wanted):
        return
    with work.steps.act(f"rejoin {plan.role}", cause="a network was made again", role=plan.role):
        for object_id in sorted(set(present) - set(wanted)):
            leave_network(work.engine, container_id, object_id, name=present[object_id])
        for object_id, network in wanted.items():
            if object_id not in present:
                _connect(work, plan, container_id, network)


def check_networks(work: Work, plan: ContainerPlan, container_id: str) -> None:
    """See that a container is on exactly the networks made for it; stop it otherwise, before anything is run in it.

    A container that never started binds its network by name, so the check has to come after the start.

    Raises:
        DriftError: see above.
        SidecarExitedError: it ended.
    """
    check_running(work.engine, container_id, name=plan.name)
    try:
        _compare(work, plan, container_id)
    except DriftError:
        _halt(work, plan, container_id)
        raise


def _compare(work: Work, plan: ContainerPlan, container_id: str) -> None:
    joined = _joined(work, plan, container_id)
    observed = work.look()
    if set(joined) != set(network_ids(work, plan.networks, observed).values()):
        names = ", ".join(sorted(joined.values()))
        raise DriftError(f"is on other networks than planned: {names}", place=plan.name)
    check_members(work, plan.networks, observed)


def _joined(work: Work, plan: ContainerPlan, container_id: str) -> dict[str, str]:
    """Return the networks that a container is on: id → name."""
    with work.engine.guarded(f"inspect {plan.name}") as api:
        networks = api.inspect_container(container_id)["NetworkSettings"]["Networks"] or {}
    return {str(network.get("NetworkID")): name for name, network in networks.items()}


def _wanted(work: Work, plan: ContainerPlan) -> dict[str, str]:
    return {object_id: network for network, object_id in network_ids(work, plan.networks).items()}


def _connect(work: Work, plan: ContainerPlan, container_id: str, network: str) -> None:
    number, subnet = PLACES.get((plan.role, network)), work.steps.facts.get(subnet_fact(network))
    address = addresses.address(subnet, number) if number and subnet else None
    object_id = network_ids(work, [network])[network]
    with work.engine.guarded(f"connect {plan.name}") as api:
        api.connect_container_to_network(container_id, object_id, ipv4_address=address)


def _halt(work: Work, plan: ContainerPlan, container_id: str) -> None:
    with work.steps.act(f"stop {plan.role}", cause="its networks are not what was planned", role=plan.role):
        try:
            with work.engine.guarded(f"stop {plan.name}") as api:
                api.stop(container_id, timeout=0)
        except ObjectGoneError:
            return
