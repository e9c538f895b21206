"""curate: find the training rows that are mislabeled or that harm, from one trained PyTorch checkpoint.

This module knows the version, and the door for Python and notebooks (``curate.Run``), which is imported when it is
asked for: ``import curate`` and ``curate --help`` cost nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.api.run import Run

__all__ = ["Run", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Run":
        from curate.api.run import Run

        return Run
    raise AttributeError(f"module 'curate' has no attribute {name!r}")
