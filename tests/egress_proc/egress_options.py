"""The interceptor as it is, which tells once it runs what mitmproxy's options and addons are then."""

from __future__ import annotations

import sys
from typing import Any

from mitmproxy import ctx

from bottle_fsm.egress import interceptor
from bottle_fsm.egress.jsonlines import JsonLines


def main() -> int:
    running = interceptor._WhenRunning.running

    async def tell_and_run(self: Any) -> None:
        options = {name: option.current() for name, option in ctx.options.items()}
        JsonLines().write("options", values=options, addons=sorted(ctx.master.addons.lookup))
        await running(self)

    setattr(interceptor._WhenRunning, "running", tell_and_run)  # noqa: B010 - an assignment would not type
    return interceptor.main()


if __name__ == "__main__":
    sys.exit(main())
