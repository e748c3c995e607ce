"""Known secrets, the canary and credentials on their way out: what is refused, masked or allowed, by real sidecars."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from bottle_fsm.egress.injection import Injection
from bottle_fsm.egress.known import KnownSecret
from egress_proc.egress_fake_guard import guard_that, http_answer, verdict_on
from egress_proc.egress_secret_world import (
    CANARY,
    DEPLOY_KEY,
    INJECTIONS,
    MARK,
    MARKERS,
    TOKEN,
    SecretWorld,
    answer_on,
    get,
    logs,
    post,
    request,
    secret_stack,
)
from egress_proc.egress_sidecars import FAKE_GITHUB_TOKEN, GATE_HOST, Authority, Stack, wait_for

BOTH = pytest.mark.parametrize("secret", [DEPLOY_KEY, CANARY], ids=lambda secret: secret.name)
REFUSED_CONNECT = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


def percent(value: bytes) -> bytes:
    return "".join(f"%{code:02x}" for code in value).encode()


def in_json(value: bytes) -> bytes:
    return json.dumps({"text": "".join(f"\\u{code:04x}" for code in value)}).replace("\\\\u", "\\u").encode()


def in_base64(before: bytes) -> Callable[[bytes], bytes]:
    return lambda value: base64.b64encode(before + value + b" and more")


def text(value: bytes) -> str:
    return value.decode("latin-1")


class Asked(NamedTuple):
    """What came of a request, what the guard was asked about it, and how many tunnels it was asked for."""

    status: int
    answer: dict[str, Any]
    questions: list[str]
    tunnels: int


@pytest.fixture(scope="module")
def unguarded(
    sidecar_venv: object, authority: Authority, secret_world: SecretWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The interceptor without a guard; tests put their own in its place, to see what it is asked."""
    made = secret_stack(tmp_path_factory.mktemp("unguarded"), secret_world, authority)
    try:
        made.start_interceptor()
        yield made
    finally:
        made.stop()


def asked_about(unguarded: Stack, raw: bytes, host: str) -> Asked:
    """Send a request past a guard that allows everything and opens no tunnel; return what came of it."""
    with guard_that(unguarded, lambda question: http_answer(verdict_on(question)), REFUSED_CONNECT) as guard:
        status, _, body = request(unguarded, raw, host)
    inputs = [question["input"] for question in guard.scans]
    questions = [next(iter(one.values())) for one in inputs if isinstance(one, dict)]
    return Asked(status, json.loads(body), questions, guard.connects)


def places(secret: KnownSecret) -> dict[str, bytes]:
    """Return a request to allowed.test for each place and spelling."""
    value, host = secret.value, "allowed.test"
    coded = "Content-Encoding: gzip\r\n"
    return {
        "header": get(host, headers=f"X-Note: {text(value)}\r\n"),
        "header name of a field": get(host, headers=f"X-{text(value.hex().encode())}: 1\r\n"),
        "cookie": get(host, headers=f"X-Trace: a=b; c={text(value)}\r\n"),
        "path": get(host, f"/a/{quote(value, safe='')}/b"),
        "path in base64": get(host, f"/a/{text(base64.urlsafe_b64encode(value))}"),
        "query": get(host, f"/?text={quote(value, safe='')}"),
        "query as it is": get(host, f"/?text={text(value)}"),
        "body": post(host, b"so: " + value),
        "gzip with its header": post(host, gzip.compress(value), coded),
        "gzip without a header": post(host, gzip.compress(value)),
        "base64, first alignment": post(host, in_base64(b"")(value)),
        "base64, second alignment": post(host, in_base64(b"x")(value)),
        "base64, third alignment": post(host, in_base64(b"xy")(value)),
        "base64 inside gzip": post(host, gzip.compress(in_base64(b"x")(value)), coded),
        "hexadecimal": post(host, value.hex().upper().encode()),
        "percent-encoded": post(host, percent(value)),
        "percent-encoded twice": post(host, percent(percent(value))),
        "JSON": post(host, in_json(value)),
        "in chunks": (
            b"POST / HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"8\r\n" + value[:8] + b"\r\n%x\r\n" % len(value[8:]) + value[8:] + b"\r\n0\r\n\r\n"
        ),
    }


