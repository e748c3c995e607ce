"""The ssh files of the agent: `config`, pinned `known_hosts`, the names that bind a key. Pure: data in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bottle_fsm.model import Json
from bottle_fsm.places import AGENT_HOME, SSH_AUTH_SOCK

SSH_DIR: Final = f"{AGENT_HOME}/.ssh"
CONFIG: Final = f"{SSH_DIR}/config"
KNOWN_HOSTS: Final = f"{SSH_DIR}/known_hosts"
CONNECT: Final = f"{AGENT_HOME}/.bottle/ssh-connect"
"""A CONNECT client of ours, for images whose nc knows no proxy."""
DEFAULT_PORT: Final = 22

CONNECT_SCRIPT: Final = b'''#!/usr/bin/env python3
"""Opens `host port` through the bottle's relay (host:port as first argument) and carries bytes both ways."""
import os
import socket
import sys
import threading

relay, host, port = sys.argv[1:4]
name, _, number = relay.rpartition(":")
link = socket.create_connection((name.strip("[]"), int(number)), timeout=15)
link.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n".encode())
head = b""
while b"\\r\\n\\r\\n" not in head and len(head) < 8192:
    piece = link.recv(1)
    if not piece:
        break
    head += piece
status = head.split(b"\\r\\n", 1)[0]
if b" 200" not in status:
    sys.exit(f"relay: {status.decode(errors='replace') or 'no answer'}")
link.settimeout(None)


def upward():
    while piece := os.read(0, 65536):
        link.sendall(piece)
    link.shutdown(socket.SHUT_WR)


threading.Thread(target=upward, daemon=True).start()
while piece := link.recv(65536):
    view = memoryview(piece)
    while view:
        view = view[os.write(1, view) :]
'''


def nc_command(relay: str) -> str:
    """Return the ProxyCommand for OpenBSD's nc."""
    return f"nc -X connect -x {relay} %h %p"


def connect_command(relay: str) -> str:
    """Return the ProxyCommand for our own CONNECT client."""
    return f"{CONNECT} {relay} %h %p"


def config_text(hosts: Sequence[Json], proxy_command: str) -> str:
    """Return `~/.ssh/config`: each declared host through the relay, with keys from the ssh-agent and a pinned host key.

    The first value of a keyword wins in ssh, so what the user adds in `config.d` cannot loosen a declared host.
    """
    blocks = [_block(entry, proxy_command) for entry in hosts]
    head = "# Written by bottle-fsm. Put hosts of your own into ~/.ssh/config.d/*.conf\n"
    return head + "".join(blocks) + "\nHost *\n  Include config.d/*.conf\n"


def known_hosts_text(hosts: Sequence[Json]) -> str:
    """Return `known_hosts` with each declared host's pinned key, under the name and port that ssh looks for."""
    return "".join(f"{known_name(entry)} {entry['known_host_key']}\n" for entry in hosts)


def known_name(entry: Json) -> str:
    """Return a host as `known_hosts` names it: the port stands there only when it is not 22."""
    host, port = entry["host"], entry["port"]
    return host if port == DEFAULT_PORT else f"[{host}]:{port}"


def constraints(hosts: Sequence[Json], identity: str) -> list[str]:
    """Return `user@host` for each host that a key may be used for; `ssh-add -h` takes them."""
    return [f"{entry['user']}@{known_name(entry)}" for entry in hosts if entry["identity_file"] == identity]


def _block(entry: Json, proxy_command: str) -> str:
    return (
        f"\nHost {entry['host']}\n"
        f"  User {entry['user']}\n"
        f"  Port {entry['port']}\n"
        f"  ProxyCommand {proxy_command}\n"
        f"  IdentityAgent {SSH_AUTH_SOCK}\n"
        f"  UserKnownHostsFile {KNOWN_HOSTS}\n"
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        "  UpdateHostKeys no\n"
    )
