#!/usr/bin/env bash
# Makes the project's virtual environment: `environment.sh PYTHON VENV`. Says what it installs and why it cannot.
set -euo pipefail
python=$1
venv=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "error: $python is not Python 3.11 or newer. Install one and run: make PYTHON=/path/to/python3.11 …" >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  command="apt-get install -y python3-venv"
  if [ "$(id -u)" = 0 ]; then
    echo "Installing Debian's python3-venv (a few seconds, 10 MB): the virtual environment needs it." >&2
    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
  elif [ -t 0 ] && command -v sudo >/dev/null; then
    echo "Debian's python3-venv is missing; installing it with sudo." >&2
    sudo $command
  else
    echo "error: Debian's python3-venv is missing. Run this and try again: sudo $command" >&2
    exit 1
  fi
fi

echo "Making $venv with bottle-fsm and its development tools (about a minute, 350 MB) …" >&2
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1' 2> >(grep -v '^WARNING: Location' >&2)
"$venv/bin/python" -m pip install --quiet --editable . --group dev 2> >(grep -v '^WARNING: Location' >&2)
touch "$venv/.ready"