PLACES = tuple(places(CANARY))


def spellings(secret: KnownSecret) -> list[str]:
    value = secret.value
    forms = (value, value.lower(), value.hex().encode(), percent(value), base64.urlsafe_b64encode(value).rstrip(b"="))
    return [text(form) for form in forms] + [quote(value, safe="")]


def assert_nowhere_in_logs(stack: Stack, secret: KnownSecret) -> None:
    written = logs(stack)
    assert [form for form in spellings(secret) if form in written] == []


@BOTH
@pytest.mark.parametrize("place", PLACES)
def test_refuses_a_known_secret_wherever_it_is_and_names_it(
    secretive: Stack, secret_world: SecretWorld, secret: KnownSecret, place: str
) -> None:
    before = secret_world.arrivals, secretive.tunnels
    status, _, body = request(secretive, places(secret)[place])
    assert (status, json.loads(body)["reason"], json.loads(body)["findings"]) == (403, "known_secret", [secret.name])
    assert (secret_world.arrivals, secretive.tunnels) == before
    line = secretive.decisions[-1]
    assert (line["action"], line["reason"], line["by"]) == ("deny", "known_secret", "interceptor")
    assert (line["findings"], line["rule"], line["path"]) == ([secret.name], "https://allowed.test:443", "")
    assert_nowhere_in_logs(secretive, secret)


def test_the_same_requests_without_a_secret_arrive(secretive: Stack, secret_world: SecretWorld) -> None:
    harmless = KnownSecret("NONE", b"nothing-of-that-kind-0", ())
    before = secret_world.arrivals
    for raw in places(harmless).values():
        assert request(secretive, raw)[0] == 200
    assert secret_world.arrivals == before + len(PLACES)


@BOTH
def test_refuses_a_known_secret_in_a_trailer_of_http2(
    secretive: Stack, secret_world: SecretWorld, secret: KnownSecret
) -> None:
    before = secret_world.arrivals, secretive.tunnels
    assert secretive.by_http2("/", trailer="harmless") == "200"
    assert secretive.by_http2("/", trailer=text(secret.value)) == "403"
    assert secretive.by_http2("/", header=text(secret.value)) == "403"
    assert [line["findings"] for line in secretive.decisions[-2:]] == [[secret.name]] * 2
    assert (secret_world.arrivals, secretive.tunnels) == (before[0] + 1, before[1] + 1)
    assert_nowhere_in_logs(secretive, secret)


@pytest.mark.parametrize("labels", ["canary-3f9c2b7d61e04a85", "x.canary-3f9c2b7d.61e04a85", CANARY.value.hex()])
def test_refuses_a_known_secret_in_a_host_label_before_the_guard_could_resolve_it(
    unguarded: Stack, labels: str
) -> None:
    host = f"{labels}.wild.test"
    asked = asked_about(unguarded, get(host), host)
    assert (asked.status, asked.answer["reason"], asked.answer["findings"]) == (403, "known_secret", [CANARY.name])
    assert (asked.questions, asked.tunnels) == ([], 0)
    line = unguarded.decisions[-1]
    assert (line["host"], line["rule"]) == (f"[secret {CANARY.name}]", "https://*.wild.test:443")
    assert_nowhere_in_logs(unguarded, CANARY)


