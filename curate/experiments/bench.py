"""`curate bench`: which detector finds wrong labels best on these rows? Labels are changed on purpose, and looked for.

Knows how flips are planted and how a ranking is judged. Features are read once; the probe, the neighbours' votes and
the fusion are made anew for every set of planted labels, by the stages of a scan. Nothing is stored.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.metrics import average_precision_score, roc_auc_score

from curate.engine.neighbours import Neighbours
from curate.engine.passes import Passes
from curate.engine.probe import fit_probe, probe_inputs
from curate.engine.suspicion.detectors import DETECTORS
from curate.errors import UsageError
from curate.process.numbers import percent
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.agreement import read_by_all
from curate.stages.forward import Forward
from curate.stages.heads import fit_heads
from curate.stages.influence import network_self_influence
from curate.stages.prepare import Data
from curate.stages.suspicion import Judged, judge_rows, with_network

KINDS = ("uniform", "look-alike")
FOLDS = 5
EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
FEWEST_IN_BIN = 30
FEWEST_FLIPS = 10
SUSPICION = "suspicion (all of them)"
OF_THE_MODEL = frozenset({"loss", "margin", "gradient_norm", "self_influence", "network_self_influence"})
"""Detectors that read the model, which was trained before the flips were planted."""


@dataclass(frozen=True)
class BenchScore:
    """How well one detector found the planted flips of one kind."""

    detector: str
    kind: str
    average_precision: float
    auroc: float
    precision_at_flips: float
    """Share of planted flips among as many first rows as there are flips."""
    seconds: float | None
    """Processor time beyond the one reading of the rows; None for detectors that the fusion's time pays for."""


@dataclass(frozen=True)
class Calibration:
    """Suspicion against what was planted, over all rows of one kind."""

    kind: str
    flips: int
    expected: float
    """Sum of suspicion."""
    gap: float | None
    """Largest difference between mean suspicion and share of flips in a bin of `FEWEST_IN_BIN` rows or more."""
    flagged: int
    precision: float | None
    recall: float


@dataclass(frozen=True)
class Bench:
    """Everything that `curate bench` found out."""

    rows: int
    classes: int
    noise: float
    rounds: int
    scores: tuple[BenchScore, ...]
    calibrations: tuple[Calibration, ...]
    aside: int
    """Rows that are flagged before any flip is planted: they get none, and no figure counts them."""
    fitted: bool
    """The model gives these classes, so it was probably trained on the labels as they were."""
    recommended: str
    warnings: tuple[str, ...] = ()
    """What makes all of it doubtful."""

    def mean(self, detector: str) -> float:
        """Average precision over kinds and rounds."""
        return float(np.mean([score.average_precision for score in self.scores if score.detector == detector]))

    @property
    def detectors(self) -> list[str]:
        """Best first."""
        names = dict.fromkeys(score.detector for score in self.scores)
        return sorted(names, key=lambda name: -self.mean(name))


def bench(
    settings: ScanSettings, *, noise: float, rounds: int, progress: Progress, passes: Passes | None = None
) -> Bench:
    """Plants a share ``noise`` of wrong labels of each kind, ``rounds`` times, and judges every detector on them.

    ``passes``: this process is one of several, which all return the same.
    """
    if len(settings.weights) > 1:
        raise UsageError("curate bench judges one checkpoint", f"Try --weights {settings.weights[-1]} alone.")
    _, data = read_by_all(settings, progress, passes)
    given = data.train.labels.numpy()
    neighbours = Neighbours(data.train.features, settings.seed, passes=data.passes)
    heads = fit_heads(data, settings.damping)
    first = judge_rows(data, heads, neighbours, Progress.silent(), settings.seed)
    usable = np.flatnonzero(first.train.suspicion <= first.cut)
    flips = round(noise * len(usable))
    if flips < FEWEST_FLIPS:
        raise UsageError(
            f"{percent(noise, 0)} of {len(usable):,} rows are {flips} flips: too few to tell detectors apart",
            "Take more rows, or a larger --noise.",
        )
    partners = _partners(first.signals.left_out, given, data.classes)
    scores: list[BenchScore] = []
    calibrations: list[Calibration] = []
    kinds = KINDS if data.classes > 2 else KINDS[:1]
    with progress.stage("Looking for planted flips", len(kinds) * rounds) as advance:
        for kind in kinds:
            for turn in range(rounds):
                planted = plant(given, usable, flips, kind, partners, settings.seed + turn)
                found, calibration = _judged(data, planted, usable, neighbours, settings, kind)
                scores += found
                calibrations.append(calibration)
                advance(1)
    fitted = heads.own_influence is not None
    result = Bench(
        len(given),
        data.classes,
        noise,
        rounds,
        tuple(scores),
        tuple(calibrations),
        len(given) - len(usable),
        fitted,
        "",
        data.warnings,
    )
    fair = [name for name in result.detectors if not (fitted and name in OF_THE_MODEL)]
    return replace(result, recommended=next(name for name in fair if name != "cleanlab, five-fold"))


