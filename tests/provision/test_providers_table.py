from __future__ import annotations

from pathlib import Path
from typing import get_args

from bottle_fsm.manifest import model
from bottle_fsm.places import AGENT_HOME
from bottle_fsm.plan.providers import PROVIDERS
from bottle_fsm.provision.environment import ADDITIVE, REPLACING, SWITCHES

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()


def home(path: str) -> str:
    return path.replace(AGENT_HOME, "~")


def row(name: str) -> list[str]:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_documents_every_provider_as_it_is() -> None:
    for provider in PROVIDERS.values():
        assert row(provider.name) == [
            f"`{provider.name}`",
            f"`{home(provider.prompt)}`",
            f"`{home(provider.skills)}/<name>`",
            ", ".join(f"`{host}`" for host in provider.hosts) or "none",
            f"`{' '.join((*provider.command, *provider.flags))}`",
            ", ".join(f"`{name}={value}`" for name, value in provider.env.items()) or "none",
        ]


def test_has_a_row_for_each_provider_that_a_manifest_may_name() -> None:
    assert set(PROVIDERS) == set(get_args(model.Provider))


def test_documents_every_trust_variable() -> None:
    for name in (*ADDITIVE, *REPLACING, *SWITCHES):
        assert f"`{name}" in PAGE
