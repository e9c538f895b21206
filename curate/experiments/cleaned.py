"""Did cleaning help? Trained twice by the user's own function, on the given and on the cleaned labels.

Both are judged on rows whose label a person confirmed or corrected, and that neither was trained on: evaluation rows,
or training rows left out of both, part by part. Differences are paired: the same rows, the same seed. Knows which
labels are compared; leaves training to `training`, words to ``telling``.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import t as student
from torch import Tensor

from curate.errors import UsageError
from curate.experiments.training import Training, TrainingSet, log_probabilities
from curate.experiments.verify.agreement import Bounded
from curate.process.progress import Progress
from curate.process.spoken import Spoken
from curate.stages.forward import Forward
from curate.stages.prepare import Data
from curate.store import Store, audits, row_fingerprint
from curate.store.reviews import DROPPED, sure

FEWEST = 5
"""Confirmed rows, below which nothing is said."""
ENOUGH = 30
"""Confirmed evaluation rows from which they alone judge, so that two trainings do."""
PARTS = 2
"""That the confirmed training rows are left out in, where they have to judge."""

Words = Mapping[str, tuple[str, str | None]]
"""Verdict and new label by a row's fingerprint."""


@dataclass(frozen=True)
class Retraining:
    """How often is trained, and what counts as cleaned."""

    seeds: int = 1
    """Trainings of each kind on the same rows; from two on their own chance is in the interval."""
    parts: int | None = None
    """Of the confirmed training rows; 0: confirmed evaluation rows judge alone; None: as few as there can be."""
    apply_suggestions: bool = False
    """Flagged rows without a verdict take the suggested label in the cleaned set."""
    run: int | None = None
    """Whose suggestions; None: of the newest finished one of the data set."""


@dataclass(frozen=True)
class CleaningEffect(Spoken):
    """Trained on cleaned against given labels; differences are cleaned minus given, with 95 % intervals."""

    answer: str
    """`helped`, `harmed` or `cannot tell`: whether the interval of the accuracy lies on one side of 0."""
    rows: int
    """That judged: a person confirmed or corrected their label, and they were not trained on."""
    by_audit: int
    """Of these, drawn at random by an audit."""
    accuracy_given: float
    accuracy_cleaned: float
    accuracy: Bounded
    loss_given: float
    """Mean, nats."""
    loss_cleaned: float
    loss: Bounded
    turned_right: float
    """Judging rows that only the cleaned labels get right, the mean over the seeds."""
    turned_wrong: float
    relabelled: int
    """Training rows with another label in the cleaned set."""
    dropped: int
    learned: float
    """Of these changes, how many a training learned from on average: judging rows are left out."""
    rows_needed: int | None
    """About so many judging rows would tell a difference of this size; None where it is told, or where it is 0."""
    trained_by: str
    trainings: int
    seeds: int
    seconds: float

    def __str__(self) -> str:
        from curate.experiments.telling import cleaning_page

        return cleaning_page(self)


@dataclass(frozen=True)
class Confirmed:
    """Rows of one set whose label a person knows: places, and that label's class."""

    places: Int[Tensor, " m"]
    labels: Int[Tensor, " m"]
    audited: Bool[Tensor, " m"]


@dataclass(frozen=True)
class BothLabels:
    """Both training sets, and the rows that can judge."""

    given: TrainingSet
    cleaned: TrainingSet
    train: Confirmed
    evaluation: Confirmed

    @property
    def changed(self) -> Bool[Tensor, " n"]:
        """Training rows that are not the same in both."""
        return (self.given.kept != self.cleaned.kept) | (self.given.labels != self.cleaned.labels)


