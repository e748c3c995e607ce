#!/usr/bin/env bash
# All tests with branch coverage, sidecar processes and launcher processes included. `make test` runs the checks first.
set -euo pipefail
cd "$(dirname "$0")/.."

rm -f .coverage .coverage.*
export PATH="$PWD/.venv/bin:$PATH"
export COVERAGE_FILE="$PWD/.coverage" BOTTLE_ENGINE_KEEP=1
started=$(python3 scripts/engine.py status >/dev/null 2>&1 && echo no || echo yes)
finish() { [ "$started" = no ] || python3 scripts/engine.py stop --keep-data >/dev/null; }
trap finish EXIT
python3 scripts/engine.py start
# What needs no image is tested meanwhile; the tests say why, should it fail.
mkdir -p .build
(eval "$(python3 scripts/engine.py env)" && exec python scripts/images.py) >.build/images.log 2>&1 &
# Much of the time a test waits, for the engine or on purpose: two workers a core, the slow files first (tests/conftest.py).
coverage run -m pytest -n $((2 * $(nproc))) --dist loadfile --no-loadscope-reorder --durations 25 "$@"
coverage combine --quiet
coverage report
