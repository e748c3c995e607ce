#!/usr/bin/env bash
# Launches manifests/hello.yaml: `hello.sh BACKEND`. Brings up first what the backend needs: an engine, or bubblewrap.
set -euo pipefail
backend=$1
cd "$(dirname "$0")/.."

install() { # package…: as root directly, else by sudo on a terminal, else say how
  if [ "$(id -u)" = 0 ]; then
    echo "Installing from the distribution: $* (a few seconds, under 1 MB)." >&2
    { apt-get update -qq && apt-get install -y -qq "$@"; } >/dev/null
  elif [ -t 0 ] && command -v sudo >/dev/null && command -v apt-get >/dev/null; then
    echo "Installing from the distribution, with sudo: $*" >&2
    sudo apt-get install -y "$@"
  else
    echo "error: missing: $*. Run this and try again: sudo apt-get install -y $*" >&2
    exit 1
  fi
}

if [ "$backend" = docker ]; then
  python3 scripts/engine.py start
  eval "$(python3 scripts/engine.py env)"
elif [ "$backend" = local ]; then
  missing=()
  command -v bwrap >/dev/null || missing+=(bubblewrap)
  [ -x /usr/bin/python3 ] || missing+=(python3)
  [ -e /usr/sbin/update-ca-certificates ] || missing+=(ca-certificates)
  [ "${#missing[@]}" = 0 ] || install "${missing[@]}"
fi
exec .venv/bin/bottle-fsm apply manifests/hello.yaml --backend "$backend"
