"""Every call of a computing function in the tests is checked against the shapes in its signature.

Tests run on all cores, one process each (pytest-xdist): a process, and what it starts, takes one thread.
"""

import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A suite that a shell runs in the background ignores it, and so would every command that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

install_import_hook(["curate.engine", "curate.stages"], "beartype.beartype")
