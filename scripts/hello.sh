#!/usr/bin/env bash
# Launches manifests/hello.yaml: `hello.sh BACKEND`. Brings an engine up first where the backend needs one.
set -euo pipefail
backend=$1
cd "$(dirname "$0")/.."

if [ "$backend" = docker ]; then
  python3 scripts/engine.py start
  eval "$(python3 scripts/engine.py env)"
fi
exec .venv/bin/bottle-fsm apply manifests/hello.yaml --backend "$backend"
