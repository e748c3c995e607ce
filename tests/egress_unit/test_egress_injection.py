"""Values that are put into requests and kept out of answers: where they go, what is replaced, and no value in sight."""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
from typing import Any, get_args
from urllib.parse import quote, quote_plus, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.injection import Injection, Kind, inject, placeholder
from bottle_fsm.egress.scrub import Scrubber, scrub

RULE = "https://api.example.com:443"
SECRET = "s3cret/value+with=signs&"
MARK = placeholder("p/a", "launch", "API_KEY")
HEADER = Injection(RULE, "header", "X-Api-Key", f"v1 {SECRET}", ((SECRET, MARK),))
BEARER = Injection(RULE, "bearer", "", SECRET, ((SECRET, MARK),))
BASIC = Injection(RULE, "basic", "", f"me:{SECRET}", ((SECRET, MARK),))
QUERY = Injection(RULE, "query", "api_key", SECRET, ((SECRET, MARK),))
ALL = (HEADER, BEARER, BASIC, QUERY)
GOOD: dict[str, Any] = {
    "rule": RULE,
    "kind": "bearer",
    "name": "",
    "value": SECRET,
    "hidden": [[SECRET, MARK]],
}


# --- the data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("injection", [*ALL, Injection(RULE, "bearer", "", SECRET)])
def test_goes_through_json_unchanged_and_never_shows_its_value(injection: Injection) -> None:
    assert Injection.from_json(json.loads(json.dumps(injection.to_json()))) == injection
    assert SECRET not in f"{injection} {injection!r}"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rule": 7}, "every field is a text"),
        ({"value": None}, "every field is a text"),
        ({"hidden": [[SECRET, 7]]}, "every field is a text"),
        ({"value": f"{SECRET}\r\nX: y"}, "a value holds a line break or another control character"),
        ({"value": f"{SECRET}\n"}, "a value holds a line break or another control character"),
        ({"value": f"{SECRET}\0"}, "a value holds a line break or another control character"),
        ({"value": f"{SECRET}\x7f"}, "a value holds a line break or another control character"),
        ({"value": f"{SECRET}\ud800"}, "a value holds a line break or another control character"),
        ({"hidden": [[SECRET, "mark\n"]]}, "a value holds a line break or another control character"),
        ({"rule": "https://a\n"}, "a value holds a line break or another control character"),
        ({"kind": "cookie"}, "its kind is one of header, bearer, basic, query"),
        ({"kind": SECRET}, "its kind is one of header, bearer, basic, query"),
        ({"rule": "http://a.com:80"}, "values are put into requests over TLS only"),
        ({"rule": ""}, "values are put into requests over TLS only"),
        ({"name": "X"}, "its name does not fit its kind"),
        ({"kind": "header"}, "its name does not fit its kind"),
        ({"kind": "header", "name": "X: y"}, "its name does not fit its kind"),
        ({"kind": "header", "name": SECRET}, "its name does not fit its kind"),
        ({"kind": "query", "name": "a=b"}, "its name does not fit its kind"),
        ({"kind": "basic"}, "basic wants user and password with a colon"),
        ({"value": "something else"}, "its value holds every hidden secret"),
        ({"hidden": [["", MARK]]}, "its value holds every hidden secret"),
        ({"value": "", "hidden": []}, "its value holds every hidden secret"),
        ({"hidden": [[SECRET, ""]]}, "every hidden secret has a placeholder"),
        ({"hidden": [["s3cret/", MARK]]}, "a secret has at least 8 bytes"),
        ({"value": "1234567", "hidden": []}, "a secret has at least 8 bytes"),
        ({"value": "********", "hidden": []}, "a secret has at least 8 bytes"),
    ],
)
def test_refuses_what_makes_no_sense_without_showing_it(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match="injection") as caught:
        Injection.from_json({**GOOD, **change})
    assert str(caught.value) == f"an injection: {problem}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        SECRET,
        {**GOOD, "more": 1},
        {key: value for key, value in GOOD.items() if key != "hidden"},
        {**GOOD, "hidden": {}},
        {**GOOD, "hidden": [SECRET]},
        {**GOOD, "hidden": [[SECRET]]},
        {**GOOD, "hidden": [[SECRET, MARK, MARK]]},
    ],
)
def test_reads_exactly_an_injection(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"an injection( is an object with exactly|: hidden is a list of pairs)"
    ) as caught:
        Injection.from_json(value)
    assert SECRET not in str(caught.value)


