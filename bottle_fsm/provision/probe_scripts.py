"""What the egress self-test runs inside: one exec, each probe in parallel, one JSON line each. Text only.

Two ways to try the same: Python where the image has it, else shell with curl or wget. Answers are the words that
`selftest` expects: `allow`, `deny`, `refused`, `unreachable`, `no answer`, `no address`; a detail may follow after a
colon. `untested` where the image has nothing to try it with; `unresolved` where the guard cannot judge a name that has
no address at the moment (a host that is offline, a made-up name below a wildcard).
"""

from __future__ import annotations

from typing import Final, Literal

from bottle_fsm.places import GATE_HOST

Kind = Literal["verdict", "connect", "plain", "tcp", "dns", "name"]
"""`verdict`: ask the gate, by the query of its URL. `connect`: CONNECT at the proxy. `plain`: plain HTTP at the
proxy. `tcp`: a direct connection. `dns`: a direct query by UDP. `name`: the resolver that the bottle has."""

_LIMIT: Final = 5
"""Seconds for one probe: well beyond what is judged as late, so that a late one is seen as such."""
_QUERY: Final = r"\022\064\001\000\000\001\000\000\000\000\000\000\003www\007example\003com\000\000\001\000\001"

_PYTHON: Final = f"""
import json, os, socket, ssl, sys, threading, time, urllib.error, urllib.request

proxy = os.environ.get("BOTTLE_PROXY", "")
quiet = urllib.request.build_opener(urllib.request.ProxyHandler({{"http": proxy, "https": proxy}}))


def split(target):
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)


def verdict(question):
    with quiet.open("https://{GATE_HOST}/verdict?" + question, timeout={_LIMIT}) as answer:
        said = json.load(answer)
    found = said.get("findings") or []
    # a guard that wants an address first refuses a name that has none now; that is no matter of the rule
    if said["decision"] == "deny" and said.get("by") == "guard" and found and all(map(unresolved, found)):
        return "unresolved: " + ", ".join(found)
    return said["decision"]


def unresolved(rule):
    rule = rule.lower()
    return ("ssrf" in rule or "dns" in rule) and "private" not in rule


def through(request):
    link = socket.create_connection(split(proxy.partition("//")[2]), timeout={_LIMIT})
    with link:
        link.sendall(request.encode())
        line = link.recv(4096).decode(errors="replace").split("\\r\\n")[0]
    words = line.split()
    if len(words) < 2:
        return "refused: connection closed"
    return ("refused" if words[1] in ("403", "502") else "not refused") + ": status " + words[1]


def connect(target):
    return through(f"CONNECT {{target}} HTTP/1.1\\r\\nHost: {{target}}\\r\\n\\r\\n")


def plain(target):
    host = split(target)[0]
    return through(f"GET http://{{host}}/ HTTP/1.1\\r\\nHost: {{host}}\\r\\nConnection: close\\r\\n\\r\\n")


def tcp(target):
    try:
        socket.create_connection(split(target), timeout={_LIMIT}).close()
    except ConnectionRefusedError:
        return "reached: connection refused"  # somebody answered, so there is a path
    except OSError as error:
        return "unreachable: " + (error.strerror or "no answer in time")
    return "connected"


def dns(target):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        # no answer in this time is an answer: a resolver that is reached answers in milliseconds
        link.settimeout(1)
        try:
            link.connect(split(target))
            link.send(b"{_QUERY}")
            link.recv(512)
        except OSError as error:
            return "no answer: " + (error.strerror or "none in 1 s")
    return "answered"


def name(target):
    try:
        found = socket.getaddrinfo(target, 443)
    except OSError as error:
        return "no address: " + str(error.strerror)
    return "found " + found[0][4][0]


def run(argument):
    number, kind, target = argument.split(" ", 2)
    began = time.monotonic()
    try:
        got = globals()[kind](target)
    except Exception as error:
        got = "failed: " + type(error).__name__ + " " + str(error)[:120]
    taken = int((time.monotonic() - began) * 1000)
    # one write a line: lines of several threads must not mix
    os.write(1, (json.dumps({{"probe": number, "got": got, "ms": taken}}) + "\\n").encode())


threads = [threading.Thread(target=run, args=(a,), daemon=True) for a in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join({_LIMIT * 2})
"""