@pytest.mark.parametrize(
    "question",
    [
        f"/verdict?host={text(CANARY.value)}.wild.test&port=443",
        "/verdict?host=canary-3f9c2b7d.61e04a85.wild.test&port=443",
        f"/verdict?%68ost={CANARY.value.hex()[:30]}.{CANARY.value.hex()[30:]}.wild.test&port=443",
        f"/verdict?host=allowed.test&port=443&path=/{text(CANARY.value)}",
    ],
)
def test_the_gate_asks_the_guard_nothing_about_a_name_with_a_known_secret(unguarded: Stack, question: str) -> None:
    asked = asked_about(unguarded, get(GATE_HOST, question), GATE_HOST)
    assert (asked.status, asked.answer["reason"], asked.answer["findings"]) == (403, "known_secret", [CANARY.name])
    assert asked.questions == []
    harmless = asked_about(unguarded, get(GATE_HOST, "/verdict?host=a.wild.test&port=443"), GATE_HOST)
    assert (harmless.status, harmless.questions) == (200, ["https://a.wild.test:443/"])
    assert_nowhere_in_logs(unguarded, CANARY)


@pytest.mark.parametrize("secret", [CANARY], ids=lambda secret: secret.name)
def test_no_line_about_what_is_refused_for_another_reason_repeats_a_known_secret(
    secretive: Stack, secret: KnownSecret
) -> None:
    value = text(secret.value)
    sock, answer = secretive.connect(f"{value}.elsewhere.test:443")
    sock.close()
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (403, "not_listed")
    assert secretive.decisions[-1]["host"] == f"[secret {secret.name}]"
    relayed = secretive.plain(f"CONNECT {value}.elsewhere.test:22 HTTP/1.1\r\n\r\n", 8081)
    assert relayed is not None
    assert relayed.status == 403
    wait_for(lambda: secretive.decisions[-1]["by"] == "relay")
    assert secretive.decisions[-1]["host"] == f"[secret {secret.name}]"
    request(secretive, get("allowed.test", f"/{value}", "Authorization: Basic YTpiYmJiYmJiYmJiYmJi\r\n"))
    line = secretive.decisions[-1]
    assert (line["reason"], line["path"]) == ("credential_refused", f"[secret {secret.name}]")
    request(secretive, get("allowed.test", f"/{value}\x01"))
    line = secretive.decisions[-1]
    assert (line["reason"], line["path"]) == ("target_malformed", f"[secret {secret.name}]")
    assert_nowhere_in_logs(secretive, secret)


@pytest.mark.parametrize("host", ["granted.test", "a.grant.test"])
def test_a_secret_arrives_unchanged_at_the_hosts_that_it_may_go_to(
    secretive: Stack, secret_world: SecretWorld, host: str
) -> None:
    value = DEPLOY_KEY.value
    headers = f"Authorization: Bearer {text(value)}\r\nX-Note: {text(value)}\r\n"
    path = f"/{quote(value, safe='')}?key={quote(value, safe='')}"
    assert request(secretive, post(host, value, headers, path), host)[0] == 200
    seen = secret_world.server.requests[-1]
    assert (seen.line, seen.body) == (f"POST {path} HTTP/1.1", value)
    assert (seen.header("authorization"), seen.header("x-note")) == ([f"Bearer {text(value)}"], [text(value)])
    line = secretive.decisions[-1]
    assert (line["action"], line["reason"], line["findings"]) == ("allow", "", [])
    before = secret_world.arrivals
    status, _, body = request(secretive, post(host, value + b" " + CANARY.value), host)
    assert (status, json.loads(body)["findings"], secret_world.arrivals) == (403, [CANARY.name], before)


# --- what the guard is asked ------------------------------------------------------------------------------------------


def test_a_granted_secret_is_masked_before_the_guard_is_asked(unguarded: Stack) -> None:
    value, mark = DEPLOY_KEY.value, text(MARKERS[DEPLOY_KEY.name])
    path = f"/x/{quote(value, safe='')}?key={quote(value, safe='')}"
    raw = post("granted.test", b"key=" + value + b"!", f"Authorization: Bearer {text(value)}\r\n", path)
    asked = asked_about(unguarded, raw, "granted.test")
    url, head, body = asked.questions
    assert url == "https://granted.test:443/x/secret-DEPLOY_KEY-removed?key=secret-DEPLOY_KEY-removed"
    assert head == f"Host: granted.test\nContent-Length: {len(value) + 5}\nAuthorization: Bearer {mark}"
    assert (body, asked.tunnels) == (f"key={mark}!", 1)