def test_makes_a_placeholder_that_depends_on_whose_it_is() -> None:
    assert re.fullmatch(r"bottle-placeholder-api_key-[0-9a-f]{12}", MARK)
    assert placeholder("p/a", "launch", "API_KEY") == MARK
    others = {
        placeholder(*names)
        for names in [("p/b", "launch", "API_KEY"), ("p/a", "other", "API_KEY"), ("p/a", "launch", "api_key")]
    }
    assert len(others | {MARK}) == 4
    assert placeholder("p", "al", "X") != placeholder("pa", "l", "X")


@given(st.text(), st.text(), st.text())
def test_makes_a_placeholder_of_plain_signs_that_survive_every_encoding(bottle: str, launch: str, name: str) -> None:
    made = placeholder(bottle, launch, name)
    assert re.fullmatch(r"bottle-placeholder-[a-z0-9_-]*-[0-9a-f]{12}", made)
    assert quote(made, safe="") == html.escape(made) == json.dumps(made)[1:-1] == made


# --- into the request -------------------------------------------------------------------------------------------------


def test_sets_one_header_where_it_stood() -> None:
    headers = [(b"A", b"1"), (b"x-api-key", b"held"), (b"X_Api_Key ", b"twin"), (b"B", b"2"), (b"X-API-KEY", b"again")]
    value = f"v1 {SECRET}".encode()
    assert inject(headers, "/p?api_key=x", HEADER) == (
        ((b"A", b"1"), (b"X-Api-Key", value), (b"B", b"2")),
        "/p?api_key=x",
    )
    assert inject([(b"A", b"1")], "/", HEADER)[0] == ((b"A", b"1"), (b"X-Api-Key", value))
    assert inject([], "/", HEADER)[0] == ((b"X-Api-Key", value),)


def test_sets_authorization() -> None:
    headers = [(b"authorization", b"Bearer " + MARK.encode()), (b"Authorization", b"x")]
    assert inject(headers, "/", BEARER) == (((b"Authorization", b"Bearer " + SECRET.encode()),), "/")
    encoded = base64.b64encode(f"me:{SECRET}".encode())
    assert inject(headers, "/", BASIC) == (((b"Authorization", b"Basic " + encoded),), "/")
    assert inject([], "/", Injection(RULE, "basic", "", "mé:pässwörd"))[0] == (
        (b"Authorization", b"Basic bcOpOnDDpHNzd8O2cmQ="),
    )


VALUE = quote(SECRET, safe="")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/x", f"/x?api_key={VALUE}"),
        ("/x?", f"/x?api_key={VALUE}"),
        ("/x?a=%2F+b", f"/x?a=%2F+b&api_key={VALUE}"),
        ("/x?a=1&", f"/x?a=1&api_key={VALUE}"),
        ("/x?&a=1", f"/x?&a=1&api_key={VALUE}"),
        ("/x?a&&b=", f"/x?a&&b=&api_key={VALUE}"),
        ("/x?api_key=old", f"/x?api_key={VALUE}"),
        ("/x?api_key", f"/x?api_key={VALUE}"),
        ("/x?api_key=old&a=1", f"/x?a=1&api_key={VALUE}"),
        ("/x?a=1&api_key=old&b=2&api_key=older", f"/x?a=1&b=2&api_key={VALUE}"),
        ("/x?a=1;api_key=old;b=2", f"/x?a=1;b=2&api_key={VALUE}"),
        ("/x?a=1&%61pi%5fkey=old", f"/x?a=1&api_key={VALUE}"),
        ("/x?a=1&API_KEY=old&+api_key+=old", f"/x?a=1&api_key={VALUE}"),
        ("/x?a=1&api_key2=kept&%ff=kept", f"/x?a=1&api_key2=kept&%ff=kept&api_key={VALUE}"),
        ("/api_key=kept/%2e?a=1#f?api_key=kept", f"/api_key=kept/%2e?a=1&api_key={VALUE}#f?api_key=kept"),
        ("/\udcff?\udcff=1", f"/\udcff?\udcff=1&api_key={VALUE}"),
    ],
)
def test_sets_one_parameter_and_keeps_every_other_byte(path: str, expected: str) -> None:
    headers = [(b"A", b"1"), (b"api_key", b"kept")]
    assert inject(headers, path, QUERY) == (tuple(headers), expected)