def compare_cleaned(
    database: Path, data: Data, training: Training, asked: Retraining, *, seed: int, progress: Progress
) -> CleaningEffect:
    """Trains and judges; ``seed`` is the first one. Several processes deal the trainings out, and all return the same.

    Raises `UsageError` if no verdict changes a training row, and if too few rows are confirmed to judge.
    """
    started, passes = time.monotonic(), data.passes

    def told() -> BothLabels:
        with Store.open(database) as store:
            return read_labels(store, data, asked)

    labels = passes.told(told)
    parts = _parts(labels, asked.parts)
    judged = _Judged(data, training, labels)
    trainings = [(number, part, cleaned) for number in range(asked.seeds) for part in parts for cleaned in range(2)]
    own = trainings[passes.own(len(trainings))]
    with progress.stage("Trainings", len(own)) as advance:
        said = []
        for number, part, cleaned in own:
            said.append(judged.trained_on(part, cleaned, seed + number))
            advance(1)
    answers = [answer for of_rank in passes.gathered(said) for answer in of_rank]
    for (number, part, cleaned), answer in zip(trainings, answers, strict=True):
        judged.take(number, part, cleaned, answer)
    return judged.effect(len(parts), asked.seeds, time.monotonic() - started)


def read_labels(store: Store, data: Data, asked: Retraining) -> BothLabels:
    """What verdicts make of the labels. Raises `UsageError` if they change none."""
    words: dict[str, tuple[str, str | None]] = {
        word["fingerprint"]: (word["verdict"], word["new_label"])
        for word in store.query("SELECT fingerprint, verdict, new_label FROM verdicts")
    }
    name = data.train.source.name
    drawn = _drawn(store, name)
    train, held_out = (_fingerprints(name, rows) for rows in (data.train, data.evaluation))
    suggested = _suggestions(store, asked.run or store.latest_run(name)) if asked.apply_suggestions else {}
    said = {**suggested, **words}
    given = TrainingSet.of(data.train)
    classes = data.train.source.classes
    cleaned = TrainingSet(given.kept.clone(), given.labels.clone())
    for place, fingerprint in enumerate(train):
        verdict, label = said.get(fingerprint, ("", None))
        if verdict in DROPPED or (verdict == "relabel" and label not in classes):
            cleaned.kept[place] = False  # nor can a class that the others do not have be learned
        elif verdict == "relabel" and label is not None:
            cleaned.labels[place] = classes.index(label)
    found = BothLabels(
        given,
        cleaned,
        _confirmed(data.train, train, words, drawn),
        _confirmed(data.evaluation, [] if data.own_evaluation else held_out, words, drawn),
    )
    if not bool(found.changed.any()):
        raise UsageError(
            f"No verdict changes a training row of {name}: there is nothing to compare.",
            "Leave verdicts by curate review, or add --apply-suggestions.",
        )
    return found


def _drawn(store: Store, name: str) -> set[str]:
    """Fingerprints of the rows that audits of the data set have drawn."""
    known = store.query("SELECT id FROM datasets WHERE name = ?", [name])
    series = audits.newest_series(store, known[0]["id"]) if known else []
    return {place.fingerprint for place in audits.places(store, series)} if series else set()


def _fingerprints(name: str, rows: Forward) -> list[str]:
    source = rows.source
    return [
        row_fingerprint(name, source.keys[index], sha256, source.label_texts[index])
        for index, sha256 in zip(rows.indices, rows.sha256, strict=True)
    ]


def _suggestions(store: Store, run: int) -> Words:
    rows = store.query(
        "SELECT DISTINCT e.fingerprint, s.suggested_label, s.suggested_probability FROM findings AS f "
        "JOIN examples AS e ON e.id = f.example_id JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = e.id "
        "WHERE f.run_id = ? AND f.rule = 'mislabeled'",
        [run],
    )
    labels = {row["fingerprint"]: sure(row["suggested_label"], row["suggested_probability"]) for row in rows}
    return {fingerprint: ("relabel", label) for fingerprint, label in labels.items() if label is not None}


