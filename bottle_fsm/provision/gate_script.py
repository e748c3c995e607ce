"""The shell script of the trust gate: each tool that is present asks the gate, all at once, one exec in all.

Where the bottle may have few processes, one tool asks after the other: some of them start dozens of threads. Each runs
in a process of its own with a time limit, so that one that hangs hides no other. Text only; what the output means is
decided in `trustgate`.
"""

from __future__ import annotations

from typing import Final

from bottle_fsm.places import CA_CERT_PATH, GATE_HOST
from bottle_fsm.provision.java_gate import JAVA_GATE

TOOL_MARK: Final = "@@bottle-gate "
_SECONDS: Final = 20
_MANY: Final = 128
"""Processes and threads that all tools together may need at once, with room for what else runs."""
_URL: Final = f"https://{GATE_HOST}/"

_URLLIB: Final = f'import urllib.request as r; print(r.urlopen("{_URL}", timeout=15).read().decode())'
_URLLIB_ALONE: Final = (
    f'import ssl, urllib.request as r; c = ssl.create_default_context(cafile="{CA_CERT_PATH}"); '
    f'print(r.urlopen("{_URL}", timeout=15, context=c).read().decode())'
)
_REQUESTS: Final = f'import requests as r; a = r.get("{_URL}", timeout=15); a.raise_for_status(); print(a.text)'
_FETCH: Final = f'fetch("{_URL}").then(a => a.text()).then(t => console.log(t))'
_FETCH_OR_FAIL: Final = f"{_FETCH}.catch(e => {{ console.error(e.cause ?? e); process.exit(1) }})"
_PIP: Final = (
    "python3 -m pip --disable-pip-version-check --retries 0 --timeout 15 download -q --no-deps --no-cache-dir"
    f" -d . {_URL}gate-0.tar.gz"
)
_OPENSSL: Final = (
    f"printf 'GET / HTTP/1.1\\r\\nHost: {GATE_HOST}\\r\\nConnection: close\\r\\n\\r\\n' | "
    f"openssl s_client -quiet -verify_return_error -verify_hostname {GATE_HOST} -servername {GATE_HOST} "
    f'-proxy "${{BOTTLE_PROXY#http://}}" -connect {GATE_HOST}:443 > body 2> error; cat body; echo; cat error; '
    # it calls the end of the answer an error; without a verified certificate there is no answer at all
    "grep -q gate body"
)
_RUN_JAVA: Final = (
    'address=${BOTTLE_PROXY#http://}; printf "%s" "$java_gate" | base64 -d > Gate.class; '
    # as little of the machine as Java can be told to take: it is asked once
    "java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp ."
    f" -Dhttps.proxyHost=${{address%:*}} -Dhttps.proxyPort=${{address##*:}} Gate {_URL}"
)
_JAVA_VERSION: Final = (
    # of the file that every Java has; `java -version` is one more start of it
    """sed -n 's/^JAVA_VERSION="\\(.*\\)"/\\1/p' "$(readlink -f "$(command -v java)" | sed 's|/bin/java$||')"/release"""
)

_NPM_VERSION: Final = (
    # its own answer costs as much as the whole question
    """sed -n 's/^ *"version": "\\([^"]*\\)".*/\\1/p' """
    """"$(readlink -f "$(command -v npm)" | sed 's|/bin/[^/]*$||')"/package.json"""
)


def _has_module(name: str) -> str:
    """Return the test for a Python module's presence; importing it would cost as much as the question."""
    found = f"import importlib.util as u, sys; sys.exit(u.find_spec('{name}') is None)"
    return f'has python3 && python3 -c "{found}" 2>/dev/null'


def _module_version(name: str) -> str:
    return f"python3 -c 'import importlib.metadata as m; print(m.version(\"{name}\"))'"