def test_the_guard_is_not_asked_about_what_holds_a_known_secret(unguarded: Stack) -> None:
    value = text(CANARY.value)
    for raw in (
        get("allowed.test", f"/{text(CANARY.value)}"),
        get("allowed.test", headers=f"X: {text(CANARY.value)}\r\n"),
    ):
        assert asked_about(unguarded, raw, "allowed.test").questions == []
    questions = asked_about(unguarded, post("allowed.test", CANARY.value), "allowed.test").questions
    assert len(questions) == 2
    assert not any(value in question for question in questions)


def test_the_guard_is_not_asked_about_credentials_where_the_agents_own_may_pass(unguarded: Stack) -> None:
    headers = f"Authorization: token {FAKE_GITHUB_TOKEN}\r\nX-Note: note\r\nCookie: a={FAKE_GITHUB_TOKEN}\r\n"
    raw = get("agent.test", f"/a?private_token={FAKE_GITHUB_TOKEN}&page=2;key=x#z", headers)
    url, head = asked_about(unguarded, raw, "agent.test").questions
    assert url == "https://agent.test:443/a?private_token=***&page=2;key=***#z"
    assert head == "Host: agent.test\nAuthorization: ***\nX-Note: note\nCookie: ***"


def test_an_injected_value_is_no_part_of_what_the_guard_is_asked(unguarded: Stack) -> None:
    for one in INJECTIONS[:4]:
        host = one.rule.removeprefix("https://").removesuffix(":443")
        asked = asked_about(unguarded, post(host, b"body"), host)
        assert (len(asked.questions), asked.tunnels) == (3, 1)
        assert not any(part in question for question in asked.questions for part in (TOKEN, quote(TOKEN, safe="")))


# --- the model's host -------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_known_secret_on_its_way_to_the_model_is_replaced_and_logged(
    secretive: Stack, secret_world: SecretWorld, secret: KnownSecret, coding: str
) -> None:
    prompt = b'{"content": "env: ' + secret.value.replace(b'"', b'\\"') + b', and more"}'
    masked = b'{"content": "env: ' + MARKERS[secret.name] + b', and more"}'
    headers = f"Content-Encoding: {coding}\r\n" if coding else ""
    raw = post("model.test", gzip.compress(prompt) if coding else prompt, headers, "/v1/messages")
    assert request(secretive, raw, "model.test")[0] == 200
    seen = secret_world.server.requests[-1]
    assert seen.body == masked
    assert (seen.header("content-length"), seen.header("content-encoding")) == ([str(len(masked))], [])
    line = secretive.decisions[-1]
    assert (line["action"], line["reason"], line["findings"]) == ("allow", "secret_masked", [secret.name])
    assert_nowhere_in_logs(secretive, secret)


@BOTH
def test_a_known_secret_in_a_head_to_the_model_is_replaced_too(
    secretive: Stack, secret_world: SecretWorld, secret: KnownSecret
) -> None:
    path = f"/v1/{quote(secret.value, safe='')}?text={quote(secret.value, safe='')}"
    raw = get("model.test", path, f"X-Note: <{text(secret.value)}>\r\n")
    assert request(secretive, raw, "model.test")[0] == 200
    seen = secret_world.server.requests[-1]
    assert seen.line == f"GET /v1/secret-{secret.name}-removed?text=secret-{secret.name}-removed HTTP/1.1"
    assert seen.header("x-note") == [f"<{text(MARKERS[secret.name])}>"]
    line = secretive.decisions[-1]
    assert (line["reason"], line["findings"], line["path"]) == ("secret_masked", [secret.name], "")


