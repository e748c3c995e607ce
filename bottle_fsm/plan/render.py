"""The plan as people and programs read it. Pure: a plan and its operations in, text or JSON out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from bottle_fsm.egress.rule import HTTP_PORT, HTTPS_PORT, default_credentials, long_form
from bottle_fsm.model import Json
from bottle_fsm.plan.bottle_plan import BottlePlan, ProvisionItem
from bottle_fsm.plan.diff import Operation
from bottle_fsm.plan.rules import provider_entries
from bottle_fsm.safetext import safe

_FLAGS: Final = {"websocket": "websocket", "bypass_tls": "TLS stays closed"}
_ANY_CREDENTIAL: Final = "credentials agent: any credential the agent has may be sent there: upload to any account"
_SIGNS: Final = {"adopt": "=", "create": "+", "start": "~", "replace": "±", "remove": "-", "refuse": "!"}


def changes(operations: Iterable[Operation]) -> bool:
    """Tell whether any operation does something."""
    return any(operation.action != "adopt" for operation in operations)


def to_json(plan: BottlePlan, operations: Sequence[Operation]) -> Json:
    """Return plan and operations as a JSON object; it holds no secret, for a plan cannot."""
    return {
        "bottle": plan.bottle,
        "digest": plan.digest,
        "operations": [{"action": o.action, "role": o.role, "name": o.name, "cause": o.cause} for o in operations],
        "plan": plan.to_json(),
    }


def render(
    plan: BottlePlan,
    operations: Sequence[Operation],
    *,
    headline: str,
    provider_hosts: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> str:
    """Return the plan as text.

    Args:
        plan: the plan.
        operations: what would be done, see `plan.diff`.
        headline: what would become of the bottle, in a few words.
        provider_hosts: the hosts that the agent's provider needs, in its own order, to tell them from the manifest's.
        warnings: what to know of the manifest beside the plan's own warnings.
    """
    sections = (
        ("operations", _operations(operations)),
        ("backend", [f"{safe(plan.backend)}  {_pairs(plan.endpoint)}".rstrip()]),
        ("guard", [f"{safe(plan.guard)}: {safe(plan.guard_reason)}"]),
        ("isolation", [safe(line) for line in plan.isolation]),
        ("egress", [*_egress(plan.policy, provider_hosts), *_injections(plan.injections)]),
        ("environment", _environment(plan)),
        ("provisioning", [_item(item) for item in plan.provision]),
        ("warnings", [safe(warning) for warning in (*plan.warnings, *warnings)]),
    )
    lines = [f"{safe(plan.bottle)}: {safe(headline)}"]
    for title, content in sections:
        if content:
            lines += [f"  {title}", *(f"    {line}" for line in content)]
    return "\n".join(lines)


def _operations(operations: Sequence[Operation]) -> list[str]:
    return [f"{_SIGNS[o.action]} {o.action:<8}{safe(o.role):<12} {safe(o.name)}  ({safe(o.cause)})" for o in operations]


def _egress(policy: Json, provider_hosts: Sequence[str]) -> list[str]:
    lines = []
    provided = provider_entries(provider_hosts)
    for entry in map(long_form, policy.get("allow", ())):
        host, port = entry["host"], entry["port"]
        kind = "http" if port == HTTP_PORT else "https"
        wishes = "" if entry in provided else "; ".join(_wishes(entry))
        needed = "the provider needs it" if port == HTTPS_PORT and host in provider_hosts else ""
        parts = (f"allow {kind}://{safe(host)}:{port}", wishes, f"({needed})" if needed else "")
        lines.append("  ".join(part for part in parts if part))
    for host, port in policy.get("ssh", ()):
        lines.append(f"allow ssh to {safe(host)}:{port}, reachable with any key")
    lines += [f"{safe(host)} is {safe(address)}" for host, address in policy.get("hosts", {}).items()]
    return [*lines, "everything else is refused"]


def _wishes(entry: Json) -> Iterator[str]:
    """Say what a rule wishes beyond host and port, as far as it is not as it is by default."""
    injected = entry.get("inject", [])
    for name in ("methods", "paths"):
        if entry.get(name):
            yield f"{name} {', '.join(map(safe, entry[name]))}"
    if entry.get("scan", "block") != "block":
        yield f"scan {safe(entry['scan'])}"
    credentials = entry.get("credentials", default_credentials(injected))
    if credentials == "agent":
        yield _ANY_CREDENTIAL
    elif credentials != default_credentials(injected):
        yield f"credentials {safe(credentials)}"
    yield from (words for name, words in _FLAGS.items() if entry.get(name))


def _injections(injections: Iterable[Json]) -> Iterator[str]:
    for one in injections:
        target = (
            f"the parameter {safe(one['name'])}" if one["kind"] == "query" else safe(one["name"] or "Authorization")
        )
        yield f"inject {target} at {safe(one['rule'])} from {safe(one['template'])}"


def _environment(plan: BottlePlan) -> list[str]:
    lines = [f"{safe(name)}={safe(value)}" for name, value in plan.env.items()]
    for name, to in plan.secrets.items():
        where = f"may go to {', '.join(safe(host) for host in to)}" if to else "may go nowhere outside"
        lines.append(f"{safe(name)} (secret, {where})")
    return lines


def _item(item: ProvisionItem) -> str:
    if not item.asked:
        return f"{safe(item.name):<8} skipped: {safe(item.reason)}"
    return f"{safe(item.name):<8} {', '.join(_told(item))}".rstrip()


def _told(item: ProvisionItem) -> Iterator[str]:
    """Say what an item puts where; texts by their size, lists by their names."""
    inputs = item.inputs
    if item.name == "skills":
        yield f"{', '.join(_skill(skill) for skill in inputs.get('skills', ()))} to {safe(inputs.get('directory', ''))}"
    elif item.name == "ssh":
        yield ", ".join(_ssh(host) for host in inputs.get("hosts", ()))
    elif item.name == "prompt":
        yield f"{len(str(inputs.get('text', '')).encode())} bytes to {safe(inputs.get('target', ''))}"
    else:
        yield from (f"{safe(name)} {_value(value)}" for name, value in inputs.items() if value not in ("", {}, []))


def _skill(skill: Json) -> str:
    return f"{safe(skill.get('name', ''))} ({skill.get('files', 0)} files, {skill.get('bytes', 0)} bytes)"


def _ssh(host: Json) -> str:
    return f"{safe(host.get('user', ''))}@{safe(host.get('host', ''))}:{host.get('port', '')}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _pairs(value)
    if isinstance(value, list | tuple):
        return ", ".join(_value(v) for v in value)
    return safe(value)


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{safe(name)}={_value(value)}" for name, value in values.items() if value not in ("", None))
