"""From raw results to docs/benchmarks.md: `page.py` writes the page; a test makes it again and compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from figures import RESULTS

PAGE: Final = RESULTS.parent / "benchmarks.md"
_HEAD: Final = """\
# Benchmarks

Ratios within one run, against a floor or a peer that is stated with each. This page is made from the raw results in
`docs/bench-results/` by `bench/page.py`; `make bench` measures everything anew.
"""


def page(folder: Path = RESULTS) -> str:
    """Return the whole page."""
    parts = [_HEAD]
    for name, section in _SECTIONS.items():
        path = folder / f"{name}.json"
        if path.exists():
            found = json.loads(path.read_text())
            parts.append(section(found) + _conditions(found["conditions"]))
    return "\n".join(parts)


def _conditions(found: dict[str, str]) -> str:
    return f"\nConditions: {', '.join(f'{name} {value}' for name, value in found.items())}.\n"


def _durable_step(found: dict[str, Any]) -> str:
    step, floor = found["durable step"], found["four commits"]
    return f"""\
## One durable step

Intent, an effect that does nothing, done: two fsync'd commits with hash chain, epoch check and record, against four
bare SQLite commits of one row of the same length ({found["event bytes"]} bytes) on the same disk; {found["steps"]} of
each in alternating blocks. Limit: {found["limit"]:.2f}. `bench/durable_step.py`

| | median | range |
|---|---|---|
| durable step | {step["median ms"]} ms | {step["range"]} |
| four commits | {floor["median ms"]} ms | {floor["range"]} |
| **ratio** | **{found["ratio"]}** | |
"""


def _launch_overhead(found: dict[str, Any]) -> str:
    inside = ", ".join(f"{name} {value} ms" for name, value in found["inside, ms"].items())
    return f"""\
## What durability costs a launch

{found["runs"]} launches on a real Docker engine against as many by a peer that makes the same engine calls without
journal, lock and looks at the world; both alternate. *Share* is the time measured inside journal, lock and looks of
the durable launch. Limit of the share: {found["limit"]:.0%}. `bench/launch_overhead.py`

| | |
|---|---|
| durable launch | {found["durable launch s"]} s |
| launch by the peer | {found["bare launch s"]} s |
| inside | {inside} |
| **share** | **{found["share"]:.1%}** |
| **ratio** | **{found["ratio"]}** |
"""


def _resume_time(found: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| `{r['state']}` | {r['killed']} | {r['wall']} s | {r['start-up']} s | {r['settle']} s | {r['rest']} s "
        f"| {r['remaining']} s | {r['allowed']} s |"
        for r in found["rows"]
    )
    return f"""\
## Resume after a kill at each state

The fastest of {found["runs"]} on both sides, on a real Docker engine. *Rest* is the resume without process start-up and
end and settle time; *remaining* is what undisturbed launches of the same run took from that state to being ready,
*allowed* that plus 10 % of a full launch ({found["full launch s"]} s). `bench/resume_time.py`

| state | killed when | resume | start-up, end | settle | rest | remaining | allowed |
|---|---|---|---|---|---|---|---|
{rows}
"""


def _many_bottles(found: dict[str, Any]) -> str:
    parts = []
    for verb in ("status", "resume --all"):
        rows = "\n".join(
            f"| {verb} | {number} | {seconds} s | {found[verb]['ms each'][number]} ms |"
            for number, seconds in found[verb]["seconds"].items()
        )
        parts.append(rows)
    growth = ", ".join(f"{verb} × {found[verb]['growth']}" for verb in ("status", "resume --all"))
    body = "\n".join(parts)
    return f"""\
## Many bottles

On the simulated engine, through the command line; the time of `status` with no bottle ({found["no bottle, s"]} s) is
taken off before it is divided. For resumes, *each* is without the simulated engine's own time: it is one file, read and
written whole at every call. Growth of the time for each bottle, from the second-largest number to the largest:
{growth}; limit {found["limit"]}. `bench/many_bottles.py`

| verb | bottles | time | each |
|---|---|---|---|
{body}
"""


def _local_launch(found: dict[str, Any]) -> str:
    rows = "\n".join(f"| of it `{name}` | {seconds} s |" for name, seconds in found["parts s"].items())
    met = "" if found["ratio"] <= found["limit"] else _LOCAL_NOT_MET
    return f"""\
## A warm launch on the local backend

{found["runs"]} launches of `manifests/hello.yaml`, from the command line to `provisioned`, trust gate and self-test
included, against starting mitmdump with a new CA and running `update-ca-certificates` once; all alternate. Limit:
{found["limit"]}. `bench/local_launch.py`
{met}
| | |
|---|---|
| launch | {found["launch s"]} s |
{rows}
| mitmdump | {found["mitmdump s"]} s |
| update-ca-certificates | {found["update-ca-certificates s"]} s |
| **ratio** | **{found["ratio"]}** |
"""


_LOCAL_NOT_MET: Final = """
**Not met.** The floor knows neither the guard, nor the launcher's own start, nor the gate, which asks every tool of
this machine (`trust_gate`; Java and pip are half of it), nor what is provisioned: each is a part of every launch.
"""


def _egress(found: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {size} | {hop} | {r['p50 ms']} ms | {r['p99 ms']} ms | {r['MB/s']} MB/s |"
        for size, ways in found["sizes"].items()
        for hop, r in ways.items()
        if hop != "ratio"
    )
    ratios = ", ".join(f"{size} {ways['ratio']}" for size, ways in found["sizes"].items())
    met = "" if found["ratio"] <= found["limit"] else _EGRESS_NOT_MET
    return f"""\
## What the way out costs

One request after the other on a connection that stays open, in turn without a hop, through mitmproxy with nothing
added, and through interceptor and built-in guard as a bottle has them; all on loopback, the answer's body of the size
given. Ratio of two hops to mitmproxy alone, median: {ratios}; limit for 1 KB: {found["limit"]}. `bench/egress.py`
{met}
| body | way | p50 | p99 | throughput |
|---|---|---|---|---|
{rows}
"""


_EGRESS_NOT_MET: Final = """
**Not met.** Before a request is sent, the guard is asked about its URL and about its headers, each a question and an
answer between two processes of Python, with the search for secrets between them; that is nearly all of the difference.
The body of an answer costs one more copy.
"""

_SECTIONS: Final = {
    "durable-step": _durable_step,
    "launch-overhead": _launch_overhead,
    "resume-time": _resume_time,
    "many-bottles": _many_bottles,
    "local-launch": _local_launch,
    "egress": _egress,
}

if __name__ == "__main__":
    PAGE.write_text(page())
