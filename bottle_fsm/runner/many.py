"""Several bottles at once: one thread and one machine a bottle, one journal; one failure does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from bottle_fsm.errors import BottleError
from bottle_fsm.runner.verbs import Outcome

Result = Outcome | BottleError


def run_many(
    work: Mapping[str, Callable[[], Outcome]], *, parallel: int, ended: Callable[[str, Result], None]
) -> Mapping[str, Result]:
    """Run one piece of work a bottle, at most `parallel` at a time; return what each came to, in the given order.

    `ended` is called from the working threads, once a bottle. Exceptions that are not ours are raised after all ended.
    """

    def one(bottle: str) -> Result:
        try:
            result: Result = work[bottle]()
        except BottleError as error:
            result = error
        ended(bottle, result)
        return result

    if len(work) == 1:
        return {bottle: one(bottle) for bottle in work}
    with ThreadPoolExecutor(max_workers=max(1, parallel), thread_name_prefix="bottle") as pool:
        futures = {bottle: pool.submit(one, bottle) for bottle in work}
    return {bottle: future.result() for bottle, future in futures.items()}


def exit_code(results: Sequence[Result]) -> int:
    """Return the process exit code for several results: the highest."""
    return max((exit_code_of(r) for r in results), default=0)


def exit_code_of(result: Result) -> int:
    """Return the exit code of one result; a signal gives 128 + its number."""
    if isinstance(result, Outcome):
        return 0
    signum = getattr(result, "signum", 0)
    return 128 + signum if signum else result.exit_code
