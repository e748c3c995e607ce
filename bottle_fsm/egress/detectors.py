"""The secret detectors of the built-in guard: a chosen part of the detect-secrets library, its only importer.

Chosen are detectors of unmistakable token formats. Detectors by entropy or by key word are left out: they take hashes,
lock files and ordinary code for secrets. Not its duty: the scan API (see `guard_scan`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol
from urllib.parse import unquote

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector


class _Detector(Protocol):
    secret_type: str

    def analyze_string(self, string: str) -> Iterable[str]: ...


_DETECTORS: Final[tuple[_Detector, ...]] = (
    AWSKeyDetector(),
    AzureStorageKeyDetector(),
    GitHubTokenDetector(),
    GitLabTokenDetector(),
    MailchimpDetector(),
    NpmDetector(),
    PrivateKeyDetector(),
    PypiTokenDetector(),
    SendGridDetector(),
    SlackDetector(),
    SquareOAuthDetector(),
    StripeDetector(),
)


def found_rules(text: str) -> list[str]:
    """Return the names of the detectors that find a secret in a text, such as `github_token`; never what they found."""
    return sorted({_rule_id(detector) for detector in _DETECTORS if any(True for _ in detector.analyze_string(text))})


def found_rules_in_url(url: str) -> list[str]:
    """Return the detectors that find a secret in a URL, as it stands or with its percent signs decoded."""
    return sorted({*found_rules(url), *found_rules(unquote(url))})


def _rule_id(detector: _Detector) -> str:
    return re.sub(r"[^a-z0-9]+", "_", detector.secret_type.lower()).strip("_")
