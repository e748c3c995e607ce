"""Loading a manifest: each message with its place and remedy, all of them at once, and what a good file becomes."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm import yamlfile
from bottle_fsm.errors import ManifestError
from bottle_fsm.manifest.load import Loaded, load_manifest
from bottle_fsm.manifest.model import Rule
from bottle_fsm.manifest.wording import word

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
SSH = {"host": "git.example.com", "user": "git", "identity_file": "~/.ssh/id", "known_host_key": HOST_KEY}
GOOD: dict[str, Any] = {
    "version": 1,
    "name": "demo",
    "bottles": {"dev": {"env": {}, "egress": {"allow": []}, "ssh": [SSH]}},
    "agents": {"one": {"bottle": "dev"}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good manifest with one key set; list items are addressed by number, appended when new."""
    manifest = copy.deepcopy(GOOD)
    *parents, last = path.split("/")
    inner: Any = manifest
    for key in parents:
        inner = inner[int(key)] if isinstance(inner, list) else inner.setdefault(key, {})
    if isinstance(inner, list):
        inner[int(last) : int(last) + 1] = [value]
    else:
        inner[last] = value
    return manifest


def load(tmp_path: Path, manifest: Any, **options: str) -> Loaded:
    file = tmp_path / "m.yaml"
    file.write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    return load_manifest(file, **options)


def problems(tmp_path: Path, manifest: Any, **options: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load(tmp_path, manifest, **options)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]


WRONG = yamlfile.load(Path(__file__).with_name("messages.yaml")).value["cases"]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case['path']}={case['value']}"[:60])
def test_refuses_one_wrong_thing_with_one_message(tmp_path: Path, case: dict[str, Any]) -> None:
    assert problems(tmp_path, changed(case["path"], case["value"])) == [f"m.yaml:1 {case['message']}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bypass_tls", True),
        ("websocket", True),
    ],
)
def test_refuses_rule_keys_that_are_not_enforced_yet(tmp_path: Path, key: str, value: Any) -> None:
    rule = {"host": "a.b", key: value}
    assert problems(tmp_path, changed("bottles/dev/egress/allow/0", rule)) == [
        (
            f"m.yaml:1 bottles/dev/egress/allow/0/{key}: `{key}` is planned, but this release does not enforce it yet. "
            "Remove it; nothing is taken as granted that is not enforced"
        )
    ]


@pytest.mark.parametrize(
    ("keys", "scan", "credentials", "injected"),
    [
        ({}, None, None, 0),
        ({"scan": "block", "credentials": "none"}, "block", "none", 0),
        ({"scan": "warn", "credentials": "agent"}, "warn", "agent", 0),
        ({"scan": "off", "inject": {"header": "X-Key", "value": "${K}"}}, "off", None, 1),
    ],
)
def test_keeps_scan_credentials_and_inject_as_they_are_written(
    tmp_path: Path, keys: dict[str, Any], scan: str | None, credentials: str | None, injected: int
) -> None:
    loaded = load(tmp_path, changed("bottles/dev/egress/allow/0", {"host": "a.b", **keys}))
    (found,) = loaded.manifest.bottles["dev"].egress.allow
    assert (found.scan, found.credentials, len(found.inject or ())) == (scan, credentials, injected)


def test_keeps_methods_and_paths_as_they_are_written(tmp_path: Path) -> None:
    rule = {"host": "a.b", "methods": ["POST", "GET"], "paths": ["/repos/acme/*", "/"]}
    (found,) = load(tmp_path, changed("bottles/dev/egress/allow/0", rule)).manifest.bottles["dev"].egress.allow
    assert (found.methods, found.paths) == (("POST", "GET"), ("/repos/acme/*", "/"))


def test_names_the_line_of_the_second_rule_for_one_host_and_port(tmp_path: Path) -> None:
    text = """\
version: 1
bottles:
  dev:
    egress:
      allow:
        - a.b
        - c.d
        - host: A.b
          methods: [GET]
agents: {one: {bottle: dev}}
"""
    assert problems(tmp_path, text) == [
        (
            "m.yaml:8 bottles/dev/egress/allow/2: `a.b:443` is allowed twice, here and at `allow/0`. "
            "Keep one rule for each host and port"
        )
    ]


