"""Make every store inside the agent trust the bottle's CA, and none of an earlier one.

The system store first, then what a child with a wiped environment reads: `/etc/environment`, a profile, and the
system-wide configuration of git, npm and Java where they are present. Not its duty: proving that tools really trust
it (`trustgate`), and the variables themselves (`environment`).

Everything is done under a lock inside, from the beginning when any of it is missing: a rebuild of the store that was
killed half way looks finished to the next run unless it is told to start afresh.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import ProvisionError
from bottle_fsm.model import Json
from bottle_fsm.places import CA_BUNDLE_PATH, CA_CERT_PATH
from bottle_fsm.provision.environment import agent_environment
from bottle_fsm.provision.shell import TIMEOUT, checked
from bottle_fsm.provision.trust_scripts import ACT, FILE_MARK, HOME_ACT, LOOK
from bottle_fsm.steps import Step, Steps

STEP: Final = "trust_store"
PLACE: Final = "the agent's trust store"
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----\s.+?\s-----END CERTIFICATE-----", re.DOTALL)
_NAMES: Final = tuple(agent_environment("-"))


def fingerprint(certificate_pem: bytes) -> str:
    """Return the SHA-256 fingerprint of a PEM certificate (over its DER bytes), as 64 lower-case hex digits."""
    return hashlib.sha256(_der(certificate_pem)).hexdigest()


def trust(bottle: Bottle, certificate_pem: bytes, steps: Steps) -> str:
    """Make every store of the agent trust this certificate, and return its fingerprint.

    Idempotent: when all stores already hold exactly this certificate, nothing is run but the look.

    Raises:
        ProvisionError: the text is not one certificate, the image has no certificate store, or a store does not hold
            the certificate afterwards.
    """
    pem = ssl.DER_cert_to_PEM_cert(_der(certificate_pem))
    found = fingerprint(certificate_pem)
    with steps.act(STEP, cause=f"CA {found[:16]} of this bottle's interceptor", role="agent") as step:
        _ensure(bottle, pem, step, timeout=max(1.0, min(TIMEOUT, steps.remaining())))
        step.evidence("ca_sha256", found)
    return found


def verify(bottle: Bottle, certificate_pem: bytes) -> None:
    """Look whether every store holds exactly this certificate.

    Raises:
        ProvisionError: one does not.
    """
    pem = ssl.DER_cert_to_PEM_cert(_der(certificate_pem))
    seen = _look(bottle, pem)
    if missing := _missing(seen, _stamp(pem, seen)):
        raise ProvisionError(f"the CA is not fully trusted: {', '.join(missing)}", place=PLACE)


def exported(values: Json) -> str:
    """Return variables as lines of `/etc/environment`, which knows neither quoting nor expansion."""
    return "".join(f"{name}={values[name]}\n" for name in sorted(values))


def _der(certificate_pem: bytes) -> bytes:
    blocks = _PEM.findall(certificate_pem)
    if len(blocks) != 1:
        raise ProvisionError(f"expected one PEM certificate, found {len(blocks)}", place="the interceptor's CA")
    try:
        der = ssl.PEM_cert_to_DER_cert(blocks[0].decode("ascii"))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (ssl.SSLError, ValueError) as error:
        raise ProvisionError(f"not a PEM certificate: {error}", place="the interceptor's CA") from error
    return der


def _ensure(bottle: Bottle, pem: str, step: Step, *, timeout: float) -> None:
    seen = _look(bottle, pem)
    stamp = _stamp(pem, seen)
    missing = _missing(seen, stamp)
    if missing:
        environment = exported(seen["environment"])
        hint = "The image needs the package ca-certificates" if seen["family"] == "none" else None
        checked(bottle, HOME_ACT, what=f"{PLACE} (npm)")
        checked(bottle, ACT, pem, environment, stamp, what=PLACE, user="root", timeout=timeout, hint=hint)
        seen = _look(bottle, pem)
        if still := _missing(seen, stamp):
            raise ProvisionError(f"after the update: {', '.join(still)}", place=PLACE)
    step.evidence("trust_store", {"family": seen["family"], "changed": missing, "capath": seen["capath"]})


def _look(bottle: Bottle, pem: str) -> Json:
    """Ask the bottle what its stores hold, in one exec."""
    said = checked(bottle, LOOK, " ".join(_NAMES), what=PLACE, user="root").stdout
    head, present, bundle = said.split(f"{FILE_MARK}\n".encode())
    answers = dict(line.split("=", 1) for line in head.decode(errors="replace").splitlines() if "=" in line)
    wanted = _body(pem.encode())
    return {
        "family": answers.get("family", "none"),
        "stamp": answers.get("stamp", ""),
        "capath": answers.get("capath", ""),
        "file": present == pem.encode(),
        "bundle": wanted in map(_body, _PEM.findall(bundle)),
        "environment": {name: answers[f"env.{name}"] for name in _NAMES if f"env.{name}" in answers},
    }


def _body(block: bytes) -> bytes:
    """Return a PEM block without its line ends, which differ from tool to tool."""
    return b"".join(block.split())


def _stamp(pem: str, seen: Json) -> str:
    """Return the mark that the finished work leaves: it changes with the certificate, the variables and the method."""
    return hashlib.sha256("\0".join((pem, exported(seen["environment"]), HOME_ACT, ACT)).encode()).hexdigest()


def _missing(seen: Json, stamp: str) -> list[str]:
    checks = {
        f"{CA_CERT_PATH} is not this certificate": seen["file"],
        f"{CA_BUNDLE_PATH} does not hold it": seen["bundle"],
        "the directory of hashed certificates does not find it": seen["capath"] in {"ok", "untested"},
        "the last update did not finish": seen["stamp"] == stamp,
    }
    return [problem for problem, fine in checks.items() if not fine]