@BOTH
def test_a_known_secret_that_cannot_be_replaced_is_refused_at_the_models_host_too(
    secretive: Stack, secret_world: SecretWorld, secret: KnownSecret
) -> None:
    before = secret_world.arrivals
    twice = base64.b64encode(b"x" + base64.b64encode(secret.value))
    hidden = (
        post("model.test", b'{"content": "' + twice + b'"}'),
        post("model.test", gzip.compress(secret.value)),
        get("model.test", f"/{text(base64.urlsafe_b64encode(twice))}"),
        get("model.test", headers=f"X-{secret.value.hex()}: 1\r\n"),
    )
    for raw in hidden:
        status, _, body = request(secretive, raw, "model.test")
        found = json.loads(body)
        assert (status, found["reason"], found["findings"]) == (403, "known_secret", [secret.name])
    assert secret_world.arrivals == before


# --- whose credentials ------------------------------------------------------------------------------------------------

OWN = [
    ("header authorization", "Authorization: Bearer my-own-token-of-my-own-account\r\n", "/"),
    ("header authorization", "authorization: Basic bWU6bXktb3duLXBhc3N3b3Jk\r\n", "/"),
    ("header authorization", "Authorization: \r\n", "/"),
    ("header cookie", "Cookie: session=my-own-session\r\n", "/"),
    ("header x-api-key", "X_Api_Key: my-own-key\r\n", "/"),
    ("query api_key", "", "/?page=2&api_key=my-own-key"),
    ("query *token*", "", "/?x%74oken=my-own-token"),
]


@pytest.mark.parametrize(
    "host", ["allowed.test", "granted.test", "warn.test", "off.test", "injected.test", "bearer.test"]
)
@pytest.mark.parametrize(("place", "headers", "path"), OWN)
def test_refuses_the_agents_own_credentials_and_says_where_they_are(
    unguarded: Stack, host: str, place: str, headers: str, path: str
) -> None:
    asked = asked_about(unguarded, get(host, path, headers), host)
    assert (asked.status, asked.answer["reason"], asked.answer["findings"]) == (403, "credential_refused", [place])
    assert (asked.questions, asked.tunnels) == ([], 0)
    line = unguarded.decisions[-1]
    assert (line["action"], line["reason"], line["findings"]) == ("deny", "credential_refused", [place])
    assert (line["rule"], line["path"]) == (f"https://{host}:443", "/")
    assert "my-own" not in logs(unguarded)


@pytest.mark.parametrize(("place", "headers", "path"), OWN)
def test_lets_the_agents_own_credentials_pass_where_the_rule_says_agent(
    secretive: Stack, secret_world: SecretWorld, place: str, headers: str, path: str
) -> None:
    status, _, _ = request(secretive, get("agent.test", path, headers), "agent.test")
    assert (status, secret_world.server.requests[-1].line) == (200, f"GET {path} HTTP/1.1"), place


def test_lets_a_token_that_the_guard_knows_pass_only_where_the_rule_says_agent(
    secretive: Stack, secret_world: SecretWorld
) -> None:
    header = f"Authorization: token {FAKE_GITHUB_TOKEN}\r\n"
    assert request(secretive, get("agent.test", headers=header), "agent.test")[0] == 200
    assert secret_world.server.requests[-1].header("authorization") == [f"token {FAKE_GITHUB_TOKEN}"]
    status, _, body = request(secretive, get("agent.test", headers=f"X-Note: {FAKE_GITHUB_TOKEN}\r\n"), "agent.test")
    assert (status, json.loads(body)["reason"]) == (403, "guard_refused")
    status, _, body = request(secretive, post("agent.test", FAKE_GITHUB_TOKEN.encode()), "agent.test")
    assert (status, json.loads(body)["reason"]) == (403, "guard_refused_body")


@BOTH
def test_a_known_secret_is_refused_as_a_credential_too_and_named(secretive: Stack, secret: KnownSecret) -> None:
    header = f"Authorization: Bearer {text(secret.value)}\r\n"
    status, _, body = request(secretive, get("agent.test", headers=header), "agent.test")
    assert (status, json.loads(body)["reason"], json.loads(body)["findings"]) == (403, "known_secret", [secret.name])
    for host in ("allowed.test", "model.test", "bearer.test"):
        status, _, body = request(secretive, get(host, headers=header), host)
        assert (status, json.loads(body)["reason"]) == (403, "credential_refused")
        assert json.loads(body)["findings"] == ["header authorization", secret.name]
    assert_nowhere_in_logs(secretive, secret)


