"""The bottle's networks: made with the first free subnet, adopted, and checked to be what was promised.

Not its duty: joining containers to them (`containers`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.docker import addresses
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.errors import ObjectGoneError, SubnetTakenError
from bottle_fsm.backend.docker.plan import NetworkPlan, subnet_fact
from bottle_fsm.backend.docker.work import Work
from bottle_fsm.errors import BackendError, DriftError, NameTakenError, PoolSpentError
from bottle_fsm.model import Observed, Resource
from bottle_fsm.plan.diff import Operation

_ISOLATED_SINCE: Final = (1, 48)
_STOP_SECONDS: Final = 3
_STOP_CALL: Final = 30.0
_TRIES: Final = 64
"""Subnets that the engine refuses although no network of its own has them (a host route); more is no accident."""

MEMBERS: Final = {
    naming.ROLE_NET_INSIDE: frozenset({naming.ROLE_AGENT, naming.ROLE_INTERCEPTOR}),
    naming.ROLE_NET_BETWEEN: frozenset({naming.ROLE_INTERCEPTOR, naming.ROLE_GUARD}),
}
"""Who may be on the networks without a way out."""


def internal_options(api_version: str) -> dict[str, str]:
    """Return the bridge options that keep the host from answering on the gateway's address."""
    if tuple(int(part) for part in api_version.split(".")) >= _ISOLATED_SINCE:
        return {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}
    return {"com.docker.network.bridge.inhibit_ipv4": "true"}


def ensure_networks(work: Work) -> None:
    """Bring up every network of the plan, in its order."""
    for network in work.plan.networks:
        if network.existing:
            existing_id(work.engine, network.existing)
            continue
        _ensure(work, network)


def existing_id(engine: Engine, name: str) -> str:
    """Return the id of the user's own network.

    Raises:
        BackendError: there is none, or it leads nowhere.
    """
    with engine.guarded(f"look for network {name}") as api:
        found = [item for item in api.networks(names=[name]) if item["Name"] == name]
        found += [] if found else [item for item in api.networks(ids=[name]) if item["Id"].startswith(name)]
    if not found:
        raise BackendError(
            f"there is no network {name}", place="egress/network", hint=f"Make it: docker network create {name}"
        )
    return str(found[0]["Id"])


def network_ids(work: Work, roles: Iterable[str], observed: Observed | None = None) -> dict[str, str]:
    """Return role → id of the networks made for this launch: of two of one name, the recorded one.

    `observed` is a look of a moment ago; without one, this looks itself.

    Raises:
        DriftError: one is gone.
    """
    observed = work.look("network") if observed is None else observed
    return {role: _network_id(work, observed, role) for role in roles}


def _network_id(work: Work, observed: Observed, role: str) -> str:
    network = work.plan.network(role)
    if network.existing:
        return existing_id(work.engine, network.existing)
    recorded = {r.id for r in work.steps.resources() if r.role == role and r.state != "absent"}
    chosen = next((r for r in observed.of_role(role) if r.id in recorded), None)
    if chosen is None:
        raise DriftError("the network that was made for this launch is gone", place=network.name)
    return chosen.id


def check_members(work: Work, roles: Iterable[str], observed: Observed | None = None) -> None:
    """See that internal networks lead nowhere and that nobody else is on them; `observed` as for `network_ids`.

    Raises:
        DriftError: see above.
    """
    observed = work.look() if observed is None else observed
    for role in roles:
        if role in MEMBERS:
            _check_members(work, observed, role)


def _check_members(work: Work, observed: Observed, role: str) -> None:
    name = work.plan.network(role).name
    object_id = _network_id(work, observed, role)
    found = next(r for r in observed.of_role(role) if r.id == object_id)
    if not found.detail["internal"]:
        raise DriftError("is not the internal network that was made", place=name)
    allowed = {r.id for member in MEMBERS[role] for r in observed.of_role(member)}
    strangers = sorted(set(found.detail["members"]) - allowed)
    if strangers:
        with work.engine.guarded(f"inspect network {name}") as api:
            members = api.inspect_network(found.id).get("Containers") or {}
        names = ", ".join(str((members.get(stranger) or {}).get("Name", stranger)) for stranger in strangers)
        raise DriftError(
            f"has members that do not belong there: {names}",
            place=name,
            hint=f"Disconnect them: docker network disconnect {name} NAME",
        )


