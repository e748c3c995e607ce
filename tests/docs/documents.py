"""The project's documents, read: which there are, their console blocks, links and commands.

Its duty: reading, running and comparing. Not its duty: what is asserted about them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2]
RUN_MARK: Final = "<!-- run -->"
ANYTHING: Final = "…"
"""In an expected output: alone on a line any number of lines, within a line any text."""

_END: Final = "\x1e"
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_RUN_BLOCK: Final = re.compile(rf"^{RUN_MARK}\n```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"`([^`\n]+)`")
_HEADING: Final = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_EXIT: Final = re.compile(r"\s#\s*exit (\d+).*$")
_VARIES: Final = (
    (re.compile(r"\d{4}-\d{2}-\d{2}T[\d:.]+Z"), "<time>"),
    (re.compile(r"\b[0-9A-F]{2}(:[0-9A-F]{2}){31}\b"), "<fingerprint>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b\d+(\.\d+)? (s|ms)\b"), "<duration>"),
    (re.compile(r"\b\d+ events\b"), "<n> events"),
    (re.compile(r"^ *\d+  (?=<time>)"), "<sequence>  "),
)


@dataclass(frozen=True)
class Step:
    """One command of a console block: what is typed, the exit code it must have, and the lines it must show."""

    command: str
    code: int
    shown: tuple[str, ...]


def documents() -> list[Path]:
    """Return every document that people read."""
    return [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def run_blocks(document: Path) -> list[str]:
    """Return the console blocks that are marked to be run."""
    return _RUN_BLOCK.findall(document.read_text())


def steps_of(block: str) -> list[Step]:
    """Read a console block: `$ command`, an exit code other than 0 as `# exit N` behind it, then what it shows."""
    steps: list[Step] = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        code = _EXIT.search(command)
        steps.append(Step(_EXIT.sub("", command), int(code[1]) if code else 0, tuple(shown)))
    return steps


def run(steps: list[Step], place: Path) -> list[tuple[int, list[str]]]:
    """Run the commands in one shell in `place`, as a person would; return each one's exit code and lines."""
    script = "".join(f"{step.command}\nprintf '\\n{_END}%s{_END}\\n' $?\n" for step in steps)
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=place,
        env={**kept, "PATH": path, "HOME": str(place), "TMPDIR": str(place), "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=True,
    )
    parts = ended.stdout.split(_END)
    texts, codes = parts[0:-1:2], parts[1::2]
    return [
        (int(code), text.strip("\n").split("\n") if text.strip() else [])
        for text, code in zip(texts, codes, strict=True)
    ]


def same_shape(expected: tuple[str, ...], found: list[str]) -> bool:
    """Tell whether an output is as documented, apart from what differs from run to run."""
    pattern = "".join(_line_pattern(line) for line in expected)
    return re.fullmatch(pattern, "".join(f"{_shape(line)}\n" for line in found)) is not None


def _line_pattern(line: str) -> str:
    if line.strip() == ANYTHING:
        return r"(?:.*\n)*?"
    return ".*".join(re.escape(part) for part in _shape(line).split(ANYTHING)) + r"\n"


def _shape(line: str) -> str:
    for pattern, name in _VARIES:
        line = pattern.sub(name, line)
    return re.sub(r" {2,}", "  ", line.rstrip())


def links(document: Path) -> list[str]:
    """Return the targets of a document's relative links."""
    found = _LINK.findall(_FENCE.sub("", document.read_text()))
    return [target for target in found if "://" not in target and not target.startswith("mailto:")]


def anchors(document: Path) -> set[str]:
    """Return the anchors that headings of a document have, as the usual renderers make them."""
    titles = _HEADING.findall(_FENCE.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(document: Path) -> Iterator[list[str]]:
    """Yield the words of every `bottle-fsm …` command that a document names, without redirections and comments."""
    text = document.read_text()
    fenced = [line for language, block in _FENCE.findall(text) if language != "text" for line in block.splitlines()]
    inline = _CODE.findall(_FENCE.sub("", text))
    for candidate in (*(line.removeprefix("$ ") for line in fenced), *inline):
        if candidate.startswith("bottle-fsm "):
            yield shlex.split(candidate.removeprefix("bottle-fsm "), comments=True)


def code_paths(document: Path) -> list[str]:
    """Return the paths of the project that a document names as code, such as `states/bottle.yaml`."""
    inline = _CODE.findall(_FENCE.sub("", document.read_text()))
    known = ("bottle_fsm/", "tests/", "states/", "manifests/", "images/", "scripts/", "docs/")
    return [text for text in inline if text.startswith(known) and re.fullmatch(r"[\w./-]+", text)]
