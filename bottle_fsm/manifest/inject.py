"""`inject` of a rule: credentials that the interceptor puts into requests. Frozen models, no I/O.

Not its duty: the values, which stay on the host until a launch, and putting them in (`egress`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from bottle_fsm.manifest import template
from bottle_fsm.manifest.refusal import Refusal
from bottle_fsm.manifest.strict import Strict, Text

Kind = Literal["header", "bearer", "basic", "query"]

_KINDS: Final = get_args(Kind)
_NAMED: Final = ("header", "query")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_AUTHORIZATION: Final = "header `authorization`"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HTTP_PORT: Final = 80
_FRAMING: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "expect"),
        *("upgrade", "http2-settings", "proxy-connection", "proxy-authorization", "proxy-authenticate"),
    }
)
"""Headers that say where a request goes and where it ends."""


class Inject(Strict):
    """A credential that the interceptor puts into each request, so that the agent uses a secret without seeing it.

    Exactly one of `header`, `bearer`, `basic` and `query`. What stood in its place is replaced.
    """

    header: Annotated[Text | None, Field(description="set this header to `value`")] = None
    bearer: Annotated[Text | None, Field(description="set Authorization to this token, with `${NAME}` for it")] = None
    basic: Annotated[Text | None, Field(description='set Authorization to `"${USER}:${PASSWORD}"`, encoded')] = None
    query: Annotated[Text | None, Field(description="set this parameter of the query to `value`")] = None
    value: Annotated[
        Text | None, Field(description="of `header` and `query`: the value, with `${NAME}` for the secret")
    ] = None

    @property
    def kind(self) -> Kind:
        """Which of the four it is."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def name(self) -> str:
        """The name of the header or parameter; empty for `bearer` and `basic`."""
        return str(getattr(self, self.kind)) if self.kind in _NAMED else ""

    @property
    def template(self) -> str:
        """The text of the value, with `${NAME}` for each host variable."""
        return str(self.value if self.kind in _NAMED else getattr(self, self.kind))

    @property
    def target(self) -> str:
        """What is set, in words that are the same for whatever a server would take for the same."""
        if self.kind == "query":
            return f"parameter `{self.name.lower()}`"
        return f"header `{self.name.lower().replace('_', '-')}`" if self.name else _AUTHORIZATION

    @model_validator(mode="after")
    def _check(self) -> Inject:
        chosen = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if not chosen:
            raise Refusal("nothing says where the credential goes", 'Write `bearer: "${NAME}"`, or `header` or `query`')
        if len(chosen) > 1:
            raise Refusal(f"`{chosen[0]}` and `{chosen[1]}` are two injections", "Write a list of them, or keep one")
        if chosen[0] in _NAMED and self.value is None:
            raise Refusal(f"`{chosen[0]}` has no value to inject", 'Add `value: "${NAME}"`')
        if chosen[0] not in _NAMED and self.value is not None:
            raise Refusal(f"`value` does not go with `{chosen[0]}`, which holds it itself", "Remove `value`")
        _check_name(self)
        _check_template(self)
        return self


def _check_name(inject: Inject) -> None:
    if inject.kind == "header" and not _HEADER.fullmatch(inject.name):
        raise Refusal(f"`{inject.name}` is no valid header name", "Use a name such as Authorization")
    if inject.kind == "header" and inject.name.lower().replace("_", "-") in _FRAMING:
        raise Refusal(f"`{inject.name}` says how a request travels, not who sends it", "Name another header")
    if inject.kind == "query" and not _PARAMETER.fullmatch(inject.name):
        raise Refusal(f"`{inject.name}` is no valid parameter name", "Use letters, digits, `.`, `_`, `~` or `-`")


def _check_template(inject: Inject) -> None:
    parts = template.parse(inject.template)
    used = template.variables(inject.template)
    literal = "".join(part for part in parts if isinstance(part, str))
    if not used:
        raise Refusal("the value to inject stands in the manifest itself", "Take it from the host: `${NAME}`")
    if any(variable.default is not None for variable in used):
        raise Refusal("a value to inject has a default in the manifest", "Write `${NAME}` without a default")
    if _CONTROL.search(literal):
        raise Refusal("the value to inject holds a line end or another control character", "Write it on one line")
    if inject.kind == "basic" and ":" not in literal:
        raise Refusal("`basic` wants a user and a password", 'Write `"${USER}:${PASSWORD}"`')


def _as_list(value: Any) -> Any:
    if isinstance(value, dict | Inject):
        return [value]
    if not isinstance(value, list | tuple):
        raise Refusal("an injection must be a mapping", 'Write `{bearer: "${NAME}"}`, or a list of such')
    return value


def _check_targets(value: tuple[Inject, ...]) -> tuple[Inject, ...]:
    seen: set[str] = set()
    for inject in value:
        if inject.target in seen:
            also = "; `bearer` and `basic` set Authorization" if inject.target == _AUTHORIZATION else ""
            raise Refusal(f"the {inject.target} is injected twice", f"Keep one of them{also}")
        seen.add(inject.target)
    return value


def _check_rule(value: tuple[Inject, ...], info: ValidationInfo) -> tuple[Inject, ...]:
    """Check what the keys of the rule that stand before `inject` say; a wrong one has its own message already."""
    if info.data.get("bypass_tls"):
        raise Refusal("nothing can be injected where `bypass_tls` leaves TLS closed", "Remove one of the two")
    if info.data.get("port") == _HTTP_PORT:
        raise Refusal("a value is never injected into plain HTTP", "Use a port that speaks TLS")
    return value


Injections = Annotated[
    tuple[Inject, ...],
    BeforeValidator(_as_list, json_schema_input_type=Inject | tuple[Inject, ...]),
    AfterValidator(_check_targets),
    AfterValidator(_check_rule),
]
"""One injection or a list of them; for a key that stands behind `port` and `bypass_tls`."""
