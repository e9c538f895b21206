"""Every call of a computing function in the tests is checked against the shapes in its signature."""

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
