"""A state root and its journal, fresh for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import StateRoot, open_root


@pytest.fixture
def root(tmp_path: Path) -> StateRoot:
    return open_root(tmp_path / "state")


@pytest.fixture
def journal(root: StateRoot) -> Iterator[Journal]:
    opened = Journal(root.path, root.root_id)
    yield opened
    opened.close()
