"""What every backend brings to tmpfs: the interceptor's secrets, and the agent's secret variables.

Values are fetched when they are needed, each time anew, and go from here into a stream and nowhere else.
Not its duty: carrying bytes into a sidecar or an agent.
"""

from __future__ import annotations

import shlex
from typing import Final

from bottle_fsm.egress import files
from bottle_fsm.egress.injection import Injection
from bottle_fsm.egress.known import KnownSecret
from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.model import Json
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.secret import Secret
from bottle_fsm.steps import Steps

CANARY: Final = "BOTTLE_CANARY"
"""The agent's variable that holds a secret of no use, made for this launch: seen on its way out, something leaks."""


def for_interceptor(plan: BottlePlan, steps: Steps) -> bytes:
    """Return the interceptor's delivery: tokens, every secret that the bottle knows, and the values to inject.

    Raises:
        DecisionNeededError: a value is not to be had now, or cannot be injected; names it.
    """
    secrets = [(name, steps.secret(name), to) for name, to in sorted(plan.secrets.items())]
    secrets.append((CANARY, canary(steps), ()))
    injections = []
    for planned in plan.injections:
        held = {name: steps.from_host(f"${{{name}}}") for name in planned["held"]}
        injections.append(_injection(planned, steps.from_host(planned["template"]), held))
        host = planned["rule"].partition("://")[2].rpartition(":")[0]
        secrets += [(f"injected.{name}", secret, (host,)) for name, secret in held.items()]
    return files.interceptor_secrets(
        steps.token("scan"), steps.token("proxy"), secrets=_by_value(secrets), injections=injections
    )


def for_agent(plan: BottlePlan, steps: Steps) -> tuple[bytes, list[str]]:
    """Return the agent's secret variables as shell lines, and their names.

    Raises:
        DecisionNeededError: a value is not to be had now; names it.
    """
    values = {name: steps.secret(name) for name in sorted(plan.secrets)} | {CANARY: canary(steps)}
    lines = "".join(f"export {name}={shlex.quote(value.reveal())}\n" for name, value in values.items())
    return lines.encode(), sorted(values)


def canary(steps: Steps) -> Secret:
    """Return this launch's canary."""
    return Secret(f"canary-{steps.token('canary').reveal()}")


def _by_value(secrets: list[tuple[str, Secret, tuple[str, ...]]]) -> list[KnownSecret]:
    """Return each value once: known by two names, it may go where any of them may, under the first name."""
    found: dict[bytes, KnownSecret] = {}
    for name, secret, to in secrets:
        value = secret.reveal().encode("utf-8", "surrogateescape")
        before = found.get(value)
        places = tuple(sorted({*to, *(before.to if before else ())}))
        found[value] = KnownSecret(before.name if before else name, value, places)
    return list(found.values())


def _injection(planned: Json, value: Secret, held: dict[str, Secret]) -> Injection:
    hidden = tuple((secret.reveal(), str(planned["held"][name])) for name, secret in held.items())
    try:
        return Injection(
            rule=planned["rule"], kind=planned["kind"], name=planned["name"], value=value.reveal(), hidden=hidden
        )
    except ValueError as error:  # its text holds no value
        raise DecisionNeededError(
            f"what is to be injected at {planned['rule']} cannot be: {error}",
            place=f"env/{', '.join(held)}",
            hint="Give the host variable another value and run the same command again",
        ) from None