def _confirmed(rows: Forward, fingerprints: Iterable[str], words: Words, drawn: set[str]) -> Confirmed:
    """Rows with the word keep, or relabel to a class that there is."""
    classes = rows.source.classes
    found = []
    for place, fingerprint in enumerate(fingerprints):
        verdict, label = words.get(fingerprint, ("", None))
        index = int(rows.labels[place]) if verdict == "keep" else -1
        if verdict == "relabel" and label in classes:
            index = classes.index(label)
        if index >= 0:
            found.append((place, index, fingerprint in drawn))
    columns = list(zip(*found, strict=True)) or [(), (), ()]
    return Confirmed(
        torch.tensor(columns[0], dtype=torch.long),
        torch.tensor(columns[1], dtype=torch.long),
        torch.tensor(columns[2], dtype=torch.bool),
    )


def _parts(labels: BothLabels, asked: int | None) -> list[Int[Tensor, " _"]]:
    """Numbers among the confirmed training rows that are left out together; one empty part if they do not judge."""
    own, others = len(labels.train.places), len(labels.evaluation.places)
    number = asked if asked is not None else 0 if others >= ENOUGH or not own else PARTS
    judging = others + (own if number else 0)
    if judging < FEWEST:
        raise UsageError(
            f"{judging} rows that could judge have a confirmed label, and {FEWEST} are the fewest.",
            "Keep and relabel confirm one: curate audit draws rows for it.",
        )
    if not number:
        return [torch.zeros(0, dtype=torch.long)]
    # Rows stand in the order of their content: dealt out, each part has its share of all kinds.
    return [torch.arange(part, own, number) for part in range(min(number, own))]


class _Judged:
    """What the judging rows say, seed after seed: confirmed training rows first, then evaluation rows."""

    def __init__(self, data: Data, training: Training, labels: BothLabels) -> None:
        self._data, self._training, self._labels = data, training, labels
        self._truth = torch.cat([labels.train.labels, labels.evaluation.labels])
        self._right: list[Float[Tensor, "2 n"]] = []
        self._loss: list[Float[Tensor, "2 n"]] = []
        self._asked: list[Float[Tensor, " n"]] = []
        self._learned: list[int] = []

    def _places(self, part: Int[Tensor, " m"]) -> Int[Tensor, " k"]:
        """Numbers of the rows that judge where this part of the confirmed training rows is left out."""
        return torch.cat([part, len(self._labels.train.places) + torch.arange(len(self._labels.evaluation.places))])

    def trained_on(self, part: Int[Tensor, " m"], cleaned: int, seed: int) -> Float[Tensor, "k C"]:
        """What a training without this part of the confirmed training rows says of those that judge it.

        ``cleaned``: 0 on the given labels, 1 on the cleaned ones.
        """
        labels, data = self._labels, self._data
        out = labels.train.places[part]
        whole = labels.cleaned if cleaned else labels.given
        trained = self._training(data.train, _two_classes(whole.without(out)), seed)
        return torch.cat(
            [
                log_probabilities(self._training, trained, rows, of)
                for rows, of in ((data.train, out), (data.evaluation, labels.evaluation.places))
                if len(of)
            ]
        )

    def take(self, seed: int, part: Int[Tensor, " m"], cleaned: int, answers: Float[Tensor, "k C"]) -> None:
        """Count what `trained_on` returned of the training of this number among the seeds."""
        places, n = self._places(part), len(self._truth)
        if seed == len(self._right):
            self._right.append(torch.zeros(2, n, dtype=torch.float64))
            self._loss.append(torch.zeros(2, n, dtype=torch.float64))
            self._asked.append(torch.zeros(n, dtype=torch.float64))
        truth = self._truth[places]
        self._right[-1][cleaned, places] += (answers.argmax(1) == truth).double()
        self._loss[-1][cleaned, places] -= answers.gather(1, truth[:, None])[:, 0]
        if not cleaned:
            labels = self._labels
            kept = labels.given.without(labels.train.places[part]).kept
            self._learned.append(int(labels.changed[kept].sum()))
            self._asked[-1][places] += 1

    def effect(self, parts: int, seeds: int, seconds: float) -> CleaningEffect:
        """All that was found."""
        labels = self._labels
        judging = self._asked[0] > 0
        right, loss = (
            torch.stack([found[:, judging] / asked[judging] for found, asked in zip(all_, self._asked, strict=True)])
            for all_ in (self._right, self._loss)
        )
        turned = (right[:, 1] - right[:, 0]).numpy()
        accuracy = share_difference(turned)
        half = (accuracy.high - accuracy.low) / 2
        told = accuracy.low > 0 or accuracy.high < 0
        audited = torch.cat([labels.train.audited, labels.evaluation.audited])[judging]
        relabelled = labels.cleaned.kept & (labels.given.labels != labels.cleaned.labels)
        rows = int(judging.sum())
        return CleaningEffect(
            answer=("helped" if accuracy.low > 0 else "harmed") if told else "cannot tell",
            rows=rows,
            by_audit=int(audited.sum()),
            accuracy_given=float(right[:, 0].mean()),
            accuracy_cleaned=float(right[:, 1].mean()),
            accuracy=accuracy,
            loss_given=float(loss[:, 0].mean()),
            loss_cleaned=float(loss[:, 1].mean()),
            loss=mean_difference((loss[:, 1] - loss[:, 0]).numpy()),
            turned_right=float(turned.clip(min=0).sum(1).mean()),
            turned_wrong=float((-turned).clip(min=0).sum(1).mean()),
            relabelled=int(relabelled.sum()),
            dropped=int((~labels.cleaned.kept).sum()),
            learned=float(np.mean(self._learned)),
            rows_needed=None if told or not accuracy.value else int(np.ceil(rows * (half / accuracy.value) ** 2)),
            trained_by=self._training.name,
            trainings=2 * parts * seeds,
            seeds=seeds,
            seconds=seconds,
        )


