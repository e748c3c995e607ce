"""The shell scripts that run inside a bottle, for POSIX sh with coreutils or busybox. Text only; nothing runs here."""

from __future__ import annotations

from typing import Final

from bottle_fsm.places import AGENT_ENV_FILE, RUN_DIR

TIMEOUT_CODES: Final = frozenset({124, 137, 143})
"""What `timeout` leaves when it had to end the command."""
KILL_AFTER: Final = 2
"""Seconds between the polite signal and the other one."""

MARK_PREFIX: Final = "bottle-step:"
"""`$0` of every command that we start, so that the engine's list of running commands tells ours from a person's."""
MARK_VARIABLE: Final = "BOTTLE_EXEC"

BAD_DIGEST: Final = 91
BAD_PATH: Final = 92
NOT_FOUND: Final = 93

ENTER: Final = f"if [ -r {AGENT_ENV_FILE} ]; then . {AGENT_ENV_FILE}; fi\n"
"""Secret variables come from a file on tmpfs, so that no secret stands where the engine shows it."""

RUN: Final = (
    "n=$1 t=$2; shift 2\n"
    + ENTER
    + f"""if [ "$n" -lt 0 ]; then timeout -k {KILL_AFTER} "$t" "$@" </dev/null
else head -c "$n" | timeout -k {KILL_AFTER} "$t" "$@"; fi
"""
)
"""`RUN LENGTH SECONDS COMMAND…`: the length ends standard input on transports that cannot be closed by half."""

INTERACT: Final = ENTER + 'exec "$@"\n'

KILL: Final = f"""
for d in /proc/[0-9]*; do
  p=${{d#/proc/}}
  [ "$p" = $$ ] && continue
  if tr '\\0' '\\n' < "$d/environ" 2>/dev/null | grep -qx "{MARK_VARIABLE}=$1"; then kill -9 "$p" 2>/dev/null; fi
done
exit 0
"""
"""`KILL MARK`: end every process that descends from the command with this mark."""

_LIBRARY: Final = f"""
set -u
target=$1 digest=$2 mode=$3 id=$4
me=$(id -u)
say() {{ echo "$2" >&2; exit "$1"; }}
parent=${{target%/*}}
name=${{target##*/}}
[ -n "$name" ] || say {BAD_PATH} "names no file: $target"

# Walk down component by component: a link that the agent planted must lead nowhere, and as root no step may be the
# agent's to move.
check() {{
  if [ -L "$1" ] && [ "$(stat -c %u "$1")" != 0 ]; then say {BAD_PATH} "a symbolic link stands in the way: $1"; fi
  [ "$me" = 0 ] || return 0
  # Where a single user is mapped, nobody inside can be the owner of what is not his: it is the system's.
  if [ -n "$alone" ] && [ ! -w "$1" ]; then return 0; fi
  [ "$(stat -L -c %u "$1")" = 0 ] || say {BAD_PATH} "belongs to another user: $1"
  case $(stat -L -c %a "$1") in 1???) ;; *[2367]) say {BAD_PATH} "anyone may write in it: $1" ;; esac
}}
alone=$(grep -x ' *0 *[0-9]* *1' /proc/self/uid_map 2>/dev/null)
[ "$me" = 0 ] && umask 022 || umask 077
walk=
old_ifs=$IFS; IFS=/; set -f
for part in $parent; do
  [ -n "$part" ] || continue
  walk=$walk/$part
  if [ -L "$walk" ] || [ -e "$walk" ]; then check "$walk"
  else
    mkdir "$walk" 2>/dev/null || [ -d "$walk" ] || say {BAD_PATH} "cannot make the directory $walk"
    check "$walk"
  fi
  [ -d "$walk" ] || say {BAD_PATH} "is no directory: $walk"
done
IFS=$old_ifs; set +f
umask 077
trap 'exit 143' TERM
matches() {{ sum=$(sha256sum < "$1") && [ "${{sum%% *}}" = "$digest" ]; }}
if [ -w {RUN_DIR} ] && command -v flock >/dev/null 2>&1; then
  exec 9>"{RUN_DIR}/.lock-$me" && flock 9
fi
"""

PUT_FILE: Final = (
    _LIBRARY
    + f"""
tmp=$parent/.bottle-$id
trap 'rm -f -- "$tmp"' EXIT
rm -f -- "$tmp"
set -C
cat > "$tmp" || say {BAD_PATH} "cannot write in ${{parent:-/}}"
set +C
matches "$tmp" || say {BAD_DIGEST} "other bytes arrived than were sent"
chmod "$mode" "$tmp" && mv -fT -- "$tmp" "$target" || say {BAD_PATH} "cannot move it into place"
"""
)
"""`PUT_FILE TARGET DIGEST MODE ID` with the bytes on standard input."""

PUT_TREE: Final = (
    _LIBRARY
    + f"""
if [ -w "${{parent:-/}}" ]; then stage=$parent/.bottle-$id; else stage=$target/.bottle-$id; fi
if [ -L "$target" ]; then say {BAD_PATH} "a symbolic link stands in the way: $target"; fi
if [ "$me" = 0 ] && [ -d "$target" ]; then
  odd=$(find "$target" ! -user 0 2>/dev/null | head -n 1)
  [ -z "$odd" ] || say {BAD_PATH} "belongs to another user: $odd"
fi
trap 'rm -rf -- "$stage"' EXIT
rm -rf -- "$stage"
mkdir "$stage" || say {BAD_PATH} "cannot write in ${{parent:-/}}"
cat > "$stage/tar" || say {BAD_PATH} "cannot write in ${{parent:-/}}"
matches "$stage/tar" || say {BAD_DIGEST} "other bytes arrived than were sent"
mkdir "$stage/tree" && tar -xpomf "$stage/tar" -C "$stage/tree" || say {BAD_PATH} "cannot unpack"
rm -f "$stage/tar"
merge() {{
  for e in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    [ -e "$e" ] || [ -L "$e" ] || continue
    n=$2/${{e##*/}}
    if [ -d "$n" ] && [ ! -L "$n" ]; then
      if [ -d "$e" ] && [ ! -L "$e" ]; then merge "$e" "$n"; continue; fi
      say {BAD_PATH} "a directory stands where a file shall go: $n"
    fi
    mv -fT -- "$e" "$n" || say {BAD_PATH} "cannot move it into place: $n"
  done
}}
if [ -d "$target" ]; then merge "$stage/tree" "$target"
else mv -fT -- "$stage/tree" "$target" || say {BAD_PATH} "cannot move it into place"; fi
"""
)
"""`PUT_TREE TARGET DIGEST - ID` with a tar on standard input. Into an existing directory its entries are merged."""

READ: Final = f"""[ -e "$1" ] || {{ echo "no such file" >&2; exit {NOT_FOUND}; }}
exec cat -- "$1"
"""

OUT: Final = f"""[ -r "$1" ] || {{ echo "not there, or not readable" >&2; exit {NOT_FOUND}; }}
p=${{1%/*}}
exec tar -cf - -C "${{p:-/}}" -- "${{1##*/}}"
"""
