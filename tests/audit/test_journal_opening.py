from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root

OPEN = """
import sys
from pathlib import Path
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root
root = open_root(Path(sys.argv[1]))
Journal(root.path, root.root_id).close()
"""


def test_opens_a_new_journal_in_several_processes_at_once(tmp_path: Path) -> None:
    for attempt in range(3):
        state = tmp_path / str(attempt)
        processes = [
            subprocess.Popen([sys.executable, "-c", OPEN, str(state)], stderr=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        errors = [process.communicate()[1] for process in processes]
        assert errors == [""] * 4
        root = open_root(state)
        journal = Journal(root.path, root.root_id)
        assert [event.kind for event in journal.events()] == ["root"]
        journal.close()