_SHELL: Final = f"""
has() {{ command -v "$1" >/dev/null 2>&1; }}
now() {{ n=$(date +%s%N); case $n in *N) echo "$(date +%s)000" ;; *) echo "${{n%??????}}" ;; esac; }}
get() {{ # url: its body through the proxy
  if has curl; then curl -sS --fail -m {_LIMIT} "$1" 2>&1
  else wget -q -O - -T {_LIMIT} -t 1 "$1" 2>&1; fi
}}
verdict() {{
  answer=$(get "https://{GATE_HOST}/verdict?$1") || {{ echo "failed: $answer"; return; }}
  case $answer in
  *'"decision"'*'"allow"'*) echo allow ;;
  *'"guard"'*'"findings"'*[Ss][Ss][Rr][Ff]*|*'"guard"'*'"findings"'*[Dd][Nn][Ss]*)
    case ${{answer##*'"findings"'}} in *private*|*listed*) echo deny ;; *) echo 'unresolved: says the guard' ;; esac ;;
  *'"decision"'*'"deny"'*) echo deny ;;
  *) echo "failed: $answer" ;;
  esac
}}
status() {{ # url: what the proxy said to it
  if has curl; then
    code=$(curl -s -o /dev/null -m {_LIMIT} -w '%{{http_connect}} %{{http_code}}' "$1")
    case $code in *403*|*502*) echo "refused: status $code" ;; *) echo "not refused: status $code" ;; esac
  else
    text=$(wget -O /dev/null -T {_LIMIT} -t 1 "$1" 2>&1) && {{ echo 'not refused'; return; }}
    case $text in *orbidden*|*'Bad Gateway'*) echo 'refused: by the proxy' ;; *) echo "failed: $text" ;; esac
  fi
}}
connect() {{ status "https://$1/"; }}
plain() {{ status "http://$1/"; }}
tcp() {{
  host=${{1%:*}} port=${{1##*:}}
  if has bash; then
    said=$(timeout {_LIMIT} bash -c 'exec 3<>"/dev/tcp/$1/$2" && echo connected' bash "$host" "$port" 2>&1)
  elif has curl; then
    # the time of the connection says it: how the transfer ends depends on what listens there
    said=$(curl -sv -o /dev/null --noproxy '*' -m {_LIMIT} -w 'at %{{time_connect}}' "telnet://$host:$port" \
      < /dev/null 2>&1)
    case $said in *'at 0.000000'*) ;; *) said=connected ;; esac
  elif has nc; then said=$(nc -z -v -w {_LIMIT} "$host" "$port" 2>&1 && echo connected)
  else
    said=$(wget --no-proxy -O /dev/null -T {_LIMIT} -t 1 "http://$host:$port/" 2>&1)
    case $said in *'connected.'*) said=connected ;; *'failed: '*|*'imed out'*|*"can't connect"*) ;; *) said=connected ;;
    esac
  fi
  case $said in
  # somebody answered, so there is a path
  *efused*) echo 'reached: connection refused' ;;
  *connected*) echo connected ;;
  *) echo unreachable ;;
  esac
}}
dns() {{
  host=${{1%:*}} port=${{1##*:}}
  if has bash; then
    answer=$(timeout 1 bash -c 'exec 3<>"/dev/udp/$1/$2" && printf "{_QUERY}" >&3 && head -c 1 <&3 | wc -c' \\
      bash "$host" "$port" 2>/dev/null)
  elif has nc; then answer=$(printf '{_QUERY}' | timeout 1 nc -u -w 1 "$host" "$port" 2>/dev/null | wc -c)
  else echo 'untested: the image has neither python3 nor bash nor nc'; return; fi
  if [ "${{answer:-0}}" -gt 0 ]; then echo answered; else echo 'no answer'; fi
}}
name() {{
  has getent || {{ echo 'untested: the image has neither python3 nor getent'; return; }}
  found=$(getent hosts "$1") && echo "found ${{found%% *}}" || echo 'no address'
}}
run() {{
  set -f; set -- $1; set +f
  began=$(now)
  got=$("$2" "$3" | tr -d '\\\\"' | tr '\\n' ' ' | cut -c 1-160)
  printf '{{"probe": %s, "got": "%s", "ms": %s}}\\n' "$1" "${{got% }}" "$(( $(now) - began ))"
}}
for argument; do run "$argument" & done
wait
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


PROBE: Final = f"""
if command -v python3 >/dev/null 2>&1; then exec python3 -c {_quoted(_PYTHON)} "$@"; fi
{_SHELL}
"""
"""Arguments: `number kind target`, one probe each."""
