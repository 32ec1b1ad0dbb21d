from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from terraflow.stack.databases.migrate import copy_database


def test_copy_database_takes_what_a_killed_process_left_in_the_journal(tmp_path: Path) -> None:
    code = (
        "import os, signal, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute('PRAGMA journal_mode=WAL')\n"
        "c.execute('create table runs (name)')\n"
        "c.execute(\"insert into runs values ('kept')\")\n"
        "c.commit()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    done = subprocess.run([sys.executable, "-c", code, str(source)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.path.getsize(f"{source}-wal")
    copy_database(source, target)
    assert sqlite3.connect(target).execute("select name from runs").fetchall() == [("kept",)]
