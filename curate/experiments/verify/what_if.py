"""What if rows were left out or relabelled? The change that influence predicts, beside the change that a refit makes.

The drift of a refit without any change is subtracted. Knows what is compared; leaves fitting to `refit` and the
predictions to `predict`. Nothing is stored.
"""

from dataclasses import dataclass
from pathlib import Path

from curate.experiments.training import TrainingSet
from curate.experiments.verify.refit import Recipe
from curate.experiments.verify.rows import select
from curate.experiments.verify.setting import Effect, prepare
from curate.settings.merge import ScanSettings
from curate.stages.agreement import read_by_all
from curate.stages.heads import fit_heads
from curate.stages.joining import Together


@dataclass(frozen=True)
class WhatIf:
    """Predicted beside actual, of the same rows."""

    change: str
    """`drop` or `relabel`."""
    rows: int
    what: str
    """Which rows, in words."""
    measured_on: str
    targets: int
    loss: float
    """Mean loss of the target rows before, nats."""
    accuracy: float
    predicted: Effect
    actual: Effect
    """Refit with the change against refit without one."""
    drift: Effect
    """Refit without the change against the model as it is."""
    prediction: str
    refit: str
    warnings: tuple[str, ...] = ()
    """What makes all of it doubtful."""


def what_if(
    settings: ScanSettings,
    process: Together,
    change: str,
    rows: str,
    *,
    at: str,
    recipe: Recipe,
) -> WhatIf:
    """``rows`` as `select` takes them; two processes make a refit each.

    Raises `UsageError` where they, or the options, name nothing.
    """
    progress = process.progress
    _, data = read_by_all(settings, progress, process.passes)
    heads = fit_heads(data, settings.damping)
    selection = data.passes.told(lambda: select(Path(settings.db), data, rows, relabel=change == "relabel"))
    setting = prepare(settings, data, heads, at=at, recipe=recipe, progress=progress)
    predicted = setting.predicted(selection)
    trainings = [TrainingSet.of(data.train), setting.changed(selection)]
    with progress.stage("Refits", 2) as advance:
        refitted = []
        for training in trainings[data.passes.own(2)]:
            refitted.append(setting.refit(training))
            advance(1)
        unchanged, changed = [logits for of_one in data.passes.gathered(refitted) for logits in of_one]
    return WhatIf(
        change,
        len(selection.rows),
        selection.words,
        setting.targets.name,
        len(setting.targets.rows),
        setting.loss(setting.before),
        float(setting.right(setting.before).double().mean()),
        predicted,
        setting.change(unchanged, changed),
        setting.change(setting.before, unchanged),
        setting.predictor.how,
        setting.refit.recipe,
        data.warnings,
    )