def test_a_granted_secret_excuses_no_other_credential_beside_it(secretive: Stack, secret_world: SecretWorld) -> None:
    before = secret_world.arrivals
    value = text(DEPLOY_KEY.value)
    for headers in (
        f"Authorization: Bearer {value} my-own-token-of-my-own-account\r\n",
        f"Authorization: Bearer {value}\r\nCookie: session=my-own-session\r\n",
    ):
        status, _, body = request(secretive, get("granted.test", headers=headers), "granted.test")
        assert (status, json.loads(body)["reason"]) == (403, "credential_refused")
    assert secret_world.arrivals == before


def test_a_placeholder_passes_only_where_its_value_is_injected(secretive: Stack, secret_world: SecretWorld) -> None:
    header = f"Authorization: Bearer {MARK}\r\n"
    assert request(secretive, get("bearer.test", headers=header), "bearer.test")[0] == 200
    before = secret_world.arrivals
    for host in ("allowed.test", "granted.test", "injected.test", "model.test", "basic.test"):
        status, _, body = request(secretive, get(host, headers=header), host)
        assert (status, json.loads(body)["reason"]) == (403, "credential_refused")
    assert secret_world.arrivals == before


def test_refuses_a_credential_in_a_trailer(secretive: Stack, secret_world: SecretWorld) -> None:
    before = secret_world.arrivals
    assert secretive.by_http2("/", trailer="authorization: Bearer my-own-token") == "403"
    line = secretive.decisions[-1]
    assert (line["reason"], line["findings"]) == ("credential_refused", ["header authorization"])
    assert secret_world.arrivals == before


# --- scan: block, warn, off -------------------------------------------------------------------------------------------


def test_warns_of_what_the_guard_finds_in_a_body_where_the_rule_says_so(
    secretive: Stack, secret_world: SecretWorld
) -> None:
    body = f"token {FAKE_GITHUB_TOKEN}".encode()
    assert request(secretive, post("warn.test", body), "warn.test")[0] == 200
    assert secret_world.server.requests[-1].body == body
    line = secretive.decisions[-1]
    assert (line["action"], line["reason"], line["findings"]) == ("allow", "guard_warned", ["github_token"])
    assert (line["by"], line["path"], line["status"]) == ("guard", "", 200)
    assert FAKE_GITHUB_TOKEN not in logs(secretive)


def test_asks_nothing_about_a_body_where_the_rule_says_off_but_about_the_head(
    secretive: Stack, unguarded: Stack, secret_world: SecretWorld
) -> None:
    body = f"token {FAKE_GITHUB_TOKEN}".encode()
    asked = asked_about(unguarded, post("off.test", body, path="/x"), "off.test")
    assert (asked.questions[0], len(asked.questions), asked.tunnels) == ("https://off.test:443/x", 2, 1)
    assert request(secretive, post("off.test", body), "off.test")[0] == 200
    assert secret_world.server.requests[-1].body == body
    status, _, answer = request(secretive, get("off.test", headers=f"X: {FAKE_GITHUB_TOKEN}\r\n"), "off.test")
    assert (status, json.loads(answer)["reason"]) == (403, "guard_refused")


@pytest.mark.parametrize("host", ["warn.test", "off.test"])
def test_looks_for_known_secrets_whatever_the_rule_says_about_scanning(
    secretive: Stack, secret_world: SecretWorld, host: str
) -> None:
    before = secret_world.arrivals
    status, _, body = request(secretive, post(host, CANARY.value), host)
    assert (status, json.loads(body)["reason"], json.loads(body)["findings"]) == (403, "known_secret", [CANARY.name])
    assert secret_world.arrivals == before