def plant(
    given: Int[np.ndarray, " n"],
    usable: Int[np.ndarray, " m"],
    flips: int,
    kind: str,
    partners: Int[np.ndarray, " C"],
    seed: int,
) -> Int[np.ndarray, " n"]:
    """``given`` with ``flips`` of the ``usable`` rows changed: to any other class, or to the one most taken for it."""
    draw = np.random.default_rng(seed)
    rows = draw.permutation(usable)[:flips]
    labels = given.copy()
    classes = len(partners)
    uniform = (given[rows] + draw.integers(1, classes, flips)) % classes
    labels[rows] = uniform if kind == "uniform" else partners[given[rows]]
    return labels


def _partners(q: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, " C"]:
    """The class that each is most taken for, by the probe without the row."""
    sums = np.zeros((classes, classes))
    np.add.at(sums, given, q)
    np.fill_diagonal(sums, -1)
    result: np.ndarray = sums.argmax(1)
    return result


def _judged(
    data: Data,
    planted: Int[np.ndarray, " n"],
    usable: Int[np.ndarray, " m"],
    neighbours: Neighbours,
    settings: ScanSettings,
    kind: str,
) -> tuple[list[BenchScore], Calibration]:
    wrong = (planted != data.train.labels.numpy())[usable]
    noisy = replace(data, train=relabelled(data.train, planted), own_evaluation=True)
    judged, seconds = _timed(lambda: _fused(noisy, neighbours, settings))
    judged = with_network(judged, network_self_influence(settings, noisy, Progress.silent()))
    suspicion = judged.train.suspicion[usable]
    scores = [_score(SUSPICION, kind, suspicion, wrong, seconds)]
    for name, detector in DETECTORS.items():
        values = detector(judged.signals)
        if values is not None:
            scores.append(_score(name, kind, values[usable], wrong, None))
    five_fold, seconds = _timed(lambda: _cleanlab(noisy, planted))
    if five_fold is not None:
        scores.append(_score("cleanlab, five-fold", kind, five_fold[usable], wrong, seconds))
    flagged = suspicion > judged.cut
    return scores, Calibration(
        kind=kind,
        flips=int(wrong.sum()),
        expected=float(suspicion.sum()),
        gap=largest_gap(suspicion, wrong),
        flagged=int(flagged.sum()),
        precision=float(wrong[flagged].mean()) if flagged.any() else None,
        recall=float(flagged[wrong].mean()),
    )


def _fused(noisy: Data, neighbours: Neighbours, settings: ScanSettings) -> Judged:
    heads = fit_heads(noisy, settings.damping)
    silent = Progress.silent()
    return judge_rows(noisy, heads, neighbours, silent, settings.seed, settings.expected_precision)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    return work(), time.process_time() - started


def _score(
    name: str, kind: str, values: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"], seconds: float | None
) -> BenchScore:
    first = np.argsort(-values, kind="stable")[: int(wrong.sum())]
    return BenchScore(
        name,
        kind,
        float(average_precision_score(wrong, values)),
        float(roc_auc_score(wrong, values)),
        float(wrong[first].mean()),
        seconds,
    )


def _cleanlab(noisy: Data, given: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"] | None:
    """One minus cleanlab's self-confidence by a five-fold probe; None where cleanlab is not installed."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return None
    features, labels = noisy.train.features, torch.from_numpy(given)
    p = np.zeros((len(given), noisy.classes))
    for held in _folds(given):
        head, _ = fit_probe(features[~held], labels[~held], noisy.classes, noisy.passes)
        p[held] = head.logits(probe_inputs(features[held]).to(head.weights)).softmax(1).cpu().numpy()
    result: np.ndarray = 1 - get_label_quality_scores(given, p, method="self_confidence")
    return result


def _folds(given: Int[np.ndarray, " n"]) -> Iterator[Bool[np.ndarray, " n"]]:
    """Stratified by label; classes of fewer rows than folds are spread as far as they go."""
    place = np.empty(len(given), dtype=int)
    order = np.random.default_rng(0).permutation(len(given))
    order = order[np.argsort(given[order], kind="stable")]
    place[order] = np.arange(len(given)) % FOLDS
    for fold in range(FOLDS):
        yield place == fold


def relabelled(rows: Forward, labels: Int[np.ndarray, " n"]) -> Forward:
    """The same rows under other labels."""
    source = copy.copy(rows.source)
    changed = list(source.labels)
    for index, label in zip(rows.indices, labels.tolist(), strict=True):
        changed[index] = label
    source.labels = changed
    return replace(rows, source=source)


def largest_gap(suspicion: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"]) -> float | None:
    """Mean suspicion less the share of wrong labels, in the bin where they differ most."""
    gaps = []
    for low, high in pairwise(EDGES):
        rows = (suspicion >= low) & ((suspicion < high) | (high == EDGES[-1]))
        if rows.sum() >= FEWEST_IN_BIN:
            gaps.append(float(suspicion[rows].mean() - wrong[rows].mean()))
    return max(gaps, key=abs) if gaps else None