TOOLS: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("curl", "has curl", "curl --version | head -n 1", f"curl -sS --fail {_URL}"),
    ("wget", "has wget", "wget --version 2>&1 | head -n 1", f"wget -q -O - -T 15 -t 1 {_URL}"),
    ("git", "has git", "git --version", f"GIT_TERMINAL_PROMPT=0 git ls-remote {_URL}"),
    ("python-urllib", "has python3", "python3 --version", f"python3 -c '{_URLLIB}'"),
    (
        "python-requests",
        _has_module("requests"),
        _module_version("requests"),
        f"python3 -c '{_REQUESTS}'",
    ),
    (
        "pip",
        _has_module("pip"),
        _module_version("pip"),
        _PIP,
    ),
    ("node", "has node", "node --version", f"node -e '{_FETCH_OR_FAIL}'"),
    (
        "npm",
        "has npm",
        _NPM_VERSION,
        f"npm --no-update-notifier --fetch-retries=0 --cache=. --registry={_URL} ping",
    ),
    (
        "openssl",
        "has openssl",
        "openssl version",
        _OPENSSL,
    ),
    ("deno", "has deno", "deno --version | head -n 1", f"deno eval '{_FETCH}'"),
    ("bun", "has bun", "bun --version", f"bun -e '{_FETCH}'"),
    (
        "go",
        "has go",
        "go version",
        f"GOPROXY={_URL} GONOSUMDB=* GOFLAGS=-mod=mod GOPATH=$PWD/go go list -m gate.invalid/module@v1.0.0",
    ),
    (
        "cargo",
        "has cargo",
        "cargo --version",
        f"CARGO_HOME=$PWD/cargo CARGO_REGISTRIES_GATE_INDEX=sparse+{_URL} cargo search --registry gate bottle",
    ),
    (
        "java",
        "has java",
        _JAVA_VERSION,
        _RUN_JAVA,
    ),
    (
        "curl-empty-environment",
        "has curl",
        "curl --version | head -n 1",
        f'env -i PATH="$PATH" https_proxy="$BOTTLE_PROXY" curl -sS --fail {_URL}',
    ),
    (
        "python-empty-environment",
        "has python3 && ! has curl",
        "python3 --version",
        f"""env -i PATH="$PATH" https_proxy="$BOTTLE_PROXY" python3 -c '{_URLLIB}'""",
    ),
    # the extracted certificate as the only root, no other of the store: it is the issuer of what is presented
    # (an empty --capath, because curl has a directory of its own beside --cacert)
    (
        "ca-alone",
        "has curl",
        "curl --version | head -n 1",
        f"curl -sS --fail --cacert {CA_CERT_PATH} --capath . {_URL}",
    ),
    ("ca-alone", "has python3 && ! has curl", "python3 --version", f"python3 -c '{_URLLIB_ALONE}'"),
)
"""Name, test for presence, command for the version, command that asks the gate: shell, in a directory of its own."""


def gate_script() -> str:
    """Return the script. Its output is read by `trustgate.parse`."""
    return _HEAD + "".join(_job(*tool) for tool in TOOLS) + _TAIL


def _job(name: str, present: str, version: str, command: str) -> str:
    return f'{{ if {present}; then ask {name} {_quoted(version)} {_quoted(command)}; fi; }} &\n[ -z "$few" ] || wait\n'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_HEAD: Final = f"""
umask 077
top=$(mktemp -d) || exit 1
trap 'rm -rf "$top"' EXIT
mkdir "$top/tmp"
export TMPDIR="$top/tmp" java_gate={JAVA_GATE}
few=''
for limit in $( (ulimit -u || ulimit -p) 2>/dev/null) \\
  $(cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null); do
  case $limit in *[!0-9]*) ;; *) [ "$limit" -ge {_MANY} ] || few=yes ;; esac
done
has() {{ command -v "$1" >/dev/null 2>&1; }}
ask() {{ # name, command for the version, command that asks: leaves three files in the tool's own directory
  mkdir "$top/$1" && cd "$top/$1" || return
  sh -c "$2" > version 2>/dev/null < /dev/null
  timeout {_SECONDS} sh -c "$3" > out 2>&1 < /dev/null
  echo $? > code
}}
"""
_TAIL: Final = f"""
wait
cd "$top"
for name in *; do
  [ -f "$name/code" ] || continue
  printf '\\n{TOOL_MARK}%s %s %s\\n' "$name" "$(cat "$name/code")" "$(head -n 1 "$name/version")"
  tail -n 40 "$name/out"
done
"""
