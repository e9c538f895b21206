"""curate: find the training rows that are mislabeled or that harm, from one trained PyTorch checkpoint.

    import curate
    run = curate.scan(train, model=network)     # a data set and a torch module in memory, or paths
    run.to_pandas("scores")                     # every row with its suspicion
    curate.Run.open()                           # a stored run, again
    curate.engine.influence_of(...)             # the numerics alone, on arrays

``help(curate.scan)`` tells what may be given. This module knows the version and the doors for Python, which are
imported when they are asked for: ``import curate`` and ``curate --help`` cost nothing.
"""

TYPE_CHECKING = False  # as of typing, whose import takes longer than the rest of what stands before the signals
if TYPE_CHECKING:
    from curate import engine
    from curate.api.run import Run
    from curate.api.scanning import scan
    from curate.errors import CurateError

__all__ = ["CurateError", "Run", "__version__", "engine", "scan"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "Run":
        from curate.api.run import Run

        return Run
    if name == "scan":
        from curate.api.scanning import scan

        return scan
    if name == "CurateError":
        from curate.errors import CurateError

        return CurateError
    if name == "engine":
        from importlib import import_module

        return import_module("curate.engine")
    raise AttributeError(f"module 'curate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
