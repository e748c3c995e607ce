"""The ssh-agent inside: started once, as the agent's user, and given keys through standard input alone.

A private key is never a file and never an argument inside; neither is a passphrase. The ssh-agent keeps its keys in
memory only, so they are gone after a restart of the bottle and are given again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import ProvisionError
from bottle_fsm.places import AGENT_HOME, RUN_DIR, SSH_AUTH_SOCK
from bottle_fsm.provision.shell import checked, last_lines, shell
from bottle_fsm.secret import Secret

WHAT: Final = "ssh-agent"
NO_AGENT: Final = 2
_FINGERPRINT: Final = re.compile(r"\bSHA256:[A-Za-z0-9+/]+")
_ASKPASS: Final = f"{AGENT_HOME}/.bottle/askpass"

_LIST: Final = f"SSH_AUTH_SOCK={SSH_AUTH_SOCK} ssh-add -l"
_START: Final = f"""
export SSH_AUTH_SOCK={SSH_AUTH_SOCK}
command -v ssh-agent >/dev/null && command -v ssh-add >/dev/null && command -v flock >/dev/null || exit 69
exec 9<{AGENT_HOME}
flock 9
ssh-add -l >/dev/null 2>&1
[ $? -eq {NO_AGENT} ] || {{ echo running; ssh-add -l; exit 0; }}
# the socket of an ssh-agent that is gone would keep the next one from starting
rm -f "$SSH_AUTH_SOCK"
ssh-agent -a "$SSH_AUTH_SOCK" >/dev/null 9<&- || exit 1
ssh-add -l >/dev/null 2>&1
[ $? -ne {NO_AGENT} ] && echo started
"""
_CLEAR: Final = f"SSH_AUTH_SOCK={SSH_AUTH_SOCK} ssh-add -q -D"
_ADD: Final = f"""
export SSH_AUTH_SOCK={SSH_AUTH_SOCK}
ssh-add -q "$@" -
"""
_ADD_ENCRYPTED: Final = f"""
export SSH_AUTH_SOCK={SSH_AUTH_SOCK} SSH_ASKPASS={_ASKPASS} SSH_ASKPASS_REQUIRE=force DISPLAY=none
export BOTTLE_ASKPASS={RUN_DIR}/askpass
umask 077
mkdir -p {AGENT_HOME}/.bottle
rm -f "$BOTTLE_ASKPASS" "$SSH_ASKPASS"
# asked a second time (the passphrase was wrong), it has no answer, and ssh-add gives up
printf '#!/bin/sh\\n[ -p "$BOTTLE_ASKPASS" ] && cat "$BOTTLE_ASKPASS" && rm -f "$BOTTLE_ASKPASS"\\n' > "$SSH_ASKPASS"
chmod 700 "$SSH_ASKPASS"
IFS= read -r passphrase
mkfifo "$BOTTLE_ASKPASS"
( printf '%s\\n' "$passphrase" > "$BOTTLE_ASKPASS" ) &
writer=$!
unset passphrase
ssh-add -q "$@" -
code=$?
kill $writer 2>/dev/null
rm -f "$BOTTLE_ASKPASS" "$SSH_ASKPASS"
exit $code
"""


def ensure_running(bottle: Bottle) -> tuple[bool, set[str]]:
    """Start the ssh-agent unless it answers; return whether it was started, and the fingerprints that it holds.

    Raises:
        ProvisionError: it does not start, or the image lacks it.
    """
    hint = f"The image needs openssh-client and flock, and {RUN_DIR} must be writable by the agent"
    said = checked(bottle, _START, what=WHAT, hint=hint).text
    return said.startswith("started"), set(_FINGERPRINT.findall(said))


def fingerprints(bottle: Bottle) -> set[str] | None:
    """Return the fingerprints of the keys it holds; None when no ssh-agent answers."""
    result = shell(bottle, _LIST)
    if result.code not in {0, 1}:
        return None
    return set(_FINGERPRINT.findall(result.text))


def clear(bottle: Bottle) -> None:
    """Remove every key."""
    checked(bottle, _CLEAR, what=WHAT)


def add_key(  # noqa: PLR0913 - the key, what opens it, and where it may be used
    bottle: Bottle,
    key: bytes,
    *,
    passphrase: Secret | None,
    constraints: Sequence[str],
    known_hosts: str,
    place: str,
) -> None:
    """Give it a key that may be used for the constraints' hosts only.

    Raises:
        ProvisionError: ssh-add refused; the message never holds key or passphrase.
    """
    options = ["-H", known_hosts, *(option for name in constraints for option in ("-h", name))]
    content = key if key.endswith(b"\n") else key + b"\n"
    if passphrase is None:
        result = shell(bottle, _ADD, *options, stdin=content)
    else:
        result = shell(bottle, _ADD_ENCRYPTED, *options, stdin=passphrase.reveal().encode() + b"\n" + content)
    if result.code != 0:
        hint = "Is the passphrase right?" if passphrase else "Host constraints need OpenSSH 8.9 in the image"
        raise ProvisionError(f"ssh-add refused the key: {last_lines(result)}", place=place, hint=hint)
