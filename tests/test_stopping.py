"""SIGINT and SIGTERM: 130 and 143 from the first line on, within two seconds, and the run is marked.

And what else a process settles before it imports anything: how its threads wait.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
SIGNALS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
SLOW = """
import time
from pathlib import Path
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 2)
    def forward(self, x):
        if len(x) > 32:  # more than a scan looks at before its run begins
            Path("reading").touch()
            while True:
                try:
                    time.sleep(60)
                except BaseException:
                    if not {deaf}:
                        raise
        return self.head(x)
"""


def start(*command: str, cwd: Path, **more: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **more}
    return subprocess.Popen(
        [sys.executable, *command], cwd=cwd, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def until(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")


@pytest.mark.parametrize(("number", "status", "word"), SIGNALS)
def test_while_python_imports_it_ends_at_once(tmp_path: Path, number: int, status: int, word: str) -> None:
    # A module that the command line imports first, made slow: the signal arrives in the middle of it.
    (tmp_path / "click.py").write_text("import time, pathlib\npathlib.Path('importing').touch()\ntime.sleep(60)\n")
    process = start("-m", "curate", "runs", cwd=tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    until(tmp_path / "importing")
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == status
    assert said == f"curate: {word}\n"


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize(("number", "status", "word"), SIGNALS)
def test_a_scan_ends_and_its_run_is_marked(tmp_path: Path, number: int, status: int, word: str, deaf: bool) -> None:
    """``deaf``: as a library that swallows everything, or a computation that never comes back to Python."""
    (tmp_path / "slow.py").write_text(SLOW.format(deaf=deaf))
    np.savez(tmp_path / "rows.npz", x=np.arange(80.0).reshape(40, 2) % 7, y=np.arange(40) % 2)
    process = start("-m", "curate", "scan", "rows.npz", "--model", "slow.py:Slow", cwd=tmp_path)
    until(tmp_path / "reading")
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == status
    assert said.splitlines()[-1] == f"curate: {word}"
    assert "Traceback" not in said
    with contextlib.closing(sqlite3.connect(tmp_path / ".curate" / "curate.db")) as database:
        assert database.execute("SELECT status, finished IS NOT NULL FROM runs").fetchall() == [("interrupted", 1)]


def test_the_installed_command_heeds_signals_too() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"curate": "curate.__main__:main"}


@pytest.mark.parametrize(("given", "taken"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_that_wait_for_each_other_sleep(tmp_path: Path, given: dict[str, str], taken: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    look = "import atexit, os; atexit.register(lambda: print(os.environ['OMP_WAIT_POLICY']))"
    (tmp_path / "look.py").write_text(
        f"{look}\nimport sys; sys.argv[1:] = ['--version']\nimport curate.__main__ as c; c.main()"
    )
    ran = subprocess.run(
        [sys.executable, "look.py"],
        cwd=tmp_path,
        env={**environment, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == taken