@pytest.mark.parametrize("host", ["warn.test", "off.test"])
def test_a_guard_that_fails_is_no_warning(unguarded: Stack, secret_world: SecretWorld, host: str) -> None:
    def only_heads(question: dict[str, Any]) -> bytes | None:
        return None if question["input"].get("text") == "body" else http_answer(verdict_on(question))

    before = secret_world.arrivals
    with guard_that(unguarded, only_heads, REFUSED_CONNECT) as guard:
        status, _, body = request(unguarded, post(host, b"body"), host)
    expected = (502, "guard_closed", 0) if host == "warn.test" else (403, "guard_refused_tunnel", 1)
    assert (status, json.loads(body)["reason"], guard.connects) == expected
    assert secret_world.arrivals == before


# --- the delivery -----------------------------------------------------------------------------------------------------


def test_a_delivery_that_is_replaced_counts_from_the_next_request_on(
    fresh_secretive: Stack, secret_world: SecretWorld
) -> None:
    stack = fresh_secretive
    stack.start_guard()
    stack.start_interceptor()
    assert request(stack, get("bearer.test"), "bearer.test")[0] == 200
    assert secret_world.server.requests[-1].header("authorization") == [f"Bearer {TOKEN}"]
    rotated = "rotated-token-0123456789"
    stack.injections = [Injection("https://bearer.test:443", "bearer", "", rotated, ((rotated, MARK),))]
    stack.secrets = [KnownSecret("NEW", b"a-new-secret-0123", ("granted.test",))]
    stack.deliver()
    assert request(stack, get("bearer.test"), "bearer.test")[0] == 200
    assert secret_world.server.requests[-1].header("authorization") == [f"Bearer {rotated}"]
    assert request(stack, post("allowed.test", CANARY.value))[0] == 200
    assert request(stack, post("allowed.test", b"a-new-secret-0123"))[0] == 403
    delivered = stack.inner / "run" / "interceptor-secrets.json"
    good = delivered.read_bytes()
    value = json.loads(good)
    malformed = (
        b"",
        good[:-2],
        b"null",
        json.dumps({**value, "more": 1}).encode(),
        json.dumps({**value, "secrets": {}}).encode(),
        json.dumps({**value, "injections": [{**value["injections"][0], "rule": "http://bearer.test:80"}]}).encode(),
        json.dumps({**value, "secrets": [{"name": "A", "value": 7, "to": []}]}).encode(),
        json.dumps({**value, "secrets": [{"name": "A", "value": "x", "to": "allowed.test"}]}).encode(),
        json.dumps({**value, "secrets": value["secrets"] * 2}).encode(),
    )
    before = secret_world.arrivals
    for content in malformed:
        delivered.write_bytes(content)
        assert stack.health["status"] == "waiting_secrets", content
        sock, answer = stack.connect("allowed.test:443")
        sock.close()
        assert answer is not None
        assert (answer.status, answer.json["reason"]) == (403, "not_ready")
    delivered.unlink()
    assert stack.health["status"] == "waiting_secrets"
    delivered.write_bytes(good)
    assert stack.health["status"] == "ok"
    assert request(stack, get("bearer.test"), "bearer.test")[0] == 200
    assert secret_world.arrivals == before + 1


def test_a_tunnel_that_is_open_is_closed_to_requests_while_the_delivery_makes_no_sense(
    fresh_secretive: Stack, secret_world: SecretWorld
) -> None:
    stack = fresh_secretive
    stack.start_guard()
    stack.start_interceptor()
    delivered = stack.inner / "run" / "interceptor-secrets.json"
    good = delivered.read_bytes()
    before = secret_world.arrivals
    with stack.tunnel("allowed.test:443") as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 4\r\n\r\nab")
        delivered.write_bytes(b"{")
        sock.sendall(b"cd")
        status, _, body = answer_on(sock)
    assert (status, json.loads(body)["reason"]) == (403, "not_ready")
    delivered.write_bytes(good)
    assert secret_world.arrivals == before
