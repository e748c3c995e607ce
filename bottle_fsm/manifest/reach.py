"""A reach: what an agent in a bottle may see and touch. Frozen models, no I/O.

Not its duty: who runs in it (`model`), what the keys look like in a file (`load`), and enforcing anything (`egress`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bottle_fsm.manifest import hosts, limits, names, template
from bottle_fsm.manifest.inject import Injections
from bottle_fsm.manifest.refusal import Refusal
from bottle_fsm.manifest.strict import Strict, Text

Guard = Literal["auto", "pipelock", "builtin"]
Scan = Literal["block", "warn", "off"]
Credentials = Literal["injected", "none", "agent"]

Flag = Annotated[bool, Field(strict=True)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535), BeforeValidator(limits.check_port)]
Method = Annotated[limits.Method, BeforeValidator(limits.check_method)]
Glob = Annotated[Text, AfterValidator(limits.check_glob)]
Host = Annotated[Text, AfterValidator(hosts.check_host)]
HostPattern = Annotated[Text, AfterValidator(hosts.check_host_pattern)]
Address = Annotated[Text, AfterValidator(hosts.check_address)]
StaticNames = Annotated[dict[Host, Address], BeforeValidator(hosts.check_static_names)]
HostPath = Annotated[Text, AfterValidator(names.check_path)]


class EnvValue(Strict):
    """One variable of the bottle's environment.

    A plain text is short for `{from: text}`. A text that begins with `?` is asked for on the terminal and always
    secret.
    """

    from_: Annotated[
        Text,
        Field(
            alias="from",
            description="a text; `${NAME}` and `${NAME:-default}` are filled in from the host's environment, `$$` is a "
            "dollar sign; with `?` in front: the question to ask on the terminal",
        ),
    ]
    secret: Annotated[
        Flag, Field(description="the value is secret: it is kept out of plan, journal, logs and the engine's records")
    ] = False
    to: Annotated[
        tuple[HostPattern, ...],
        Field(description="hosts that the secret may be sent to; in a request to any other it is refused"),
    ] = ()

    @property
    def question(self) -> str | None:
        """The question to ask on the terminal; None when the value is not asked for."""
        return self.from_[1:].strip() if self.from_.startswith("?") else None

    @model_validator(mode="before")
    @classmethod
    def _question_is_secret(cls, value: Any) -> Any:
        text = value.get("from", value.get("from_")) if isinstance(value, dict) else None
        if not isinstance(text, str) or not text.startswith("?"):
            return value
        if value.get("secret") is False:
            raise Refusal("what is asked on the terminal is always secret", "Remove `secret: false`")
        return {**value, "secret": True}

    @model_validator(mode="after")
    def _check(self) -> EnvValue:
        if self.question is not None:
            if not self.question:
                raise Refusal("a value that begins with `?` asks on the terminal, but no question follows", "Add it")
            return self
        used = template.variables(self.from_)
        if self.to and not self.secret:
            raise Refusal("`to` says where a secret may go, but this value is not secret", "Add `secret: true`")
        if self.secret and not used:
            raise Refusal("a secret stands in the manifest itself", 'Take it from the host: `from: "${NAME}"`')
        if self.secret and any(variable.default is not None for variable in used):
            raise Refusal("a secret has a default in the manifest", "Write `${NAME}` without a default")
        return self


def _env_value(value: Any) -> Any:
    if isinstance(value, str):
        return {"from": value}
    if not isinstance(value, dict | EnvValue):
        raise Refusal("the value must be a text, or a mapping with `from`, `secret` and `to`", 'Put it in quotes: "…"')
    return value


class Rule(Strict):
    """One host, or all hosts below a suffix, that the agent may reach. A plain text is short for `{host: text}`."""

    host: Annotated[HostPattern, Field(description="a host name, or `*.suffix` for every name below the suffix")]
    port: Annotated[Port, Field(description="the port; plain HTTP only with 80")] = 443
    methods: Annotated[
        tuple[Method, ...] | None,
        Field(min_length=1, description="HTTP methods that are allowed; without it, all"),
        BeforeValidator(limits.check_methods),
    ] = None
    paths: Annotated[
        tuple[Glob, ...] | None,
        Field(
            min_length=1,
            description="paths that are allowed, without query, `*` for any text, slashes included; without it, all",
        ),
        BeforeValidator(limits.check_paths),
    ] = None
    scan: Annotated[
        Scan | None,
        Field(
            description="what happens when the guard finds a secret in the body of a request; `off` does not ask it; "
            "without it `block`, and `off` for the host of the provider's model"
        ),
    ] = None
    bypass_tls: Annotated[Flag, Field(description="leave TLS closed: nothing inside can be checked")] = False
    inject: Annotated[
        Injections | None, Field(min_length=1, description="a credential to put into each request, or a list of them")
    ] = None
    credentials: Annotated[
        Credentials | None,
        Field(
            description="whose credentials may be sent: none but those that are injected, none but secrets whose `to` "
            "names the host, or any that the agent has; without it `injected` where something is injected and for the "
            "provider's hosts, else `none`"
        ),
    ] = None
    websocket: Annotated[Flag, Field(description="allow the upgrade to a WebSocket")] = False


def _rule(value: Any) -> Any:
    if isinstance(value, str):
        return hosts.split_rule(value)
    if not isinstance(value, dict | Rule):
        raise Refusal("a rule must be a host, or a mapping with `host`", "Write `- example.org`")
    return value


class Egress(Strict):
    """What leaves the bottle. Nothing, unless a rule or the agent's provider allows it."""

    guard: Annotated[Guard, Field(description="the firewall engine; `auto` takes pipelock where it can be had")] = (
        "auto"
    )
    allow: Annotated[
        tuple[Annotated[Rule, BeforeValidator(_rule, json_schema_input_type=Text | Rule)], ...],
        Field(description="what the agent may reach"),
    ] = ()
    hosts: Annotated[
        StaticNames,
        Field(description="static names: host to address; the only way to a private address, for that address alone"),
    ] = {}  # noqa: RUF012 - pydantic copies a default, and the model is frozen
    upstream_ca: Annotated[
        tuple[HostPath, ...],
        Field(description="PEM files with further roots that the interceptor trusts; relative to the manifest"),
    ] = ()
    network: Annotated[
        Annotated[Text, AfterValidator(names.check_network)] | None,
        Field(description="an existing network that the guard joins as its outside"),
    ] = None

    @model_validator(mode="after")
    def _check(self) -> Egress:
        seen: dict[tuple[str, int], int] = {}
        for index, rule in enumerate(self.allow):
            first = seen.setdefault((rule.host, rule.port), index)
            if first != index:
                problem = f"`{rule.host}:{rule.port}` is allowed twice, here and at `allow/{first}`"
                raise Refusal(problem, "Keep one rule for each host and port", at=("allow", index))
        return self


