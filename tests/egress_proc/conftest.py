"""Fixtures of the egress tests: the sidecars' own environment, a CA, test servers, running sidecars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from egress_proc.egress_secret_world import SecretWorld, make_secret_world, secret_stack
from egress_proc.egress_sidecars import Authority, Stack, World, ensure_venv, make_world


@pytest.fixture(scope="session")
def sidecar_venv() -> Path:
    """Return the environment that the sidecars run in; made once, like the image, with mitmproxy's own pins."""
    return ensure_venv()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def world(authority: Authority) -> Iterator[World]:
    made = make_world(authority)
    yield made
    made.close()


@pytest.fixture(scope="session")
def stack(
    sidecar_venv: Path, authority: Authority, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Running sidecars that tests share; a test that stops one takes `fresh` instead."""
    made = Stack(tmp_path_factory.mktemp("stack"), world.policy, authority)
    try:
        made.start_guard()
        made.start_interceptor()
        yield made
    finally:
        made.stop()


@pytest.fixture
def fresh(sidecar_venv: Path, authority: Authority, world: World, tmp_path: Path) -> Iterator[Stack]:
    """Sidecars of one test alone; the test starts them."""
    made = Stack(tmp_path, world.policy, authority)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def secret_world(authority: Authority) -> Iterator[SecretWorld]:
    made = make_secret_world(authority)
    yield made
    made.close()


@pytest.fixture(scope="session")
def secretive(
    sidecar_venv: Path, authority: Authority, secret_world: SecretWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Running sidecars of a bottle with secrets, a canary and injected values."""
    made = secret_stack(tmp_path_factory.mktemp("secretive"), secret_world, authority)
    try:
        made.start_guard()
        made.start_interceptor()
        yield made
    finally:
        made.stop()


@pytest.fixture
def fresh_secretive(
    sidecar_venv: Path, authority: Authority, secret_world: SecretWorld, tmp_path: Path
) -> Iterator[Stack]:
    """Such sidecars of one test alone; the test starts them."""
    made = secret_stack(tmp_path, secret_world, authority)
    try:
        yield made
    finally:
        made.stop()