PIECES = st.lists(
    st.sampled_from(["a=1", "api_key=x", "%61pi_key=y", "API_KEY", "", "b", "api_key%5B%5D=z", "c=%26"]), max_size=6
)


@given(PIECES, st.lists(st.sampled_from("&;"), min_size=6, max_size=6))
def test_leaves_one_parameter_of_the_name_and_the_rest_in_order(pieces: list[str], separators: list[str]) -> None:
    query = "".join(itertools.chain(*zip(pieces, separators, strict=False)))
    _, path = inject([], f"/x?{query}", QUERY)
    assert path.endswith(f"api_key={VALUE}")
    parts = [part for part in re.split("[&;]", path.removeprefix("/x?")) if part]
    names = [unquote_to_bytes(part.partition("=")[0]).lower() for part in parts]
    assert names.count(b"api_key") == 1
    assert parts[:-1] == [piece for piece in pieces if piece and piece in {"a=1", "b", "api_key%5B%5D=z", "c=%26"}]


# --- out of the answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("injection", "echo", "shown"),
    [
        (BEARER, SECRET, MARK),
        (BEARER, f"Authorization: Bearer {SECRET}!", f"Authorization: Bearer {MARK}!"),
        (HEADER, f"X-Api-Key: v1 {SECRET}", f"X-Api-Key: v1 {MARK}"),
        (HEADER, SECRET, MARK),
        (QUERY, f"/x?api_key={quote(SECRET, safe='')}&b=1", f"/x?api_key={MARK}&b=1"),
        (QUERY, quote(SECRET), MARK),
        (QUERY, quote(SECRET, safe="").lower(), MARK),
        (HEADER, quote_plus(f"v1 {SECRET}"), f"v1 {MARK}"),
        (BEARER, json.dumps({"a": SECRET}), json.dumps({"a": MARK})),
        (BEARER, SECRET.replace("/", "\\/"), MARK),
        (BEARER, html.escape(SECRET), MARK),
        (BASIC, SECRET, MARK),
        (BASIC, f"me:{SECRET}", f"me:{MARK}"),
        (
            BASIC,
            f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}",
            f"Basic {base64.b64encode(f'me:{MARK}'.encode()).decode().rstrip('=')}",
        ),
        (BEARER, SECRET[:-1], SECRET[:-1]),
        (BEARER, "", ""),
        (Injection(RULE, "bearer", "", SECRET), f"<{SECRET}>", "<************>"),
        (Injection(RULE, "basic", "", f"me:{SECRET}"), f"<{SECRET}>", "<************>"),
        (Injection(RULE, "bearer", "", "placeholder", (("placeholder", MARK),)), "placeholder", "************"),
        (Injection(RULE, "basic", "", "me:pw-12345", (("me", "m"), ("pw-12345", MARK))), "me: pw-12345", f"me: {MARK}"),
        (Injection(RULE, "basic", "", "me:pw-12345", (("me", "m"), ("pw-12345", MARK))), "me:pw-12345", f"m:{MARK}"),
        (Injection(RULE, "bearer", "", 'quote"&é/12'), json.dumps('quote"&é/12'), '"************"'),
        (Injection(RULE, "bearer", "", "quote'&é/12"), "quote&#39;&amp;é/12", "************"),
    ],
)
def test_shows_a_placeholder_in_place_of_an_echo(injection: Injection, echo: str, shown: str) -> None:
    assert scrub(echo.encode(), [injection]).decode() == shown


def test_knows_base64_in_its_other_alphabet_and_without_padding() -> None:
    injection = Injection(RULE, "basic", "", "me:\u00ff\u00fe~~?>?>secret")
    raw = injection.value.encode()
    spelt = {base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"=")}
    spelt |= {quote(form.decode(), safe="").encode() for form in spelt}
    assert len(spelt) == 3
    for form in spelt:
        assert scrub(form, [injection]) == b"KioqKioqKioqKioq"


