"""`inject` of a rule: each form, the list, and every refusal with its place and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bottle_fsm.errors import ManifestError
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.model import Inject, Rule
from bottle_fsm.manifest.spec import BottleSpec, specs

PLACE = "m.yaml:1 bottles/dev/egress/allow/0"
BEARER = {"bearer": "${TOKEN}"}
KEY = {"header": "X-Api-Key", "value": "${KEY}"}


def spec_with(tmp_path: Path, **keys: Any) -> BottleSpec:
    rule = {"host": "a.b", **keys}
    file = tmp_path / "m.yaml"
    file.write_text(
        json.dumps(
            {
                "version": 1,
                "bottles": {"dev": {"egress": {"allow": [rule]}}},
                "agents": {"one": {"bottle": "dev"}},
            }
        )
    )
    loaded = load_manifest(file)
    return specs(loaded.manifest, loaded.path)[0]


def injections(tmp_path: Path, inject: Any) -> list[tuple[str, str, str]]:
    spec = spec_with(tmp_path, inject=inject)
    assert BottleSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.reach is not None
    (rule,) = spec.reach.egress.allow
    assert rule.inject is not None
    return [(one.kind, one.name, one.template) for one in rule.inject]


def problems(tmp_path: Path, **keys: Any) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        spec_with(tmp_path, **keys)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("inject", "expected"),
    [
        ({"header": "X-Key", "value": "v1 ${K}"}, ("header", "X-Key", "v1 ${K}")),
        ({"header": "Cookie", "value": "session=${K}; a=$$b"}, ("header", "Cookie", "session=${K}; a=$$b")),
        (BEARER, ("bearer", "", "${TOKEN}")),
        ({"basic": "${USER}:${PASSWORD}"}, ("basic", "", "${USER}:${PASSWORD}")),
        ({"basic": "x-access-token:${T}"}, ("basic", "", "x-access-token:${T}")),
        ({"query": "api_key", "value": "${K}"}, ("query", "api_key", "${K}")),
    ],
)
def test_takes_one_injection_or_a_list(tmp_path: Path, inject: Any, expected: tuple[str, str, str]) -> None:
    assert injections(tmp_path, inject) == [expected]
    assert injections(tmp_path, [inject]) == [expected]
    assert spec_with(tmp_path, inject=inject).digest == spec_with(tmp_path, inject=[inject]).digest


def test_takes_several_that_set_different_things(tmp_path: Path) -> None:
    several = [BEARER, KEY, {"query": "X-Api-Key", "value": "${KEY}"}, {"query": "authorization", "value": "${KEY}"}]
    assert [kind for kind, _, _ in injections(tmp_path, several)] == ["bearer", "header", "query", "query"]


WHERE = 'Write `bearer: "${NAME}"`, or `header` or `query`'


@pytest.mark.parametrize(
    ("inject", "message"),
    [
        ({}, f": nothing says where the credential goes. {WHERE}"),
        ({"value": "${K}"}, f": nothing says where the credential goes. {WHERE}"),
        ("x", ': an injection must be a mapping. Write `{bearer: "${NAME}"}`, or a list of such'),
        ([], ": the list needs at least 1 item. Add one, or remove the key"),
        (
            {"bearer": "${T}", "basic": "${U}:${P}"},
            ": `bearer` and `basic` are two injections. Write a list of them, or keep one",
        ),
        (
            {"header": "X", "query": "k", "value": "${K}"},
            ": `header` and `query` are two injections. Write a list of them, or keep one",
        ),
        ({"header": "X"}, ': `header` has no value to inject. Add `value: "${NAME}"`'),
        ({"query": "k"}, ': `query` has no value to inject. Add `value: "${NAME}"`'),
        (
            {"bearer": "${T}", "value": "${T}"},
            ": `value` does not go with `bearer`, which holds it itself. Remove `value`",
        ),
        ({"header": "X: y", "value": "${K}"}, ": `X: y` is no valid header name. Use a name such as Authorization"),
        ({"header": "", "value": "${K}"}, ": `` is no valid header name. Use a name such as Authorization"),
        (
            {"query": "a=b", "value": "${K}"},
            ": `a=b` is no valid parameter name. Use letters, digits, `.`, `_`, `~` or `-`",
        ),
        (
            {"bearer": "abc"},
            ": the value to inject stands in the manifest itself. Take it from the host: `${NAME}`",
        ),
        (
            {"header": "X", "value": "$${K}"},
            ": the value to inject stands in the manifest itself. Take it from the host: `${NAME}`",
        ),
        (
            {"bearer": "${T:-abc}"},
            ": a value to inject has a default in the manifest. Write `${NAME}` without a default",
        ),
        (
            {"bearer": "${T}$"},
            ": the `$` at character 5 begins no `${NAME}` and no `${NAME:-default}`. Write `$$` for a dollar sign",
        ),
        (
            {"header": "X", "value": "${T}\r\nHost: x"},
            ": the value to inject holds a line end or another control character. Write it on one line",
        ),
        ({"basic": "${USERPASS}"}, ': `basic` wants a user and a password. Write `"${USER}:${PASSWORD}"`'),
        ({"bearer": 7}, '/bearer: a text is wanted here, but `7` was found. Put it in quotes: "7"'),
        ({"baerer": "${T}"}, "/baerer: the key `baerer` is not known. Did you mean `bearer`?"),
        ([{"baerer": "${T}"}], "/0/baerer: the key `baerer` is not known. Did you mean `bearer`?"),
        ([KEY, "x"], "/1: a mapping is wanted here, but `x` was found. Write `key: value` lines below it"),
        ([KEY, {"header": "X"}], '/1: `header` has no value to inject. Add `value: "${NAME}"`'),
    ],
)
def test_refuses_one_wrong_thing_with_one_message(tmp_path: Path, inject: Any, message: str) -> None:
    assert problems(tmp_path, inject=inject) == [f"{PLACE}/inject{message}"]


FRAMING = [
    *("Host", "content-length", "Content_Length", "Transfer-Encoding", "CONNECTION", "Keep-Alive", "TE", "Trailer"),
    *("Expect", "Upgrade", "HTTP2-Settings", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate"),
]


@pytest.mark.parametrize("name", FRAMING)
def test_refuses_a_header_that_frames_the_request(tmp_path: Path, name: str) -> None:
    assert problems(tmp_path, inject={"header": name, "value": "${K}"}) == [
        f"{PLACE}/inject: `{name}` says how a request travels, not who sends it. Name another header"
    ]


AUTHORIZATION = "the header `authorization` is injected twice. Keep one of them; `bearer` and `basic` set Authorization"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (BEARER, BEARER, AUTHORIZATION),
        (BEARER, {"basic": "${U}:${P}"}, AUTHORIZATION),
        ({"header": "AUTHORIZATION", "value": "${K}"}, BEARER, AUTHORIZATION),
        (KEY, {**KEY, "header": "x_api_key"}, "the header `x-api-key` is injected twice. Keep one of them"),
        (
            {"query": "key", "value": "${A}"},
            {"query": "KEY", "value": "${B}"},
            "the parameter `key` is injected twice. Keep one of them",
        ),
        (
            {"query": "authorization", "value": "${A}"},
            {"query": "authorization", "value": "${B}"},
            "the parameter `authorization` is injected twice. Keep one of them",
        ),
    ],
)
def test_refuses_two_that_set_the_same(tmp_path: Path, first: Any, second: Any, message: str) -> None:
    other = {"header": "X-Other", "value": "${O}"}
    assert problems(tmp_path, inject=[first, other, second]) == [f"{PLACE}/inject: {message}"]


def test_refuses_to_inject_where_nothing_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `bypass_tls` is refused as planned, whatever stands beside it; here it is as if it were enforced.
    monkeypatch.setattr("bottle_fsm.manifest.planned.PLANNED_RULE_KEYS", ())
    closed = "nothing can be injected where `bypass_tls` leaves TLS closed. Remove one of the two"
    plain = "a value is never injected into plain HTTP. Use a port that speaks TLS"
    assert problems(tmp_path, inject=BEARER, bypass_tls=True) == [f"{PLACE}/inject: {closed}"]
    assert problems(tmp_path, inject=[BEARER, KEY], bypass_tls=True) == [f"{PLACE}/inject: {closed}"]
    assert problems(tmp_path, inject=BEARER, port=80) == [f"{PLACE}/inject: {plain}"]
    assert problems(tmp_path, inject=BEARER, host="a.b", port="80") == [
        f"{PLACE}/port: a whole number is wanted here, but `80` was found."
    ]
    assert Rule.model_validate({"host": "a.b", "inject": BEARER, "port": 8443}).inject == (Inject(bearer="${TOKEN}"),)


def test_holds_whatever_the_order_of_the_keys_in_the_file() -> None:
    for rule in ({"inject": BEARER, "host": "a.b", "port": 80}, {"inject": BEARER, "bypass_tls": True, "host": "a.b"}):
        with pytest.raises(ValidationError, match="inject"):
            Rule.model_validate(rule)
