#!/usr/bin/env bash
# Every benchmark, one after the other, and the page. A figure over its limit fails, after all were measured.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
eval "$(python3 scripts/engine.py env)"
over=0
for name in durable_step launch_overhead resume_time many_bottles local_launch egress; do
  python "bench/$name.py" || over=1
done
python bench/page.py
exit "$over"
