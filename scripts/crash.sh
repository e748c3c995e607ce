#!/usr/bin/env bash
# The whole crash proof: `crash.sh SEED FAKE_PAIRS ENGINE_KILLS`. Writes docs/crash-results/ and docs/crash-matrix.md.
set -euo pipefail
cd "$(dirname "$0")/.."
seed=$1 pairs=$2 kills=$3
results=docs/crash-results
mkdir -p "$results"
export PATH="$PWD/.venv/bin:$PATH"

head_line() { # where kind random command
  python - "$@" "$seed" <<'PYTHON'
import json, os, platform, subprocess, sys
where, kind, random, command, seed = sys.argv[1:]
commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
print(json.dumps({"where": where, "kind": kind, "random": random == "yes", "command": command, "seed": int(seed), "commit": commit, "machine": machine}))
PYTHON
}

command="make crash SEED=$seed PAIRS=$pairs KILLS=$kills"
halves() { # name where kind random program options…: two processes share the cases; a wrong case ends it all
  local name=$1 where=$2 kind=$3 random=$4 program=$5
  shift 5
  local first second
  python "tests/crash/$program" --seed "$seed" --share 0/2 "$@" >"$results/.$name.0" & first=$!
  python "tests/crash/$program" --seed "$seed" --share 1/2 "$@" >"$results/.$name.1" & second=$!
  wait "$first" || wrong=1
  wait "$second" || wrong=1
  { head_line "$where" "$kind" "$random" "$command"; cat "$results/.$name.0" "$results/.$name.1"; } >"$results/$name.jsonl"
  rm "$results/.$name.0" "$results/.$name.1"
}

wrong=0
halves 1-fake-every-point fake "every point of every scenario" no crash_sweep.py
halves 2-fake-pairs fake "a second kill during the follow-up" yes crash_sweep.py --pairs "$pairs" --only-pairs
python3 scripts/engine.py start
if [ -n "$(python3 scripts/engine.py env)" ]; then eval "$(python3 scripts/engine.py env)"; fi
halves 3-engine engine "points drawn by the seed" yes crash_engine.py --kills "$kills"
halves 4-local local "points drawn by the seed" yes crash_engine.py --backend local --kills "$kills"
python tests/crash/crash_table.py "$results" >docs/crash-matrix.md
grep -E 'kills,' docs/crash-matrix.md
exit "$wrong"
