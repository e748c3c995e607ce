"""The trust gate: every tool that is present proves that it goes through the interceptor and verifies its certificate.

The interceptor answers the gate's name itself, so the proof needs no internet and sends nothing. Not its duty: giving
trust (`ca`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import GateError
from bottle_fsm.model import Json
from bottle_fsm.places import CA_BUNDLE_PATH, GATE_HOST
from bottle_fsm.provision.gate_script import TOOL_MARK, TOOLS, gate_script
from bottle_fsm.provision.shell import checked
from bottle_fsm.steps import Steps

STEP: Final = "trust_gate"
EVIDENCE: Final = "trust_matrix"
PLACE: Final = "trust gate"
TIMEOUT: Final = 90.0
_DETAIL: Final = 200
_NAME: Final = 80

ANSWERED_BY_TEXT: Final = {
    "git": ("not found", "is this a git repository"),
    "pip": ("HTTP error 404", "404 Client Error"),
    "npm": ("E404", "PONG"),
    "cargo": ("404", "missing field `dl`"),
    "go": ("404 Not Found",),
}
"""Tools that cannot print an answer: what they say when the gate's own answer reached them over verified TLS."""

TRUST_TROUBLE: Final = ("ssl", "certificate", "x509", "tls", "unable to get local issuer", "pkix", "ca cert")

_VERSION: Final = re.compile(r"\d+(\.\d+)+[\w.-]*")
_CODE: Final = re.compile(r"[0-9]{1,3}")

REMEDIES: Final = {
    "ca-alone": "`bottle-fsm resume`: the interceptor signs with another CA than the certificate taken from it",
    "git": f"git config --system http.sslCAInfo {CA_BUNDLE_PATH}; is git built with its own certificates?",
    "node": "use Node 22.21 or 24 and later: older ones ignore NODE_USE_ENV_PROXY",
    "npm": f"set cafile={CA_BUNDLE_PATH} in an npmrc of the image",
    "pip": f"set cert = {CA_BUNDLE_PATH} in /etc/pip.conf of the image",
    "python-requests": "let nothing in the image unset REQUESTS_CA_BUNDLE",
    "java": "import the CA with keytool: does the image's JDK have a writable cacerts?",
    "wget": "use GNU wget with OpenSSL or GnuTLS; busybox wget verifies nothing",
}
_REMEDY: Final = (
    "make the tool read the system's certificate store and the proxy variables, or remove it from the image"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one tool left: exit code, version, output (both streams)."""

    tool: str
    code: int
    version: str
    output: str


def run_gate(bottle: Bottle, *, steps: Steps, expect_launch: str, chosen: bool = True) -> list[Json]:
    """Prove trust with every tool that is present; return the matrix, one row a tool.

    `chosen` says that the manifest chose the tools, with an image. Where the agent sees this machine's own, one that
    does not use the proxy reaches nothing and is a warning (`ok` None); one that does not trust the CA fails as ever.

    Raises:
        GateError: a tool that is present failed, or none could prove anything.
    """
    with steps.act(STEP, cause="nothing is handed over untested", role="agent") as step:
        timeout = max(1.0, min(TIMEOUT, steps.remaining()))
        result = checked(bottle, gate_script(), what=PLACE, timeout=timeout)
        answers = parse(result.stdout.decode(errors="replace"))
        matrix = [_row(answer, expect_launch, chosen=chosen) for answer in answers]
        step.evidence(EVIDENCE, matrix)
    _judge(matrix)
    return matrix


def parse(text: str) -> list[Answer]:
    """Read the script's output: for each tool a line `mark tool code version`, then its output until the next mark.

    What is read comes from inside: names and versions are cut to a length that the journal can bear.

    Raises:
        GateError: there are more answers than tools.
    """
    answers = []
    blocks = text.split(TOOL_MARK)[1:]
    if len(blocks) > len(TOOLS):
        raise GateError(f"{len(blocks)} answers of {len(TOOLS)} tools: something inside writes its own", place=PLACE)
    for block in blocks:
        head, _, output = block.partition("\n")
        tool, code, version = [*head.strip().split(" ", 2), "", ""][:3]
        number = _VERSION.search(version)
        told = (number[0] if number else version.strip())[:_NAME]
        answers.append(Answer(tool[:_NAME], int(code) if _CODE.fullmatch(code) else -1, told, output.strip()))
    return answers


def proves(answer: Answer, launch: str) -> bool:
    """Tell whether a tool's output shows that the gate of this launch answered it. Everything else is a failure."""
    texts = ANSWERED_BY_TEXT.get(answer.tool)
    if texts is not None:
        lowered = answer.output.lower()
        return any(t.lower() in lowered for t in texts) and not any(t in lowered for t in TRUST_TROUBLE)
    return answer.code == 0 and any(_is_gate_answer(line, launch) for line in answer.output.splitlines())


def _is_gate_answer(line: str, launch: str) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("gate") == "ok" and value.get("launch") == launch


def _row(answer: Answer, launch: str, *, chosen: bool = True) -> Json:
    ok: bool | None = proves(answer, launch)
    if not ok and not chosen and not any(text in answer.output.lower() for text in TRUST_TROUBLE):
        ok = None
    detail = f"{GATE_HOST} answered, certificate verified" if ok else _failure(answer)
    remedy = "" if ok else REMEDIES.get(answer.tool, _REMEDY)
    return {"tool": answer.tool, "version": answer.version, "ok": ok, "detail": detail, "remedy": remedy}


def _failure(answer: Answer) -> str:
    """Return the last lines that a failing tool wrote, printable and short."""
    text = " / ".join(line.strip() for line in answer.output.splitlines()[-3:] if line.strip())
    clean = "".join(character if character.isprintable() else "?" for character in text)[:_DETAIL]
    return f"exit code {answer.code}: {clean or 'no output'}"


def _judge(matrix: list[Json]) -> None:
    failed = [row for row in matrix if row["ok"] is False]
    if failed:
        first = failed[0]
        names = ", ".join(row["tool"] for row in failed)
        raise GateError(
            f"not trusted or not proxied: {names} ({first['tool']}: {first['detail']})",
            place=PLACE,
            hint=f"For {first['tool']}: {first['remedy']}",
        )
    if matrix and not any(row["ok"] for row in matrix):
        names = ", ".join(row["tool"] for row in matrix)
        told = f"no tool reached the gate: {names} ({matrix[0]['tool']}: {matrix[0]['detail']})"
        raise GateError(told, place=PLACE, hint="Does the interceptor run?")
    if not matrix:
        hint = "Put at least one of curl, wget or python3 into the image"
        raise GateError("the image has no tool that could prove anything", place=PLACE, hint=hint)