def test_accepts_defaults_of_keys_that_are_not_enforced_yet(tmp_path: Path) -> None:
    rule = {"host": "a.b", "bypass_tls": False, "websocket": False}
    manifest = load(tmp_path, changed("bottles/dev/egress/allow/0", rule)).manifest
    assert manifest.bottles["dev"].egress.allow == (Rule(host="a.b"),)


def test_reports_every_problem_of_a_file_in_the_order_of_its_lines(tmp_path: Path) -> None:
    text = """\
version: 1
bottles:
  dev:
    imge: x
agents:
  one:
    bottle: dve
  two: {bottle: dev, providr: claude}
  three: {bottle: dev}
  four:
"""
    assert problems(tmp_path, text) == [
        "m.yaml:4 bottles/dev/imge: the key `imge` is not known. Did you mean `image`?",
        "m.yaml:7 agents/one/bottle: there is no bottle `dve`. Did you mean `dev`?",
        "m.yaml:8 agents/two/providr: the key `providr` is not known. Did you mean `provider`?",
        'm.yaml:10 agents/four: there is no value. Remove the key or give it a value; write "" for an empty text',
    ]


def test_names_the_missing_parts_of_an_empty_manifest(tmp_path: Path) -> None:
    assert problems(tmp_path, "name: x\n") == [
        "m.yaml:1: the key `version` is missing. Add it: the manifest's version",
        "m.yaml:1: the key `bottles` is missing. Add it: reaches: what an agent in one may see and touch",
        "m.yaml:1: the key `agents` is missing. Add it: who runs in which bottle, with what",
    ]


def test_says_where_to_add_a_bottle_when_there_is_none(tmp_path: Path) -> None:
    assert problems(tmp_path, {**GOOD, "bottles": {}}) == [
        "m.yaml:1 bottles: `bottles` is empty. Add one under `bottles`",
        "m.yaml:1 agents/one/bottle: there is no bottle `dev`. Add it under `bottles`",
    ]


def test_survives_nonsense_where_references_are_looked_up(tmp_path: Path) -> None:
    bottles = {"a": 1, "b": {"egress": 2}, "c": {"egress": {"allow": 3}}}
    found = problems(tmp_path, {"version": 1, "bottles": bottles, "agents": [1]})
    assert [line.split(": ")[0] for line in found] == [
        "m.yaml:1 bottles/a",
        "m.yaml:1 bottles/b/egress",
        "m.yaml:1 bottles/c/egress/allow",
        "m.yaml:1 agents",
    ]


def test_takes_the_name_from_the_file(tmp_path: Path) -> None:
    manifest = {key: value for key, value in GOOD.items() if key != "name"}
    assert load(tmp_path, manifest).manifest.name == "m"


def test_asks_for_a_name_when_the_file_has_none_to_give(tmp_path: Path) -> None:
    file = tmp_path / "my manifest.yaml"
    file.write_text(json.dumps({key: value for key, value in GOOD.items() if key != "name"}))
    with pytest.raises(ManifestError) as caught:
        load_manifest(file)
    assert str(caught.value) == (
        f"{file}: the file's name `my manifest` is no valid project name. "
        "Add `name:` with letters, digits, `.`, `_` or `-`"
    )


def test_prefers_the_name_and_the_backend_that_are_given(tmp_path: Path) -> None:
    manifest = load(tmp_path, GOOD, name="other", backend="fake").manifest
    assert (manifest.name, manifest.backend) == ("other", "fake")


def test_refuses_a_given_name_that_is_not_valid(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD, name="a/b") == [
        "--name: `a/b` is no valid name. Use 1 to 63 letters, digits, `.`, `_` or `-`, and begin with a letter or digit"
    ]


def test_gives_places_for_later_messages(tmp_path: Path) -> None:
    text = "version: 1\nbottles: {dev: {}}\nagents:\n  one:\n    bottle: dev\n    skills:\n      - ./x\n"
    loaded = load(tmp_path, text)
    assert loaded.place("agents", "one", "skills", 0) == f"{tmp_path}/m.yaml:7 agents/one/skills/0"


