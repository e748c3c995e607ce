"""A stand-in for the pipelock binary, for hosts without its image: command line, config, health and scan API as it has.

Refuses unknown top-level keys and a configuration that it cannot read, listens where it is told and nowhere else.
"""

import http.server
import json
import sys
import threading
import urllib.request
from pathlib import Path

KNOWN = {
    "version", "mode", "api_allowlist", "forward_proxy", "fetch_proxy", "request_body_scanning", "dlp", "scan_api",
    "metrics_listen", "internal", "logging", "ssrf", "trusted_domains",
}  # fmt: skip


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"status": "healthy", "version": "stand-in"}).encode()
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:  # silent, whatever it is given
        return


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def main() -> None:
    if sys.argv[1] == "healthcheck":
        with urllib.request.urlopen(f"http://{option('--addr')}/health", timeout=3) as answer:
            sys.exit(0 if answer.status == 200 else 1)
    config = json.loads(Path(option("--config")).read_text(encoding="utf-8"))
    unknown = set(config) - KNOWN
    if unknown or config["mode"] != "strict" or not config["api_allowlist"]:
        sys.exit(f"pipelock: bad config {unknown}")
    for listen in (option("--listen"), config["scan_api"]["listen"]):
        host, _, port = listen.rpartition(":")
        server = http.server.ThreadingHTTPServer((host, int(port)), Health)
        threading.Thread(target=server.serve_forever).start()
    sys.stdout.write(json.dumps({"event": "startup"}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
