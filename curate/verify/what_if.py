"""What if rows were left out or relabelled? The change that influence predicts, beside the change that a refit makes.

The drift of a refit without any change is subtracted. Knows what is compared; leaves fitting to `refit` and the
predictions to `predict`. Nothing is stored.
"""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.config import ScanSettings
from curate.errors import UsageError
from curate.heads import Heads, fit_heads, with_ones
from curate.influence.deep import residuals
from curate.influence.predict import AtHead, Predictor, ThroughNetwork
from curate.influence.stage import deep_objective, solver_for
from curate.influence.targets import Targets, choose_targets
from curate.prepare import Data, load, read
from curate.probe import probe_inputs
from curate.progress import Progress
from curate.verify.refit import FineTune, ProbeRefit, Recipe, Refit, Retrain, TrainingSet
from curate.verify.rows import Selection, select


@dataclass(frozen=True)
class Change:
    """What changes: the mean loss of the target rows (nats), and which of their predictions turn right or wrong."""

    loss: float
    turn_right: int
    turn_wrong: int


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
    predicted: Change
    actual: Change
    """Refit with the change against refit without one."""
    drift: Change
    """Refit without the change against the model as it is."""
    prediction: str
    refit: str


@dataclass(frozen=True)
class Setting:
    """Data, heads and target rows of a what-if, and how it predicts and refits."""

    data: Data
    targets: Targets
    before: Float[Tensor, "E C"]
    """Logits of the evaluation rows as the model is."""
    at_head: AtHead
    predictor: Predictor
    refit: Refit

    @property
    def labels(self) -> Int[Tensor, " T"]:
        return self.data.evaluation.labels[self.targets.rows]

    def loss(self, logits: Float[Tensor, "E C"]) -> float:
        return float(F.cross_entropy(logits[self.targets.rows].double(), self.labels))

    def right(self, logits: Float[Tensor, "E C"]) -> Bool[Tensor, " T"]:
        return logits[self.targets.rows].argmax(1) == self.labels

    def change(self, before: Float[Tensor, "E C"], after: Float[Tensor, "E C"]) -> Change:
        was, now = self.right(before), self.right(after)
        return Change(self.loss(after) - self.loss(before), int((now & ~was).sum()), int((was & ~now).sum()))

    def predicted(self, selection: Selection) -> Change:
        """The sum over the rows; flips as the head answers them, for all rows together."""
        rows, labels = selection.rows, selection.labels
        moves = self.predictor.drop()[rows] if labels is None else self.predictor.relabel(rows, labels)
        head, where = self.at_head.head, self.targets.rows
        logits = self.before[where].to(self.at_head.x)
        flips = head.flips(self.at_head.shift(rows, labels), self.at_head.x, logits, self.labels)
        right, wrong = flips[0].tolist()
        return Change(float(moves.sum()), right, wrong)

    def actual(self, selection: Selection, unchanged: Float[Tensor, "E C"]) -> Change:
        training = TrainingSet.of(self.data.train)
        if selection.labels is None:
            training = training.without(selection.rows)
        else:
            training = training.relabelled(selection.rows, selection.labels)
        if len(set(training.labels[training.kept].tolist())) < 2:
            raise UsageError("one class would be left", "Name fewer rows with --rows.")
        return self.change(unchanged, self.refit(training))


def what_if(
    settings: ScanSettings,
    change: str,
    rows: str,
    *,
    at_probe: bool,
    recipe: Recipe,
    retrain: str | None,
    progress: Progress,
) -> WhatIf:
    """``rows`` as `select` takes them. Raises `UsageError` where they, or the options, name nothing."""
    data = read(settings, load(settings, progress), progress)
    heads = fit_heads(data, settings.damping)
    selection = select(Path(settings.db), data, rows, relabel=change == "relabel")
    setting = prepare(settings, data, heads, at_probe=at_probe, recipe=recipe, retrain=retrain, progress=progress)
    predicted = setting.predicted(selection)
    with progress.stage("Refits", 2) as advance:
        unchanged = setting.refit(TrainingSet.of(data.train))
        advance(1)
        actual = setting.actual(selection, unchanged)
        advance(1)
    return WhatIf(
        change, len(selection.rows), selection.words, setting.targets.name, len(setting.targets.rows),
        setting.loss(setting.before), float(setting.right(setting.before).double().mean()), predicted, actual,
        setting.change(setting.before, unchanged), setting.predictor.how, setting.refit.recipe,
    )  # fmt: skip


def prepare(
    settings: ScanSettings,
    data: Data,
    heads: Heads,
    *,
    at_probe: bool,
    recipe: Recipe,
    retrain: str | None,
    progress: Progress,
) -> Setting:
    network = data.network if data.network is not None and data.network.own_classes and not at_probe else None
    if network is None:
        if retrain is not None:
            raise UsageError(
                "--retrain trains a network, and the probe was asked", "Leave out --at probe, or --retrain."
            )
        x = probe_inputs(data.evaluation.features).to(heads.probe_influence.head.curvature.x)
        before = heads.probe.logits(x)
        targets = _targets(settings, data, before)
        rests = residuals(before, data.evaluation.labels)[targets.rows]
        at_head = AtHead(heads.probe_influence, x[targets.rows], rests, "the probe in closed form")
        return Setting(data, targets, before, at_head, at_head, ProbeRefit(data, heads))
    assert heads.own_influence is not None
    assert data.evaluation.logits is not None
    before = data.evaluation.logits
    targets = _targets(settings, data, before)
    x = with_ones(data.evaluation.features, network.own_head).to(heads.own_influence.head.curvature.x)
    rests = residuals(before.to(x), data.evaluation.labels)[targets.rows]
    at_head = AtHead(heads.own_influence, x[targets.rows], rests, "the model's head in closed form")
    objective, _ = deep_objective(settings, data)
    predictor: Predictor = at_head
    if objective is not None:
        wanted = data.evaluation.taken(targets.rows.tolist())
        solver = solver_for(settings, objective, data)
        predictor = ThroughNetwork(objective, data.train, wanted, solver, settings.damping, settings.seed, progress)
    refit: Refit = (
        FineTune(data, network, recipe, settings.seed)
        if retrain is None
        else Retrain(data, network, retrain, settings.seed)
    )
    return Setting(data, targets, before, at_head, predictor, refit)


def _targets(settings: ScanSettings, data: Data, logits: Float[Tensor, "E C"]) -> Targets:
    losses = F.cross_entropy(logits, data.evaluation.labels, reduction="none")
    return choose_targets(settings, data.evaluation, logits, losses)