def _ensure(work: Work, network: NetworkPlan) -> None:
    for attempt in itertools.count():
        operation = work.operation(network.role)
        if operation.action == "adopt":
            _adopt(work, operation)
            return
        if operation.found is not None:
            _empty(work, operation.found)
            work.remove(operation.found, cause=operation.cause)
        try:
            _create(work, network, operation.cause)
        except NameTakenError:
            # Somebody made one of this name since we looked: a request of a dead launcher, or a stranger.
            if attempt:
                raise
            work.steps.sleep(work.settle)
            continue
        # Engines let two requests at once make two networks of one name; one of them is kept.
        work.operation(network.role)
        return


def _empty(work: Work, network: Resource) -> None:
    """Stop our containers on a network that has to go, and take them off it; they join its successor when started."""
    ours = {r.id: r for r in work.look("container").ours}
    for member in sorted(set(network.detail["members"]) & set(ours)):
        found = ours[member]
        cause = f"{network.name} has to be made again"
        with work.steps.act(f"stop {found.role}", cause=cause, role=found.role):
            with work.engine.guarded(f"stop {found.name}", timeout=_STOP_CALL) as api:
                api.stop(member, timeout=_STOP_SECONDS)
            leave_network(work.engine, member, network.id, name=network.name)


def leave_network(engine: Engine, container_id: str, network: str, *, name: str) -> None:
    """Take a container off a network by force.

    A stopped container remembers its networks by name: when the network of that id is gone, only the name lets it go.
    """
    try:
        with engine.guarded("leave a network") as api:
            api.disconnect_container_from_network(container_id, network, force=True)
    except BackendError:
        with contextlib.suppress(ObjectGoneError), engine.guarded(f"leave network {name}") as api:
            api.disconnect_container_from_network(container_id, name, force=True)


def _adopt(work: Work, operation: Operation) -> None:
    work.adopt(operation)
    found = operation.found
    if found is not None and work.steps.facts.get(subnet_fact(found.role)) != found.detail["subnet"]:
        with work.steps.act(f"note subnet {found.role}", cause="found with its network", role=found.role) as step:
            step.fact(subnet_fact(found.role), found.detail["subnet"])


def _create(work: Work, network: NetworkPlan, cause: str) -> None:
    with work.steps.act(f"create {network.role}", cause=cause, role=network.role) as step:
        for subnet in itertools.islice(_subnets(work, network), _TRIES):
            try:
                object_id = _request(work, network, subnet)
            except SubnetTakenError:
                continue
            step.made(work.resource(network.planned(), object_id))
            step.fact(subnet_fact(network.role), subnet)
            return
        pool = ", ".join(network.pool)
        raise PoolSpentError(
            f"no subnet of /{network.prefix} is free in the pool {pool}",
            place=network.name,
            hint="Destroy bottles that are not needed, remove unused networks (docker network prune), "
            "or give a larger `networks: {pool: […]}` in the manifest",
        )


def _subnets(work: Work, network: NetworkPlan) -> itertools.chain[str]:
    """Return the subnets to try: the recorded one first, so that a repaired network keeps its containers' addresses."""
    with work.engine.guarded("list networks") as api:
        listed = api.networks()
    taken = [pool.get("Subnet", "") for item in listed for pool in (item.get("IPAM") or {}).get("Config") or []]
    recorded = work.steps.facts.get(subnet_fact(network.role))
    first = [recorded] if recorded else []
    return itertools.chain(addresses.free(first, taken), addresses.free(network.candidates(), taken))


def _request(work: Work, network: NetworkPlan, subnet: str) -> str:
    from docker.types import IPAMConfig, IPAMPool  # noqa: PLC0415 - start-up budget

    pool = IPAMPool(subnet=subnet, gateway=addresses.address(subnet, addresses.GATEWAY))
    with work.engine.guarded(f"create network {network.name}") as api:
        made = api.create_network(
            network.name,
            driver="bridge",
            options=dict(network.options),
            ipam=IPAMConfig(driver="default", pool_configs=[pool]),
            check_duplicate=True,
            internal=network.internal,
            labels=work.labels(network.planned(), f"create {network.role}"),
            enable_ipv6=False,
        )
    return str(made["Id"])
