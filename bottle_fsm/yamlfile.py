"""The only importer of yaml: reads a YAML file or text strictly and safely, and remembers the line of each key.

Its duty: plain data (`dict`, `list`, `str`, `int`, `float`, `bool`, `None`) with positions, or a `ManifestError` that
lists what is wrong. Not its duty: what the keys mean; manifests and machine definitions are read by their own models.

Scalars follow the core schema of YAML 1.2: `true` and `false` are the only booleans, so that `no`, `on`, `off` and
`22:30` stay the texts that their authors see.

Anchors and aliases are refused altogether, not bounded: the files that are read here decide what an agent may reach,
and what holds for a key must stand at that key. That no alias can multiply its text is the second gain.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from bottle_fsm.errors import ManifestError, Problem
from bottle_fsm.smallfile import UnreadableError, read_small_file

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32
MAX_PROBLEMS: Final = 50
"""More are not collected: the first ones tell enough, and a hostile file shall not make a book of messages."""

Key = str | int
KeyPath = tuple[Key, ...]

_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f]")
_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+")
_WORDS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAX_DIGITS: Final = 18


def key_text(path: KeyPath) -> str:
    """Return a key path as messages write it: `agents/implementer/skills/0`."""
    return "/".join(str(key) for key in path)


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed document: its name, its value, and the line of every key and list item."""

    name: str
    value: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(repr=False)

    def line(self, path: KeyPath) -> int:
        """Return the line (from 1) of a key or list item; of the nearest one above it where there is none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, path: KeyPath) -> str:
        """Return `file:line key/path`."""
        return _place(self.name, self.line(path), path)


def load(path: Path) -> Document:
    """Read the YAML file at `path`.

    Raises:
        ManifestError: the file cannot be read, or is refused; it lists each problem.
    """
    try:
        data = read_small_file(path, MAX_BYTES)
    except UnreadableError as error:
        raise _refusal(str(path), None, f"the file {error.reason}", "Give the path of a YAML file") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refusal(str(path), line, "the file is not UTF-8 text", "Save it as UTF-8") from error
    return loads(text, str(path))


def loads(text: str, name: str) -> Document:
    """Read YAML from a text; `name` stands for the file in messages.

    Raises:
        ManifestError: the text is refused; it lists each problem.
    """
    _check_text(text, name)
    reader = _Reader(name)
    try:
        for event in yaml.parse(text, Loader=_c_loader(name)):
            reader.take(event)
            if len(reader.problems) >= MAX_PROBLEMS:
                break
    except yaml.YAMLError as error:
        reader.problems.append(_syntax(error, name))
    if reader.problems:
        raise ManifestError(reader.problems)
    return Document(name=name, value=reader.value(), lines=reader.lines)


def _check_text(text: str, name: str) -> None:
    found = _CONTROL.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise _refusal(name, line, f"the text holds the control character U+{ord(found[0]):04X}", "Remove it")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise _refusal(name, line, "the text holds half of a surrogate pair", "Remove it") from error
    if size > MAX_BYTES:
        raise _refusal(name, None, "the text is larger than 1 MiB", "Move long texts into files of their own")


def _c_loader(name: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", None)
    if loader is None:
        raise _refusal(
            name,
            None,
            "PyYAML was installed without its C loader",
            "Install PyYAML with libyaml, as its wheels are",
        )
    return loader


def _refusal(name: str, line: int | None, problem: str, hint: str = "") -> ManifestError:
    return ManifestError([Problem(_place(name, line, ()), problem, hint)])


def _place(name: str, line: int | None, path: KeyPath) -> str:
    where = name if line is None else f"{name}:{line}"
    return f"{where} {key_text(path)}" if path else where


def _syntax(error: yaml.YAMLError, name: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or str(error).splitlines()[0]
    line = mark.line + 1 if mark is not None else None
    return Problem(_place(name, line, ()), f"this is not valid YAML: {reason}", "Check indentation, colons and quotes")


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being filled."""

    path: KeyPath
    value: dict[str, Any] | list[Any]
    key: str | None = None
    """The key of a mapping that waits for its value."""


