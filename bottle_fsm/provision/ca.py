"""Make the agent's stores trust the bottle's CA."""

from __future__ import annotations

import hashlib
import ssl

from bottle_fsm.bottle import Bottle
from bottle_fsm.steps import Steps


def fingerprint(certificate_pem: bytes) -> str:
    """Return the SHA-256 fingerprint of a PEM certificate (over its DER bytes), as 64 lower-case hex digits."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate_pem.decode())).hexdigest()


def trust(bottle: Bottle, certificate_pem: bytes, steps: Steps) -> str:
    """Make every store of the agent trust this certificate, and return its fingerprint."""
    raise NotImplementedError
