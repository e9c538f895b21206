"""Every call of a computing function in the tests is checked against the shapes in its signature.

Tests run on all cores, one process each (pytest-xdist): a process, and what it starts, takes one thread. None of the
caller's settings reach a test; ``curate`` itself is run by ``command.curate``.
"""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# As of the command: a test that asks for several threads would have them spin beside the other tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Of a process that a test starts a fifth of the imports would go into compiling what the one before it compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import shapes

for name in list(os.environ):
    if name.startswith("CURATE_") or name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        del os.environ[name]

# A slow machine is no fault of an example.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A suite that a shell runs in the background ignores it, and so would every command that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

shapes.install(["curate.engine", "curate.stages"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
