"""Checks a spec against this host: what it names must be here. Reads, changes nothing, raises nothing.

Not its duty: backends and engines; each backend adds its own preconditions.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bottle_fsm.errors import Problem
from bottle_fsm.manifest import template
from bottle_fsm.manifest.env import Place, resolve_env
from bottle_fsm.manifest.hostpaths import host_path, skill_source
from bottle_fsm.manifest.model import Agent, Reach
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host
from bottle_fsm.places import MIN_INJECTED_BYTES
from bottle_fsm.smallfile import UnreadableError, read_small_file
from bottle_fsm.yamlfile import Key, key_text

__all__ = ["MAX_PROMPT_BYTES", "host_path", "skill_source", "validate_host"]

MAX_PROMPT_BYTES: Final = 128 * 1024 - 1
"""The longest text that Linux passes as one argument; some agent programs are given their prompt so."""
MAX_KEY_BYTES: Final = 64 * 1024
MAX_CA_BYTES: Final = 1024 * 1024

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN ((OPENSSH|RSA|EC|DSA|ENCRYPTED) )?PRIVATE KEY-----\r?\n")
_PUBLIC_KEY: Final = re.compile(rb"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ AAAA")
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def validate_host(spec: BottleSpec, host: Host, *, place: Place | None = None) -> list[Problem]:
    """Return everything that this host lacks for a bottle; an empty list when it can be launched from here.

    Args:
        spec: the bottle.
        host: this host: home and environment.
        place: names the place of a key path, with its line where the manifest was just read.
    """
    where = place or partial(_place, spec.manifest_path)
    agent = spec.agent_model
    if agent is None:
        hint = f"Name an agent that stands under `agents` in {spec.manifest_path}"
        return [Problem(where("agents"), f"there is no agent `{spec.agent}`", hint)]
    reach = spec.reach
    if reach is None:
        problem = f"there is no bottle `{agent.bottle}`"
        return [Problem(where("agents", spec.agent, "bottle"), problem, "Add it under `bottles`")]
    check = _Check(spec, host.home, where)
    in_reach = partial(where, "bottles", agent.bottle)
    return [
        *check.skills(agent),
        *check.prompt(agent),
        *check.workspace(agent, host.state_dir),
        *check.identities(reach, in_reach),
        *check.upstream_ca(reach, in_reach),
        *resolve_env(reach, host.environ, place=in_reach).problems,
        *_injected(reach, host, in_reach),
    ]


class _Check:
    """The checks of one spec."""

    def __init__(self, spec: BottleSpec, home: Path, where: Place) -> None:
        self._spec = spec
        self._home = home
        self._in_agent = partial(where, "agents", spec.agent)

    def skills(self, agent: Agent) -> Iterator[Problem]:
        """Each skill is a directory, and no two have the same name inside."""
        seen: dict[str, str] = {}
        for index, name in enumerate(agent.skills):
            place = self._in_agent("skills", index)
            source = skill_source(name, self._spec, self._home)
            if not os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises where a directory above cannot be entered
                yield Problem(place, f"the skill `{name}` is no directory at {source}", _skill_hint(source))
            elif not source.name:
                yield Problem(place, f"the skill `{name}` has no name", "Name a directory below the root")
            elif not os.access(source, os.R_OK | os.X_OK):
                yield Problem(place, f"the skill `{name}` at {source} cannot be read", "Give yourself the right to")
            if source.name in seen:
                problem = f"the skills `{seen[source.name]}` and `{name}` would both be named `{source.name}`"
                yield Problem(place, problem, "Rename one directory")
            seen.setdefault(source.name, name)

    def prompt(self, agent: Agent) -> Iterator[Problem]:
        """The prompt is not longer than an agent program can be given."""
        size = len(agent.prompt.encode())
        if size > MAX_PROMPT_BYTES:
            problem = f"the prompt has {size} bytes, more than {MAX_PROMPT_BYTES}"
            yield Problem(self._in_agent("prompt"), problem, "Move parts of it into a skill or the workspace")

    def workspace(self, agent: Agent, state_dir: Path) -> Iterator[Problem]:
        """The workspace's source is a directory, and binding it would not hand the journal to the agent."""
        if agent.workspace.mode == "none":
            return
        place = self._in_agent("workspace", "source")
        source = host_path(agent.workspace.source, self._spec, self._home)
        if not os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises where a directory above cannot be entered
            yield Problem(place, f"the workspace {source} is no directory", "Create it, or correct `source`")
        elif agent.workspace.mode == "bind" and state_dir.resolve().is_relative_to(source.resolve()):
            problem = f"binding {source} would give the agent the launch journal in {state_dir}"
            yield Problem(place, problem, "Name a directory that does not hold the state directory")

    def identities(self, reach: Reach, where: Place) -> Iterator[Problem]:
        """Each ssh identity file can be read and begins as a private key does."""
        for index, entry in enumerate(reach.ssh):
            place = where("ssh", index, "identity_file")
            path = host_path(entry.identity_file, self._spec, self._home)
            data, problem = _read(path, MAX_KEY_BYTES)
            if problem:
                yield Problem(place, f"the identity file {path} {problem}", "Correct the path or its permissions")
            elif _PUBLIC_KEY.match(data):
                yield Problem(place, f"{path} is a public key", "Name the private key, without `.pub`")
            elif not _PRIVATE_KEY.match(data.lstrip()):
                yield Problem(place, f"{path} is no private key", "Name a key that ssh-keygen made")

    def upstream_ca(self, reach: Reach, where: Place) -> Iterator[Problem]:
        """Each further root file holds certificates, and nothing private."""
        for index, text in enumerate(reach.egress.upstream_ca):
            place = where("egress", "upstream_ca", index)
            path = host_path(text, self._spec, self._home)
            data, problem = _read(path, MAX_CA_BYTES)
            if problem:
                yield Problem(place, f"the CA file {path} {problem}", "Correct the path or its permissions")
            elif b"PRIVATE KEY-----" in data:
                yield Problem(place, f"{path} holds a private key", "Name a file with certificates alone")
            elif not _are_certificates(data):
                yield Problem(place, f"{path} holds no valid PEM certificates", "Name a file in PEM format")