class _Reader:
    """Builds the value from parser events with a stack of its own: no recursion, so no depth can exhaust it."""

    def __init__(self, name: str) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[KeyPath, int] = {}
        self._name = name
        self._stack: list[_Open] = []
        self._top: Any = None
        self._documents = 0
        self._unnamed = 0

    def value(self) -> dict[str, Any]:
        """Return what was read; only called when there are no problems, so it is a mapping."""
        if not isinstance(self._top, dict):
            raise _refusal(self._name, 1, "the file holds no keys", "Begin with a line such as `version: 1`")
        return self._top

    def take(self, event: yaml.Event) -> None:
        """Take the next event of the parser."""
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._begin_document(line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, line)

    def _begin_document(self, line: int) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop(line, "the file holds more than one document", "Use one file for each")

    def _node(self, event: yaml.NodeEvent, line: int) -> None:
        for problem in self._objections(event):
            self._note(line, *problem)
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            self._take_key(parent, event, line)
        else:
            self._take_value(parent, event, line)

    def _objections(self, event: yaml.NodeEvent) -> Iterator[tuple[str, str]]:
        if isinstance(event, yaml.AliasEvent):
            yield f"the alias `*{event.anchor}` is refused", "Write the value out where it is used"
        elif event.anchor is not None:
            yield f"the anchor `&{event.anchor}` is refused", "Write the value out where it is used"
        tag = getattr(event, "tag", None)
        if tag is not None:
            yield f"the tag `{tag}` is refused", "Remove it; quotes make a value a text"

    def _take_key(self, parent: _Open, event: yaml.NodeEvent, line: int) -> None:
        key = self._key(event, line)
        path = (*parent.path, key)
        if path in self.lines and key in parent.value:
            self._note(line, f"the key `{key}` stands here and on line {self.lines[path]}", "Keep one of them", path)
        else:
            self.lines[path] = line
        parent.key = key
        if isinstance(event, yaml.CollectionStartEvent):
            # A collection as a key was noted as a problem; its content is read aside and forgotten.
            self._open(_Open(path, {} if isinstance(event, yaml.MappingStartEvent) else []), line)

    def _key(self, event: yaml.NodeEvent, line: int) -> str:
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, line)
            if isinstance(value, str):
                return value
            self._note(line, f"the key `{event.value}` is not a text", "Put it in quotes")
        elif not isinstance(event, yaml.AliasEvent):
            self._note(line, "a key must be a text, not a list or a mapping", "Put it in quotes")
        self._unnamed += 1
        return f"?{self._unnamed}"

    def _take_value(self, parent: _Open | None, event: yaml.NodeEvent, line: int) -> None:
        path = self._path_of_value(parent, line)
        value: Any = None
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, line, path)
        elif isinstance(event, yaml.CollectionStartEvent):
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._put(parent, value, line)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open(_Open(path, value), line)

    def _path_of_value(self, parent: _Open | None, line: int) -> KeyPath:
        if parent is None:
            self.lines[()] = line
            return ()
        if isinstance(parent.value, list):
            path: KeyPath = (*parent.path, len(parent.value))
            self.lines[path] = line
            return path
        return (*parent.path, str(parent.key))

    def _put(self, parent: _Open | None, value: Any, line: int) -> None:
        if parent is None:
            self._top = value
            if not isinstance(value, dict):
                self._note(line, "the file must hold a mapping of keys", "Begin with a line such as `version: 1`")
        elif isinstance(parent.value, list):
            parent.value.append(value)
        else:
            parent.value.setdefault(str(parent.key), value)
            parent.key = None

    def _open(self, item: _Open, line: int) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise ManifestError(
                [
                    *self.problems,
                    self._problem(line, f"the file is nested deeper than {MAX_DEPTH} levels", "Flatten it"),
                ]
            )
        self._stack.append(item)

    def _scalar(self, event: yaml.ScalarEvent, line: int, path: KeyPath = ()) -> Any:
        text: str = event.value
        found = _CONTROL.search(text)
        if found:
            self._note(line, f"the text holds the control character U+{ord(found[0]):04X}", "Remove it", path)
        if not event.implicit[0] or event.style:
            return text
        try:
            return _plain(text)
        except OverflowError:
            self._note(line, f"the number `{text[:40]}` is too large", "Put it in quotes if it is a text", path)
            return text

    def _note(self, line: int, problem: str, hint: str = "", path: KeyPath = ()) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(self._problem(line, problem, hint, path))

    def _stop(self, line: int, problem: str, hint: str) -> NoReturn:
        raise ManifestError([*self.problems, self._problem(line, problem, hint)])

    def _problem(self, line: int, problem: str, hint: str, path: KeyPath = ()) -> Problem:
        return Problem(_place(self._name, line, path), problem, hint)


def _plain(text: str) -> Any:
    """Return the value of an unquoted scalar by the core schema of YAML 1.2, without `.inf` and `.nan`."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise OverflowError
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise OverflowError
        return number
    return text
