"""Every call of a computing function in the tests is checked against the shapes in its signature.

Tests run on all cores, one process each (pytest-xdist): a process, and what it starts, takes one thread.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook(
    [
        "curate.curvature",
        "curate.heads",
        "curate.influence",
        "curate.neighbours",
        "curate.probe",
        "curate.solvers",
        "curate.suspicion",
    ],
    "beartype.beartype",
)
