"""A secret shows itself to nobody who does not ask by name."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.secret import MASK, Secret

PACKAGE = Path(__file__).resolve().parents[2] / "bottle_fsm"


@given(st.text(min_size=12))
def test_is_masked_in_every_text_form(value: str) -> None:
    secret = Secret(value)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s" % secret, f"{secret!r}", str([secret])]  # noqa: UP031 - the old form is under test, too
    assert all(MASK in text for text in shown)
    assert all(value not in text for text in shown if value not in f"Secret({MASK}) []" and value.strip())


def test_gives_its_value_only_to_reveal() -> None:
    assert Secret("hunter2-hunter2").reveal() == "hunter2-hunter2"
    assert len(Secret("four")) == 4


def test_refuses_to_be_dumped() -> None:
    secret = Secret("hunter2-hunter2")
    with pytest.raises(TypeError):
        json.dumps(secret)
    for dump in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            dump(secret)
    with pytest.raises(TypeError, match="unhashable"):
        hash(secret)


def test_compares_by_value_and_with_secrets_only() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


def test_has_no_attribute_dictionary_that_a_dump_could_walk() -> None:
    assert not hasattr(Secret("a"), "__dict__")


REVEALED = {
    "backend/delivery.py": 5,  # into the agent's environment file and the interceptor's delivery, both for tmpfs
    "egress/files.py": 6,  # into the sidecars' files; one of them takes a token out of a digest's bytes
    "provision/sshagent.py": 1,  # a passphrase, over standard input
    "runner/steps.py": 1,  # an answer from the terminal, on its way into a Secret again
    "store/root.py": 1,  # the key that tokens are derived from
}


def test_is_revealed_in_few_named_places() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        count = len(re.findall(r"\.reveal\(\)", path.read_text()))
        if count:
            found[str(path.relative_to(PACKAGE))] = count
    assert found == REVEALED