def _injected(reach: Reach, host: Host, where: Place) -> Iterator[Problem]:
    """Each value that a rule injects is to be had now, and makes an injection."""
    for index, rule in enumerate(reach.egress.allow):
        for one in rule.inject or ():
            place = where("egress", "allow", index, "inject")
            values = {v.name: host.environ.get(v.name, "") for v in template.variables(one.template)}
            missing = [name for name, value in values.items() if not value]
            yield from (Problem(place, f"the host variable `{name}` is not set or empty", "Set it") for name in missing)
            hint = "Give the variable another value"
            if any(_CONTROL.search(value) for value in values.values()):
                yield Problem(place, "the value to inject holds a line end or another control character", hint)
            elif not missing and max(len(value.encode()) for value in values.values()) < MIN_INJECTED_BYTES:
                problem = f"the value to inject is shorter than {MIN_INJECTED_BYTES} bytes"
                yield Problem(place, f"{problem}: it could not be kept out of answers", hint)


def _place(manifest_path: str, *keys: Key) -> str:
    return f"{manifest_path} {key_text(keys)}"


def _skill_hint(source: Path) -> str:
    file = os.path.isfile(source)  # noqa: PTH113 - as for directories: Path.is_file raises
    return "Name the directory, not a file in it" if file else "Create it, or correct the name"


def _read(path: Path, limit: int) -> tuple[bytes, str]:
    """Return a file's bytes, or why there are none."""
    try:
        return read_small_file(path, limit), ""
    except UnreadableError as error:
        return b"", error.reason


def _are_certificates(data: bytes) -> bool:
    blocks = _CERTIFICATE.findall(data)
    try:
        for block in blocks:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=block.decode("ascii"))
    except (ssl.SSLError, ValueError):
        return False
    return bool(blocks)
