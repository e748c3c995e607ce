"""Whose credentials a request carries: what counts as one in every disguise, and what may pass."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.credential_names import header_word, parameter_word
from bottle_fsm.egress.credentials import Credential, Mode, credential_verdict, found_credentials
from bottle_fsm.egress.policy import compile_policy
from bottle_fsm.egress.verdict import Request, request_verdict

SECRET = b"granted-secret-0123456789abcdef"
OTHER = b"another-granted-one-9876543210"
FOREIGN = b"ghp_0123456789abcdefghijklmnopqrstuvwxyz"
HELD = b"bottle-placeholder-api_key-0123456789ab"
HELD_TOO = b"bottle-placeholder-other-ba9876543210"
PLACEHOLDERS = frozenset({HELD, HELD_TOO})


def granted(text: bytes) -> bool:
    return SECRET in text or OTHER in text


def places(*headers: tuple[bytes, bytes], path: str = "/") -> list[str]:
    return [credential.place for credential in found_credentials(headers, path)]


def verdict(mode: Mode, value: bytes, *, place: str = "header authorization") -> str:
    return credential_verdict(mode, [Credential(place, value)], granted=granted, placeholders=PLACEHOLDERS)


def basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        (b"Authorization", "authorization"),
        (b"AUTHORIZATION", "authorization"),
        (b"Authorization ", "authorization"),
        (b"Proxy-Authorization", "proxy-authorization"),
        (b"X-Api-Key", "x-api-key"),
        (b"x_api_key", "x-api-key"),
        (b"X.Api--Key", "x-api-key"),
        ("x-api-\u212aey".encode(), "x-api-key"),
        ("x-api-\uff4b\uff45\uff59".encode(), "x-api-key"),
        (b"XApiKey", "*apikey*"),
        (b"api-key", "api-key"),
        (b"X-Auth-Token", "x-auth-token"),
        (b"X-Access-Token", "x-access-token"),
        (b"Private-Token", "private-token"),
        (b"X-Goog-Api-Key", "x-goog-api-key"),
        (b"X-Amz-Security-Token", "x-amz-security-token"),
        (b"X-Honeycomb-Team", "x-honeycomb-team"),
        (b"X-Vault-Token", "*token*"),
        (b"X-Auth-Email", "*auth*"),
        (b"X-Auth-Organisation", "*auth*"),
        (b"X-Functions-Key", "*functions-key*"),
        (b"Ocp-Apim-Subscription-Key", "*subscription-key*"),
        (b"Fastly-Key", "*key*"),
        (b"Key", "*key*"),
        (b"X-Client-Secret", "*secret*"),
        (b"X-Hub-Signature-256", "*signature*"),
        (b"Signature-Input", "*signature*"),
        (b"X-Metabase-Session", "*session*"),
        (b"vmware-api-session-id", "*session*"),
        (b"Cf-Access-Jwt-Assertion", "*jwt*"),
        (b"X-Cookie", "*cookie*"),
        (b"X-Trackerpassword", "*password*"),
        (b"X-Token-ghp_0123456789", "*token*"),
    ],
)
def test_knows_a_header_with_a_credential_in_every_spelling(name: bytes, word: str) -> None:
    assert header_word(name) == word


@pytest.mark.parametrize(
    "name",
    [
        *(b"Accept", b"Host", b"User-Agent", b"Referer", b"Content-Type", b"If-Match", b"Range", b"X-Requested-With"),
        *(b"anthropic-beta", b"anthropic-version", b"x-stainless-lang", b"chatgpt-account-id", b"OpenAI-Beta"),
        *(b"session_id", b"session-id", b"X-Claude-Code-Session-Id", b"Mcp-Session-Id", b"npm-session"),
        *(b"npm-auth-type", b"X-NuGet-Session-Id", b"x-goog-api-client", b"x-amz-content-sha256"),
        *(b"Sec-WebSocket-Key", b"Idempotency-Key", b"X-CSRF-Token", b"x-xsrf-token", b"X-Atlassian-Token"),
        *(b"WWW-Authenticate", b"Lock-Token", b"X-Author", b"Authority", b"X-Max-Tokens", b"Tokenizer", b"Keep-Alive"),
        *(b"", b"-", b"X-Monkey"),
    ],
)
def test_knows_a_header_without_one(name: bytes) -> None:
    assert header_word(name) == ""


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("?api_key=x", "query api_key"),
        ("?apikey=x", "query apikey"),
        ("?API_KEY=x", "query api_key"),
        ("?api-key=x", "query api_key"),
        ("?api.key=x", "query api_key"),
        ("?%61pi_key=x", "query api_key"),
        ("?api%5Fkey=x", "query api_key"),
        ("?%2561pi_key=x", "query api_key"),
        ("?%252561pi_key=x", "query api_key"),
        ("?%u0061pi_key=x", "query api_key"),
        ("?%EF%BD%81pi_key=x", "query api_key"),
        ("?+api_key=x", "query api_key"),
        ("?a=b;api_key=x", "query api_key"),
        ("?a=b&&api_key=x", "query api_key"),
        ("?a=b?api_key=x", "query api_key"),
        ("#api_key=x", "query api_key"),
        (";api_key=x/y", "query api_key"),
        ("?api_key", "query api_key"),
        ("?api_key=", "query api_key"),
        ("?api_key[]=x", "query api_key"),
        ("?key[0]=x", "query key"),
        ("?key%5Ba%5D=x", "query key"),
        ("?user[password]=x", "query *password*"),
        ("?token=x", "query token"),
        ("?token[]=x", "query token"),
        ("?key=x", "query key"),
        ("?access_token=x", "query access_token"),
        ("?access_key=x", "query access_key"),
        ("?secret=x", "query secret"),
        ("?client_secret=x", "query client_secret"),
        ("?password=x", "query password"),
        ("?auth=x", "query auth"),
        ("?signature=x", "query signature"),
        ("?sv=1&sig=x", "query sig"),
        ("?X-Amz-Signature=x", "query x-amz-signature"),
        ("?x-amz-credential=x", "query x-amz-credential"),
        ("?X-Goog-Signature=x", "query x-goog-signature"),
        ("?AWSAccessKeyId=x", "query *accesskey*"),
        ("?oauth_consumer=x", "query *auth*"),
        (";jsessionid=x", "query *session*"),
        ("?PHPSESSID=x", "query *sessid*"),
        ("?subscriptionKey=x", "query *subscriptionkey*"),
        ("?code=0123456789ab", "query code"),
        ("?code=%30%31%32%33%34%35%36%37%38%39%61%62", "query code"),
        ("?ghp_token_0123456789", "query *token*"),
    ],
)
def test_knows_a_parameter_with_a_credential_in_every_spelling(query: str, place: str) -> None:
    assert places(path=f"/x{query}") == [place]


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/token/secret", "/bot123:abc/getMe", "/api_key=x", "/@scope/name", "/a@b"),
        *("/?q=api_key", "/?q=a%26token%3Db", "/?code=DE", "/?code=01234567890", "/?max_tokens=9", "/?tokens=9"),
        *("/?pageToken=x", "/?next_page_token=x", "/?NextToken=x", "/?csrf_token=x", "/?author=x", "/?sort_key=x"),
        *(
            "/?startkey=x",
            "/?issueKey=x",
            "/?passing=x",
            "/?signal=x",
            "/?%",
            "/?%u00=x",
            "/?%ff=x",
            "/?%25252561pi_key=x",
        ),
    ],
)
def test_knows_a_target_without_one(path: str) -> None:
    assert places(path=path) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("https://user:pa%73s@a.com/", b"user:pass"),
        ("//user@a.com/", b"user"),
        ("HTTP://a@b@c/", b"a@b"),
        ("//@a.com", b""),
    ],
)
def test_finds_a_user_in_the_target(path: str, value: bytes) -> None:
    assert found_credentials([], path) == (Credential("userinfo", value),)


def test_finds_every_one_of_repeated_headers_and_parameters() -> None:
    headers = [(b"authorization", b"a"), (b"Accept", b"*/*"), (b"Authorization", b"b"), (b"X_API_KEY", b"")]
    assert found_credentials(headers, "/?key=c&x=1&key=%64%3D;KEY=e") == (
        Credential("header authorization", b"a"),
        Credential("header authorization", b"b"),
        Credential("header x-api-key", b""),
        Credential("query key", b"c"),
        Credential("query key", b"d="),
        Credential("query key", b"e"),
    )


@pytest.mark.parametrize(
    ("cookie", "values"),
    [
        (b"a=1; b=2=3 ;c", [b"1", b"2=3", b"c"]),
        (b"a=1,b=2;", [b"1", b"2"]),
        (b"a=", [b""]),
        (b"", [b""]),
        (b" ; ", [b""]),
    ],
)
def test_takes_each_cookie_for_itself(cookie: bytes, values: list[bytes]) -> None:
    assert found_credentials([(b"Cookie", cookie)], "/") == tuple(
        Credential("header cookie", value) for value in values
    )


def test_finds_a_key_among_websocket_protocols() -> None:
    offered = b"realtime, openai-insecure-api-key.sk-1 ,base64url.bearer.authorization.k8s.io.eHg, chat"
    assert [(one.place, one.value) for one in found_credentials([(b"Sec-WebSocket-Protocol", offered)], "/")] == [
        ("header sec-websocket-protocol", b" openai-insecure-api-key.sk-1 "),
        ("header sec-websocket-protocol", b"base64url.bearer.authorization.k8s.io.eHg"),
    ]


@pytest.mark.parametrize("name", [b"X-Rewrite-URL", b"x-original-url", b"X_Original_URI", b"X-Forwarded-Uri"])
def test_finds_a_key_in_a_header_that_replaces_the_target(name: bytes) -> None:
    word = name.decode().lower().replace("_", "-")
    assert places((name, b"/x?a=1&api_key=y")) == [f"header {word}"]
    assert places((name, b"https://u:p@a.com/?a=1")) == [f"header {word}"]
    assert places((name, b"/x?a=1")) == []


@pytest.mark.parametrize("value", [b"a\r\n Authorization: x", b"a\nb", b"a\rb", b"a\0b"])
def test_takes_a_folded_header_for_a_credential_and_the_form_is_refused_anyway(value: bytes) -> None:
    assert places((b"X-Harmless", value)) == ["header malformed"]
    assert places((b"X-Harm\nless", b"x")) == ["header malformed"]
    policy = compile_policy(bottle="p/a", launch="l", allow=[("a.com", 443)])
    request = Request(
        scheme="https",
        host="a.com",
        port=443,
        connect=("a.com", 443),
        tls=True,
        sni="a.com",
        authority="",
        hosts=("a.com",),
        method="GET",
        path="/",
        values=(value,),
    )
    assert request_verdict(policy, request).reason == "header_malformed"
    assert request_verdict(policy, replace(request, values=())).allow


def test_finds_a_credential_among_trailers() -> None:
    assert places((b"Authorization", b"Bearer x"), path="") == ["header authorization"]


def test_never_shows_a_value_or_a_name_that_the_agent_made_up() -> None:
    headers = [(b"X-Token-" + FOREIGN, FOREIGN), (b"Authorization", FOREIGN)]
    found = found_credentials(headers, f"/?auth_{FOREIGN.decode()}={FOREIGN.decode()}")
    assert len(found) == 3
    assert FOREIGN.decode() not in repr(found)
    assert {one.place for one in found} == {"header *token*", "header authorization", "query *auth*"}


ALL_PLACES = st.sampled_from(["authorization", "x-api-key", "token", "client_secret", "sid", "x-amz-signature"])


@given(ALL_PLACES, st.data())
def test_finds_a_parameter_however_its_name_is_encoded(name: str, data: Any) -> None:
    spelt = ""
    for sign in name:
        character = sign.upper() if data.draw(st.booleans()) else sign
        spelt += data.draw(st.sampled_from([character, f"%{ord(character):02x}", f"%25{ord(character):02X}"]))
    assert parameter_word(spelt.encode(), b"x") != ""


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.tuples(st.binary(), st.binary())))
def test_reads_any_head_and_names_only_fixed_places(path: str, headers: list[tuple[bytes, bytes]]) -> None:
    for credential in found_credentials(headers, path):
        kind, _, word = credential.place.partition(" ")
        assert kind in {"header", "query", "userinfo"}
        assert word.isascii()
        assert len(word) < 40


@pytest.mark.parametrize("value", [b"", b"Bearer " + FOREIGN, b"Bearer " + SECRET, b"Bearer " + HELD])
def test_agent_mode_refuses_nothing(value: bytes) -> None:
    assert verdict("agent", value) == ""


GRANTED = [
    SECRET,
    b"Bearer " + SECRET,
    b"bearer  " + SECRET + b" ",
    b'Token token="' + SECRET + b'", email="someone@example.com"',
    SECRET + OTHER,
    b"prefix:" + SECRET,
    basic(b"me:" + SECRET),
    basic(SECRET + b":x-oauth-basic"),
    basic(b"first.last@international.example:" + SECRET),
    basic(b"AC0123456789abcdef0123456789abcdef:" + SECRET),
    basic(OTHER + b":" + SECRET),
]
NOT_GRANTED = [
    b"",
    b" ",
    b"x",
    b"Basic",
    b"Basic Og==",
    b"Bearer " + FOREIGN,
    b"Bearer " + SECRET[:-1],
    b"Bearer " + FOREIGN + b" " + SECRET,
    b"Bearer " + FOREIGN + b", Bearer " + SECRET,
    b"Bearer " + SECRET + b";" + FOREIGN,
    b"Bearer " + FOREIGN + SECRET,
    basic(FOREIGN + b":x"),
    basic(FOREIGN + b":" + SECRET),
    basic(SECRET + b":" + FOREIGN),
    b"Basic " + base64.b64encode(b"aa:" + SECRET).rstrip(b"="),
    b"Basic " + base64.b64encode(b"a:" + SECRET) + b" " + FOREIGN,
    b"Basic " + base64.b64encode(FOREIGN + b":x") + base64.b64encode(b"a:" + SECRET),
    b"Basic !" + base64.b64encode(b"a:" + SECRET),
    b"Bearer " + base64.b64encode(SECRET),
]


@pytest.mark.parametrize("mode", ["none", "injected", "nonsense"])
@pytest.mark.parametrize("value", GRANTED)
def test_lets_a_granted_secret_pass(mode: Mode, value: bytes) -> None:
    assert verdict(mode, value) == ""


@pytest.mark.parametrize("mode", ["none", "injected", "nonsense"])
@pytest.mark.parametrize("value", NOT_GRANTED)
def test_refuses_what_is_not_granted_or_not_alone(mode: Mode, value: bytes) -> None:
    assert verdict(mode, value) == "header authorization"


@pytest.mark.parametrize(
    "value",
    [
        HELD,
        b"Bearer " + HELD,
        b"token " + HELD_TOO,
        basic(b"me:" + HELD),
        basic(HELD + b":"),
        basic(b"me@example.com:" + HELD),
        basic(SECRET + b":" + HELD),
    ],
)
def test_lets_one_placeholder_pass_in_injected_mode_only(value: bytes) -> None:
    assert verdict("injected", value) == ""
    assert verdict("none", value) == "header authorization"


@pytest.mark.parametrize(
    "value",
    [
        HELD[:-1],
        HELD.upper(),
        HELD + HELD,
        HELD + b" " + HELD_TOO,
        b"Bearer " + FOREIGN + b" " + HELD,
        b"Bearer " + HELD + b"," + FOREIGN,
        basic(FOREIGN + b":" + HELD),
        basic(HELD + b":" + FOREIGN),
        basic(HELD + b":" + HELD_TOO),
    ],
)
def test_refuses_a_placeholder_that_is_not_one_or_not_alone(value: bytes) -> None:
    assert verdict("injected", value) == "header authorization"


def test_an_empty_placeholder_excuses_nothing() -> None:
    found = [Credential("query key", b"")]
    assert credential_verdict("injected", found, granted=granted, placeholders=frozenset({b""})) == "query key"


def test_names_the_first_refused_one() -> None:
    headers = [(b"X-Api-Key", SECRET), (b"Cookie", b"a=" + SECRET + b"; b=" + FOREIGN), (b"Authorization", b"x")]
    found = found_credentials(headers, "/?key=x")
    assert credential_verdict("none", found, granted=granted, placeholders=PLACEHOLDERS) == "header cookie"
    assert credential_verdict("none", found[2:], granted=granted, placeholders=PLACEHOLDERS) == "header cookie"
    assert credential_verdict("none", found[3:], granted=granted, placeholders=PLACEHOLDERS) == "header authorization"
    assert credential_verdict("none", found[4:], granted=granted, placeholders=PLACEHOLDERS) == "query key"
    assert credential_verdict("none", [], granted=granted, placeholders=PLACEHOLDERS) == ""


def test_lets_a_granted_secret_pass_that_was_encoded_in_the_query() -> None:
    secret = b"a secret/with=signs&more?"
    found = found_credentials([], f"/?key={quote(secret, safe='')}")
    assert found == (Credential("query key", secret),)
    assert credential_verdict("none", found, granted=lambda text: secret in text, placeholders=frozenset()) == ""


def test_ends_and_refuses_when_the_answers_about_parts_make_no_sense() -> None:
    asked: list[bytes] = []

    def odd(text: bytes) -> bool:
        asked.append(text)
        return len(text) % 2 == 1

    found = [Credential("header authorization", b"Bearer " + FOREIGN)]
    assert credential_verdict("none", found, granted=odd, placeholders=frozenset()) == "header authorization"
    assert len(asked) < 200


def test_gives_up_when_asking_fails() -> None:
    def broken(_: bytes) -> bool:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        credential_verdict("none", [Credential("query key", b"x")], granted=broken, placeholders=frozenset())


PIECES = st.sampled_from([b"Bearer ", b" ", b":", b",", b"x=", SECRET, OTHER, HELD, HELD_TOO, FOREIGN, b"Basic "])


@given(st.lists(PIECES, max_size=6), st.booleans(), st.sampled_from(["none", "injected"]))
def test_nothing_foreign_ever_passes_beside_what_is_allowed(parts: list[bytes], encoded: bool, mode: Mode) -> None:
    text = b"".join(parts)
    value = basic(text) if encoded else text
    if verdict(mode, value):
        return
    assert FOREIGN not in text
    assert text.count(b"bottle-placeholder-") <= (mode == "injected")
    assert granted(text) or any(mark in text for mark in PLACEHOLDERS)
