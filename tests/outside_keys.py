"""What a made-up internet needs before it runs: a CA, a certificate, ssh keys."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DOMAIN: Final = "outside-world.net"
SSH_PORTS: Final = (22, 2222)


@dataclass
class Keys:
    """All of it, made in a directory."""

    where: Path
    passphrase: str = field(default_factory=lambda: f"passphrase-{secrets.token_hex(12)}")

    def __post_init__(self) -> None:
        self._certificate()
        for name, passphrase in (
            ("host", ""),
            ("stranger", ""),
            ("user", ""),
            ("bound", ""),
            ("locked", self.passphrase),
        ):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", str(self.where / name)]
            subprocess.run(command, check=True, capture_output=True)

    def _certificate(self) -> None:
        def openssl(*words: str) -> None:
            subprocess.run(["openssl", *words], cwd=self.where, check=True, capture_output=True)

        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                "-subj", "/CN=outside world", "-days", "2", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
        request = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr"]
        openssl(*request, "-subj", f"/CN=web.{DOMAIN}")
        (self.where / "server.ext").write_text(f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", "server.ext", "-out", "server.pem")  # fmt: skip

    def public(self, name: str) -> str:
        """Return a public key as `type base64`."""
        return " ".join((self.where / f"{name}.pub").read_text().split()[:2])

    def of_machine(self) -> dict[str, bytes]:
        """Return the files that the machine needs."""
        ports = "".join(f"Port {port}\n" for port in SSH_PORTS)
        sshd = (
            f"{ports}HostKey /etc/outside/host\nAuthorizedKeysFile /etc/outside/authorized_keys\nStrictModes no\n"
            "UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n"
        )
        allowed = "".join(f"{self.public(name)}\n" for name in ("user", "bound", "locked"))
        read = {name: (self.where / name).read_bytes() for name in ("server.pem", "server.key", "host", "ca.pem")}
        return {**read, "sshd_config": sshd.encode(), "authorized_keys": allowed.encode()}
