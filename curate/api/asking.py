"""What is asked of a stored run beside reading it: an export, an audit, and what trains again.

Knows how a run's settings, and what the caller holds, become the questions of other rooms. Torch is imported here, by
``Run``'s methods when they are called.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from curate.api.auditing import audit_run
from curate.api.run import Run
from curate.api.scanning import own_torch
from curate.audit.telling import AuditTold
from curate.errors import DataError, UsageError
from curate.experiments.cleaned import CleaningEffect, Retraining
from curate.experiments.cleaned import compare_cleaned as compared
from curate.experiments.training import Training
from curate.experiments.verify.protocol import Verification
from curate.experiments.verify.protocol import verify as verified
from curate.experiments.verify.refit import Recipe
from curate.export import Exported, Pictures, keep_off
from curate.export import export as written
from curate.process.progress import Progress
from curate.reports.gather import read_run
from curate.settings.merge import ScanSettings, stored_settings
from curate.settings.specs import MEMORY, split_kind, split_model
from curate.stages.joining import Together
from curate.stages.memory import passes_of
from curate.stages.prepare import load, read
from curate.store import Store


def export(
    run: Run, out: Path, *, allow_eval: bool, apply_suggestions: bool, pictures: Pictures, roots: Sequence[str]
) -> Exported:
    """As ``Run.export`` says."""
    with Store.open(run.path) as store:
        if split_kind(read_run(store, run.id)[0].settings["train"])[0] == MEMORY:
            raise DataError(
                "These rows were given in Python and lie in no file, so there is none to write anew.",
                "Run.cleaned, or to_pandas('cleaned'), has every row's label after verdicts.",
            )
        keep_off(store, run.id, [out])
        return written(
            store,
            run.id,
            out,
            allow_eval=allow_eval,
            apply_suggestions=apply_suggestions,
            pictures=pictures,
            media_root=roots,
        )


def audit(run: Run, rows: int | None, *, width: float | None, anew: bool, seed: int) -> AuditTold:
    """As ``Run.audit`` says."""
    if width is not None and not 0 < width < 1:
        raise UsageError(f"width={width}: it is a share, above 0 and under 1.", "Like width=0.05.")
    if rows is not None and rows < 1:
        raise UsageError(f"rows={rows}: at least one row is drawn.", "Like rows=50.")
    with Store.open(run.path) as store:
        return audit_run(store, run.id, rows, width, seed, anew=anew)


def verify(
    run: Run,
    *,
    minutes: float,
    at: str,
    retrain: str | Callable[..., Any] | None,
    control: bool,
    progress: bool | None,
    recipe: dict[str, float],
) -> Verification:
    """As ``Run.verify`` says."""
    known = Recipe.__dataclass_fields__
    for name in recipe:
        if name not in known:
            raise UsageError(f"There is no '{name}' of a refit.", f"There are {', '.join(known)}.")
    with _again(run) as settings:
        return verified(
            settings,
            Together(passes_of(settings), Progress.of_caller(progress)),
            at=at,
            recipe=Recipe(retrain=retrain, **recipe),  # type: ignore[arg-type]
            minutes=minutes,
            announce=lambda plan: None,
            control=control,
            held=run.held,
        )


def compare_cleaned(
    run: Run, train: str | Callable[..., Any], asked: tuple[int, int | None, bool], progress: bool | None
) -> CleaningEffect:
    """As ``Run.compare_cleaned`` says; ``asked`` are seeds, parts and whether suggestions count."""
    told = Progress.of_caller(progress)
    with _again(run) as settings:
        training = Training.of(train)
        data = read(settings, load(settings, told, run.held), told)
        return compared(run.path, data, training, Retraining(*asked, run.id), seed=settings.seed, progress=told)


@contextmanager
def _again(run: Run) -> Iterator[ScanSettings]:
    """The settings that the run was made with, and torch as a scan finds it. `UsageError` if they cannot be followed.

    Code that a database names is run if this process scanned with it, or the database lies in the current folder.
    """
    with Store.open(run.path) as store:
        settings = replace(stored_settings(read_run(store, run.id)[0].settings), db=str(run.path))
    if run.held is None:
        if settings.model is not None and split_kind(settings.model)[0] == MEMORY:
            raise UsageError(
                f"Run {run.id} was made with a model in memory, and this process does not hold it.",
                "Ask the run that curate.scan gave, or scan again.",
            )
        code = [settings.train, settings.eval or ""]
        named = [spec for spec in code if split_kind(spec)[0] == "python"]
        named += [settings.model] if settings.model is not None and split_model(settings.model)[0] is None else []
        if named and not run.path.resolve().is_relative_to(Path.cwd()):
            raise UsageError(
                f"{run.path} lies outside of the current folder and names Python code: {named[0]}.",
                "Go to its folder, or scan the data again: code of others is not run unasked.",
            )
    with own_torch():
        yield settings