class SshHost(Strict):
    """One host that the agent may reach by ssh, with a key that it can use but not read."""

    host: Annotated[Host, Field(description="the host name")]
    user: Annotated[Annotated[Text, AfterValidator(names.check_user)], Field(description="the remote user")]
    port: Annotated[Port, Field(description="the port")] = 22
    identity_file: Annotated[
        HostPath, Field(description="the private key on this host; `~/` is your home, else relative to the manifest")
    ]
    known_host_key: Annotated[
        Annotated[Text, AfterValidator(hosts.check_host_key)],
        Field(description="the host's public key, pinned: `type base64`"),
    ]


class Resources(Strict):
    """Limits of the agent's container."""

    memory: Annotated[
        Annotated[Text, AfterValidator(limits.check_memory)], Field(description="memory, with the unit k, m, g or t")
    ] = "4g"
    cpus: Annotated[float, Field(strict=True, ge=0.1, le=1024, description="processors")] = 2.0
    pids: Annotated[int, Field(strict=True, ge=16, le=4194304, description="processes and threads")] = 512

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number of bytes."""
        return limits.memory_bytes(self.memory)


class Reach(Strict):
    """What an agent in this bottle may see and touch."""

    image: Annotated[Annotated[Text, AfterValidator(names.check_image)], Field(description="the agent's image")] = (
        "bottle-agent:latest"
    )
    env: Annotated[
        dict[
            Annotated[Text, AfterValidator(names.check_variable)],
            Annotated[EnvValue, BeforeValidator(_env_value, json_schema_input_type=Text | EnvValue)],
        ],
        Field(description="environment variables"),
    ] = {}  # noqa: RUF012 - pydantic copies a default, and the model is frozen
    egress: Annotated[Egress, Field(description="what leaves the bottle")] = Egress()
    ssh: Annotated[tuple[SshHost, ...], Field(description="hosts that may be reached by ssh")] = ()
    resources: Annotated[Resources, Field(description="limits of the agent's container")] = Resources()

    @model_validator(mode="after")
    def _check(self) -> Reach:
        seen: set[tuple[str, int]] = set()
        for index, entry in enumerate(self.ssh):
            if (entry.host, entry.port) in seen:
                problem = f"`{entry.host}:{entry.port}` stands twice under `ssh`"
                raise Refusal(problem, "Keep one entry for each host and port", at=("ssh", index))
            seen.add((entry.host, entry.port))
        for index, rule in enumerate(self.egress.allow):
            if (rule.host, rule.port) in seen:
                problem = f"`{rule.host}:{rule.port}` stands under `ssh`, too, and this rule would speak TLS there"
                raise Refusal(problem, "Keep the one that is meant", at=("egress", "allow", index))
        return self