def _two_classes(training: TrainingSet) -> TrainingSet:
    if len(set(training.labels[training.kept].tolist())) < 2:
        raise UsageError("One class would be left to train on.", "Judge on fewer rows: more --parts.")
    return training


def share_difference(turned: Float[np.ndarray, "s n"]) -> Bounded:
    """Mean of differences within -1 to 1 of the same rows, by seed, with its 95 % interval.

    Wald's with two rows of no difference and half a row of each sign added (Agresti & Min 2005, for paired shares):
    it keeps its coverage with few rows, and where none differs.
    """
    rows = turned.mean(0)
    count = len(rows) + 2
    centre = rows.sum() / count
    variance = ((rows**2).sum() + 1) / count - centre**2
    half = _half_width(variance / count, turned)
    return Bounded(float(rows.mean()), max(-1.0, float(centre - half)), min(1.0, float(centre + half)))


def mean_difference(differences: Float[np.ndarray, "s n"]) -> Bounded:
    """The same of any numbers, by Student's interval over the rows."""
    rows = differences.mean(0)
    half = _half_width(rows.var(ddof=1) / len(rows), differences)
    return Bounded(float(rows.mean()), float(rows.mean() - half), float(rows.mean() + half))


def _half_width(of_rows: float, differences: Float[np.ndarray, "s n"]) -> float:
    """Of a 95 % interval of a mean with this variance over the rows, and that of whole trainings beside it.

    Both are estimated: Student's quantile has the degrees of freedom of their sum (Welch 1947).
    """
    seeds, rows = differences.shape
    of_seeds = float(differences.mean(1).var(ddof=1) / seeds) if seeds > 1 else 0.0
    whole = of_rows + of_seeds
    if whole == 0:
        return 0.0
    freedom = whole**2 / (of_rows**2 / (rows - 1) + of_seeds**2 / max(1, seeds - 1))
    return float(student.ppf(0.975, freedom) * np.sqrt(whole))