def test_remembers_the_real_path(tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text(json.dumps(GOOD))
    link = tmp_path / "link.yaml"
    link.symlink_to(real)
    assert load_manifest(link).path == real.resolve()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Example.ORG", "example.org", 443),
        ("example.org.", "example.org", 443),
        ("example.org:8443", "example.org", 8443),
        ("*.Example.org", "*.example.org", 443),
        ("*.example.org:80", "*.example.org", 80),
        ("bücher.example", "xn--bcher-kva.example", 443),
        ("xn--strae-oqa.de", "xn--strae-oqa.de", 443),
        ("gitlab", "gitlab", 443),
    ],
)
def test_normalises_short_rules(tmp_path: Path, text: str, host: str, port: int) -> None:
    rules = load(tmp_path, changed("bottles/dev/egress/allow/0", text)).manifest.bottles["dev"].egress.allow
    assert rules == (Rule(host=host, port=port),)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "fe80::1", "::ffff:10.0.0.1"],
)
def test_refuses_addresses_that_no_name_may_point_at(tmp_path: Path, address: str) -> None:
    assert problems(tmp_path, changed("bottles/dev/egress/hosts", {"a.b": address})) == [
        (
            f"m.yaml:1 bottles/dev/egress/hosts/a.b: a name may not point at `{address}`. "
            "Use the address of one machine, neither loopback nor link"
        )
    ]


def test_keeps_private_and_public_static_addresses(tmp_path: Path) -> None:
    given = {"A.b.": "10.0.0.1", "c.d": "2001:0db8::0001"}
    hosts = load(tmp_path, changed("bottles/dev/egress/hosts", given)).manifest.bottles["dev"].egress.hosts
    assert hosts == {"a.b": "10.0.0.1", "c.d": "2001:db8::1"}


def test_drops_the_comment_of_a_host_key(tmp_path: Path) -> None:
    manifest = load(tmp_path, changed("bottles/dev/ssh/0/known_host_key", f"{HOST_KEY} some comment")).manifest
    assert manifest.bottles["dev"].ssh[0].known_host_key == HOST_KEY


def test_refuses_a_host_key_that_ends_after_its_type(tmp_path: Path) -> None:
    blob = base64.b64encode((11).to_bytes(4, "big") + b"ssh-ed25519").decode()
    assert (
        "is not of the type"
        in problems(tmp_path, changed("bottles/dev/ssh/0/known_host_key", f"ssh-ed25519 {blob}"))[0]
    )


def test_refuses_an_injected_value_that_stands_in_the_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stands in the manifest itself"):
        Rule.model_validate({"host": "a.b", "inject": {"header": "X", "value": "abc"}})
    with pytest.raises(ValueError, match="is no valid header name"):
        Rule.model_validate({"host": "a.b", "inject": {"header": "X: y", "value": "${A}"}})
    with pytest.raises(ValueError, match="does not begin with a slash"):
        Rule.model_validate({"host": "a.b", "paths": ["x"]})


@pytest.mark.parametrize(
    ("text", "size"), [("4g", 4 * 2**30), ("512M", 512 * 2**20), ("134217728", 2**27), ("65536k", 2**26)]
)
def test_reads_amounts_of_memory(tmp_path: Path, text: str, size: int) -> None:
    manifest = load(tmp_path, changed("bottles/dev/resources", {"memory": text})).manifest
    assert manifest.bottles["dev"].resources.memory_bytes == size


def test_marks_questions_as_secret(tmp_path: Path) -> None:
    value = load(tmp_path, changed("bottles/dev/env/KEY", "? Paste it")).manifest.bottles["dev"].env["KEY"]
    assert (value.secret, value.question) == (True, "Paste it")


def test_passes_on_findings_that_it_has_no_words_for() -> None:
    odd: Any = {"type": "never_heard_of", "msg": "Value is odd", "loc": ("name",), "input": 1}
    assert word(odd) == ("value is odd", "")
    odd["type"] = "value_error"
    assert word(odd) == ("value is odd", "")


def test_freezes_what_it_loaded(tmp_path: Path) -> None:
    manifest = load(tmp_path, GOOD).manifest
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "x"
