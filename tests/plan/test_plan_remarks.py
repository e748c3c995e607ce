"""Remarks on rules that do nothing or not what they seem to, each with its line; and rules that need none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.rule import METHODS, RESERVED_SUFFIX
from bottle_fsm.manifest.limits import Method
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.model import Manifest, Rule
from bottle_fsm.manifest.spec import specs
from bottle_fsm.pathglob import glob_matches
from bottle_fsm.places import DENIED_PROBE_HOST
from bottle_fsm.plan.remarks import _wishes, _within, remarks

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
TOP = "version: 1\nbottles:\n  dev:\n    egress:\n"


def told(tmp_path: Path, egress: str, *, provider: str = "claude", more: str = "") -> list[str]:
    """Return the remarks on an `egress:` whose first line is line 5."""
    file = tmp_path / "m.yaml"
    inner = "".join(f"      {line}\n" for line in egress.splitlines())
    file.write_text(f"{TOP}{inner}{more}agents:\n  one: {{bottle: dev, provider: {provider}}}\n")
    loaded = load_manifest(file)
    (spec,) = specs(loaded.manifest, loaded.path)
    found = [str(remark).removeprefix(f"{tmp_path}/m.yaml:") for remark in remarks(spec, loaded.place)]
    return [line.replace("bottles/dev/egress/", "") for line in found]


def rules(*lines: str) -> str:
    return "allow:\n" + "".join(f"  - {line}\n" for line in lines)


NEAREST = "Nothing is added up: the nearest rule holds"


@pytest.mark.parametrize(
    ("lines", "remark"),
    [
        (
            ["a.b", "api.anthropic.com"],
            (
                "7 allow/1: provider claude needs `api.anthropic.com:443`, and it is allowed without this rule. "
                "Remove it"
            ),
        ),
        (
            ["{host: api.anthropic.com, scan: 'off', credentials: injected}"],
            (
                "6 allow/0: provider claude needs `api.anthropic.com:443`, and it is allowed without this rule. "
                "Remove it"
            ),
        ),
        (
            ['{host: "*.anthropic.com", methods: [GET]}'],
            (
                "6 allow/0: its limits do not hold for `api.anthropic.com`: "
                "provider claude has a rule of its own for that. Limit the name in a rule of its own"
            ),
        ),
        (["x.a.b", '"*.a.b"'], "6 allow/0: `x.a.b:443` says the same as `*.a.b:443`, which covers it. Remove it"),
        (['"*.a.b"', '"*.x.a.b"'], "7 allow/1: `*.x.a.b:443` says the same as `*.a.b:443`, which covers it. Remove it"),
        (
            ['{host: "*.a.b", methods: [GET]}', "x.a.b"],
            f"7 allow/1: `x.a.b:443` takes the place of `*.a.b:443` and is looser. {NEAREST}",
        ),
        (
            ['"*.a.b"', '{host: x.a.b, paths: ["/x"]}'],
            f"7 allow/1: `x.a.b:443` takes the place of `*.a.b:443` and is stricter. {NEAREST}",
        ),
        (
            ['{host: "*.a.b", paths: ["/x/*"]}', '{host: x.a.b, paths: ["/x/y", "/x/z/*"]}'],
            f"7 allow/1: `x.a.b:443` takes the place of `*.a.b:443` and is stricter. {NEAREST}",
        ),
        (
            ['{host: "*.a.b", methods: [GET]}', '{host: x.a.b, paths: ["/x"]}'],
            f"7 allow/1: `x.a.b:443` takes the place of `*.a.b:443` and allows other requests. {NEAREST}",
        ),
        (
            ['{host: "*.a.b", methods: [GET, PUT]}', '{host: "*.x.a.b", methods: [PUT, GET]}'],
            "7 allow/1: `*.x.a.b:443` says the same as `*.a.b:443`, which covers it. Remove it",
        ),
        (
            ["{host: a.b, paths: [/x/y, /z, /x/*]}"],
            "6 allow/0/paths/0: the path `/x/y` adds nothing to `/x/*`. Remove it",
        ),
        (["{host: a.b, paths: [/x, /x]}"], "6 allow/0/paths/1: the path `/x` adds nothing to `/x`. Remove it"),
        (
            ["{host: a.b, methods: [GET], port: 22}"],
            "6 allow/0: port 22 is that of ssh, but only HTTPS passes by a rule. Name the host under `ssh`",
        ),
        (
            ["a.b:5432"],
            (
                "6 allow/0: port 5432 is that of PostgreSQL, but only HTTPS passes by a rule. "
                "Give the port that speaks HTTPS"
            ),
        ),
    ],
)
def test_remarks_on_one_rule_with_its_line(tmp_path: Path, lines: list[str], remark: str) -> None:
    assert told(tmp_path, rules(*lines)) == [remark]


@pytest.mark.parametrize(
    "lines",
    [
        ["example.org", "api.example.com:8443", '"*.example.org"'],
        ['"*.a.b"', "x.a.b:80", "a.b", "x.a.c"],
        ["{host: api.anthropic.com, methods: [POST]}", "api.anthropic.com:8443"],
        ["{host: api.anthropic.com, scan: block}", "{host: platform.claude.com, credentials: agent}"],
        ['"*.anthropic.com"', '{host: "*.claude.com", port: 8443, methods: [GET]}'],
        ["{host: a.b, paths: [/x, /y/*, /y]}", "a.b:80"],
    ],
)
def test_has_nothing_to_say_about_rules_that_do_what_they_say(tmp_path: Path, lines: list[str]) -> None:
    assert told(tmp_path, rules(*lines)) == []


def test_compares_a_rule_with_the_wildcard_that_would_hold_in_its_place(tmp_path: Path) -> None:
    lines = ['"*.b.c"', '{host: "*.a.b.c", methods: [GET]}', "{host: x.a.b.c, methods: [GET]}"]
    assert told(tmp_path, rules(*lines)) == [
        f"7 allow/1: `*.a.b.c:443` takes the place of `*.b.c:443` and is stricter. {NEAREST}",
        "8 allow/2: `x.a.b.c:443` says the same as `*.a.b.c:443`, which covers it. Remove it",
    ]


def test_knows_that_a_rule_of_the_manifest_takes_the_place_of_the_providers(tmp_path: Path) -> None:
    both = ['{host: "*.anthropic.com", methods: [GET]}', "{host: api.anthropic.com, methods: [GET, POST]}"]
    assert told(tmp_path, rules(*both)) == [
        f"7 allow/1: `api.anthropic.com:443` takes the place of `*.anthropic.com:443` and is looser. {NEAREST}"
    ]
    assert told(tmp_path, rules("api.anthropic.com"), provider="command") == []


def test_remarks_on_static_names_that_nothing_leads_to(tmp_path: Path) -> None:
    names = ("a.b", "x.c.d", "api.anthropic.com", "git.example.com", "c.d", "lost.e")
    static = "hosts:\n" + "".join(f"  {name}: 10.0.0.{number}\n" for number, name in enumerate(names, 1))
    ssh = f"    ssh:\n      - {{host: git.example.com, user: git, identity_file: x, known_host_key: {KEY}}}\n"
    assert told(tmp_path, static + rules("a.b", '"*.c.d"'), more=ssh) == [
        "10 hosts/c.d: no rule allows `c.d`, so its address is never used. Allow the name, or remove it",
        "11 hosts/lost.e: no rule allows `lost.e`, so its address is never used. Allow the name, or remove it",
    ]


def test_tells_apart_rules_that_inject_different_values() -> None:
    def rule(host: str, value: str, **more: Any) -> dict[str, Any]:
        return {"host": host, "inject": {"header": "X-Key", "value": value}, **more}

    def found(*allow: dict[str, Any]) -> list[str]:
        value = {"version": 1, "name": "p", "bottles": {"dev": {"egress": {"allow": allow}}},
                 "agents": {"one": {"bottle": "dev"}}}  # fmt: skip
        (spec,) = specs(Manifest.model_validate(value), Path("/m.yaml"))
        return [remark.problem for remark in remarks(spec, lambda *keys: "")]

    assert found(rule("*.a.b", "${A}"), rule("x.a.b", "${B}")) == [
        "`x.a.b:443` takes the place of `*.a.b:443` and differs in what else it says"
    ]
    assert found(rule("*.a.b", "${A}"), rule("x.a.b", "${A}"))[0].endswith("which covers it")


def test_says_nothing_about_a_bottle_that_was_not_validated(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(f"{TOP}      allow: [a.b]\nagents:\n  one: {{bottle: dev}}\n")
    loaded = load_manifest(file)
    (absent,) = specs(loaded.manifest, loaded.path, ["nobody"])
    assert remarks(absent, loaded.place) == []


GLOBS = st.lists(st.sampled_from(["/", "/a", "/a/*", "/*", "/a/b", "/*b"]), min_size=1, max_size=3)
WISHES = st.fixed_dictionaries({}, optional={"methods": st.lists(st.sampled_from(METHODS), min_size=1), "paths": GLOBS})


@given(WISHES, WISHES, st.sampled_from(METHODS), st.sampled_from(["/", "/a", "/a/b", "/a/c", "/b", "/x/b"]))
def test_calls_stricter_only_what_allows_no_more(first: Any, second: Any, method: str, path: str) -> None:
    def allows(wishes: Any) -> bool:
        by_method = method in wishes.get("methods", METHODS)
        return by_method and any(glob_matches(glob, path) for glob in wishes.get("paths", ["/*"]))

    one, two = (_wishes(Rule.model_validate({"host": "a.b", **wishes})) for wishes in (first, second))
    if _within(one, two) and allows(first):
        assert allows(second)


def test_manifest_and_sidecars_know_the_same_methods_and_names_of_our_own() -> None:
    assert get_args(Method) == METHODS
    assert DENIED_PROBE_HOST.partition(".")[2] == RESERVED_SUFFIX