def test_scrubs_the_longest_of_several_values_wherever_it_is_cut() -> None:
    longer = Injection(RULE, "query", "k", f"{SECRET}-longer", ((f"{SECRET}-longer", "other-placeholder"),))
    data = f"{SECRET} {SECRET}-longer {SECRET}-long".encode()
    for order in ([BEARER, longer], [longer, BEARER]):
        for cut in range(len(data) + 1):
            scrubber = Scrubber(order)
            out = scrubber.feed(data[:cut]) + scrubber.feed(data[cut:]) + scrubber.finish()
            assert out.decode() == f"{MARK} other-placeholder {MARK}-long"


def test_passes_everything_on_at_once_when_nothing_is_injected() -> None:
    scrubber = Scrubber([])
    assert (scrubber.feed(SECRET.encode()), scrubber.finish()) == (SECRET.encode(), b"")
    assert scrub(b"", []) == b""


def test_holds_back_no_more_than_what_a_value_may_begin_with() -> None:
    plain = "s3cret-0123456789"
    scrubber = Scrubber([Injection(RULE, "bearer", "", plain, ((plain, MARK),))])
    assert scrubber.feed(b"data: hello\n\n") == b"data: hello\n\n"
    assert scrubber.feed(b"data: s3cret") == b"data: "
    assert scrubber.feed(b"ly\n\n") == b"s3cretly\n\n"
    assert scrubber.feed(plain[:-1].encode()) == b""
    assert scrubber.feed(plain[-1:].encode()) == MARK.encode()
    assert scrubber.feed(b"s3") == b""
    assert scrubber.finish() == b"s3"
    assert scrubber.finish() == b""


@pytest.mark.parametrize("injection", ALL, ids=lambda injection: injection.kind)
def test_finds_a_value_at_every_cut_into_two(injection: Injection) -> None:
    (headers, path) = inject([], "/", injection)
    for echo in (SECRET.encode(), VALUE.encode(), path.encode(), b" ".join(value for _, value in headers)):
        data = b"<" + echo + b">"
        whole = scrub(data, [injection])
        for cut in range(len(data) + 1):
            scrubber = Scrubber([injection])
            assert scrubber.feed(data[:cut]) + scrubber.feed(data[cut:]) + scrubber.finish() == whole


SIGNS = st.text("ab/ ", min_size=8, max_size=11).map(lambda text: f"a{text}b")


def made(kind: Kind, secret: str) -> Injection:
    name = {"header": "X-Key", "query": "key"}.get(kind, "")
    value = f"u:{secret}" if kind == "basic" else secret
    return Injection(RULE, kind, name, value, ((secret, "XXXXXXXXXXXX"),))


@given(st.data(), st.lists(st.tuples(st.sampled_from(get_args(Kind)), SIGNS), min_size=1, max_size=3))
def test_lets_no_value_out_however_an_answer_is_cut(data: Any, drawn: list[tuple[Kind, str]]) -> None:
    injections = [made(kind, secret) for kind, secret in drawn]
    forms = [form for one in injections for form in spelt(one)]
    part = st.one_of(
        st.sampled_from(forms),
        st.sampled_from(forms).flatmap(lambda form: st.integers(0, len(form)).map(lambda cut: form[:cut])),
        st.sampled_from(forms).flatmap(lambda form: st.integers(0, len(form)).map(lambda cut: form[cut:])),
        st.binary(max_size=4),
    )
    text = b"".join(data.draw(st.lists(part, max_size=8)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    scrubber = Scrubber(injections)
    out = [scrubber.feed(text[start:end]) for start, end in itertools.pairwise([0, *cuts, len(text)])]
    whole = b"".join([*out, scrubber.finish()])
    assert whole == scrub(text, injections)
    assert not [form for form in forms if form in whole]


def spelt(injection: Injection) -> list[bytes]:
    """Return what a server may echo of a value, made apart from the code under test."""
    secret = injection.hidden[0][0]
    found = [secret, quote(secret, safe=""), quote(secret, safe="").lower(), quote_plus(secret)]
    found += [base64.b64encode(injection.value.encode()).decode()] if injection.kind == "basic" else []
    return [text.encode() for text in found]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_changes_nothing_in_other_answers(data: bytes, cuts: list[int]) -> None:
    scrubber = Scrubber(ALL)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    out = b"".join(scrubber.feed(data[start:end]) for start, end in itertools.pairwise(edges))
    assert out + scrubber.finish() == data
