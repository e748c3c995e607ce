#!/usr/bin/env bash
# All checks, then all tests with branch coverage: `test.sh PYTHON [PYTEST_OPTION…]`. What takes long and needs nobody
# (the engine, then the images) is begun first and goes on meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
system_python=$1
shift

rm -f .coverage .coverage.*
export PATH="$PWD/.venv/bin:$PATH"
export COVERAGE_FILE="$PWD/.coverage" BOTTLE_ENGINE_KEEP=1
started=$(python3 scripts/engine.py status >/dev/null 2>&1 && echo no || echo yes)
finish() { [ "$started" = no ] || python3 scripts/engine.py stop --keep-data >/dev/null; }
trap finish EXIT
mkdir -p .build
environment() { make --no-print-directory PYTHON="$system_python" .venv/.ready; }
# In the background nobody can be asked for a password, and two installations of packages would meet.
if [ "$(id -u)" = 0 ] && "$system_python" -c 'import ensurepip' 2>/dev/null; then
  python3 scripts/engine.py start >.build/engine.log 2>&1 &
  engine=$!
  environment
  wait "$engine" || { cat .build/engine.log >&2; exit 1; }
  cat .build/engine.log
else
  environment
  python3 scripts/engine.py start
fi
# What needs no image is tested meanwhile; the tests say why, should it fail.
(eval "$(python3 scripts/engine.py env)" && exec python scripts/images.py) >.build/images.log 2>&1 &
make --no-print-directory PYTHON="$system_python" check
# Much of the time a test waits, for the engine or on purpose: two workers a core, the slow files first (tests/conftest.py).
coverage run -m pytest -n $((2 * $(nproc))) --dist loadfile --no-loadscope-reorder --durations 25 "$@"
coverage combine --quiet
coverage report
