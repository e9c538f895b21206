"""Writing a run down: examples, scores, pairs, findings, receipts, and how the run ended.

Knows how the stages' results become rows of the database; leaves SQL to `store`.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float

from curate.engine.passes import Passes
from curate.engine.suspicion.level import Level, of_rate
from curate.engine.tables import let_go
from curate.errors import NumericalError, UsageError
from curate.gate.judgement import Gate
from curate.pipeline.notes import notes_of
from curate.pipeline.receipts import receipts_of
from curate.pipeline.scores import scores_of
from curate.pipeline.thumbnails import thumbnails
from curate.process.stopping import last_will
from curate.process.versions import git_commit, versions
from curate.rules.finders import strangers_of
from curate.rules.finders.found import Contents, Found, Scan
from curate.rules.rule import RULES, rules_asked
from curate.settings.media import MediaRoots
from curate.settings.merge import ScanSettings
from curate.stages.diagnostics import Diagnostics
from curate.stages.forward import Forward
from curate.stages.heads import Heads
from curate.stages.influence import Influence
from curate.stages.mapping import map_of
from curate.stages.memory import most_memory
from curate.stages.prepare import Loaded
from curate.stages.suspicion import Judged
from curate.store import WARNING, ExampleRecord, FindingRecord, Store, row_fingerprint
from curate.store.audits import newest_series
from curate.store.opening import mark_interrupted

CARDS_WITH_NEAREST = 200
"""Findings, the gravest first, whose nearest rows have a small picture too."""


@dataclass(frozen=True)
class OfTables:
    """What is written of tables of all rows."""

    probabilities: dict[str, Float[np.ndarray, "n C"]]
    """The model's own or the probe's, by split."""
    places: dict[int, tuple[float, float]]
    """On the map."""
    accuracies: tuple[float | None, float]
    width: int
    """Of features."""

    @classmethod
    def of(cls, scan: Scan, found: list[Found], heads: Heads) -> "OfTables":
        """The tables are empty from then on: what is to be written takes as much memory as they do.

        Raises `NumericalError` if what is to be written is not finite.
        """
        refuse_not_finite(heads, scan.judged, scan.influence)
        train = scan.data.train
        marked = [f.row for f in found if f.rule == "mislabeled" and f.split == "train" and f.row is not None]
        made = cls(
            {split: heads.probabilities(rows) for split, rows in scan.splits.items()},
            map_of(train, scan.judged.train.suspicion, marked),
            heads.accuracies(train),
            train.features.shape[1],
        )
        let_go(train.features, heads.influence.head.curvature.x, heads.probe_influence.head.curvature.x)
        return made


class OpenRun:
    """A run that has begun."""

    def __init__(
        self, store: Store, dataset_id: int, run_id: int, settings: ScanSettings, files: str | None = None
    ) -> None:
        """``files`` is the stamp of those that hold all rows."""
        self.store, self.dataset_id, self.id, self._settings, self._files = store, dataset_id, run_id, settings, files
        self._said: list[str] = []

    def known_level(self, rows: Forward, rate: tuple[float, float] | None) -> Level | None:
        """How many of these rows' labels are wrong, by `--noise-rate` or else by an audit; None if nobody knows."""
        if rate is not None:
            return of_rate(rate, len(rows))
        if not newest_series(self.store, self.dataset_id):  # a fingerprint of every row is not made for nothing
            return None
        from curate.audit.result import TrainRow, result_of  # scipy's optimisers: a quarter of a second

        source = rows.source
        now = [
            TrainRow(
                row_fingerprint(source.name, source.keys[index], sha256, source.label_texts[index]),
                source.label_texts[index],
            )
            for index, sha256 in zip(rows.indices, rows.sha256, strict=True)
        ]
        found = result_of(self.store, self.dataset_id, now)
        if found is None or found.rate is None:
            return None
        rate_found, n = found.rate, len(rows)
        return Level(
            rate_found.value * n,
            rate_found.at_least * n,
            rate_found.at_most * n,
            "audit",
            interval=(rate_found.low * n, rate_found.high * n),
            verdicts=found.verdicts,
            classes={
                one.label: (one.rate.value * one.rows, one.rate.at_least * one.rows, one.rate.at_most * one.rows)
                for one in found.classes
            },
        )

    def finish(
        self,
        scan: Scan,
        found: list[Found],
        heads: Heads,
        tables: OfTables,
        diagnostics: Diagnostics,
        started: float,
    ) -> None:
        """Stores everything and closes the run, in one transaction: an interrupted run leaves no half of it.

        ``started`` is when its work began, by ``time.monotonic``.
        """
        with self.store.transaction():
            self._write(scan, found, heads, tables, diagnostics, time.monotonic() - started)

    def finish_contents(self, contents: Contents, found: list[Found], started: float) -> None:
        """The same of rows that nothing is known of but their contents: no score, and the rules of contents."""
        data = contents.data
        with self.store.transaction():
            self._labels(data.train)
            ids = {split: self._rows(rows, split, seen=None) for split, rows in contents.splits.items()}
            for split, rows in contents.splits.items():
                self.store.add_score_columns(self.id, ids[split][: len(rows)], {"rank": [None] * len(rows)})
            self._findings(found, contents, ids)
            self.store.finish_run(
                self.id,
                counts={
                    **self._read_counts(list(contents.splits.values()), data.passes),
                    "classes": data.classes,
                    "unjudged": True,
                },
                accuracy_head=None,
                accuracy_probe=None,
                seconds=time.monotonic() - started,
                peak_memory=most_memory(),
                notes=[*(f"{WARNING}{said}" for said in data.warnings), *data.notes, *self._said],
            )

    def _read_counts(self, sets: list[Forward], passes: Passes) -> dict[str, object]:
        return {
            **({"processes": passes.count} if passes.count > 1 else {}),
            **({"files": self._files} if self._files is not None else {}),
            "scored": sum(len(rows) for rows in sets),
            "reused": sum(rows.reused for rows in sets),
            "unreadable": sum(len(rows.unreadable) for rows in sets),
            "blank": sum(rows.blank for rows in sets),
        }

    def _labels(self, train: Forward) -> None:
        self.store.leave_out(self.dataset_id, text=not self._settings.text, thumbnails=not self._settings.thumbnails)
        self.store.set_labels(self.dataset_id, [(name, index) for index, name in enumerate(train.source.classes)])

    def _write(
        self,
        scan: Scan,
        found: list[Found],
        heads: Heads,
        tables: OfTables,
        diagnostics: Diagnostics,
        seconds: float,
    ) -> None:
        data, judged, influence = scan.data, scan.judged, scan.influence
        train, evaluation = data.train, data.evaluation
        self._labels(train)
        has_model = data.network is not None
        train_ids = evaluation_ids = self._rows(train, "train", seen=True)
        scores = scores_of(
            train, tables.probabilities["train"], judged.train, heads, judged, influence, strangers_of(found)
        )
        self.store.add_score_columns(self.id, train_ids[: len(train)], scores)
        if not data.own_evaluation:
            evaluation_ids = self._rows(evaluation, "eval", seen=False)
            assert judged.evaluation is not None
            scores = scores_of(evaluation, tables.probabilities["eval"], judged.evaluation, heads, judged)
            self.store.add_score_columns(self.id, evaluation_ids[: len(evaluation)], scores)
        self._findings(found, scan, {"train": train_ids, "eval": evaluation_ids})
        self.store.add_map(self.id, ((train_ids[row], x, y) for row, (x, y) in tables.places.items()))
        self.store.add_influences(
            self.id, ((evaluation_ids[e], train_ids[t], value, rank) for e, t, value, rank in influence.pairs)
        )
        self.store.add_receipts(self.id, receipts_of(data, heads, judged, influence))
        sets = [train] if data.own_evaluation else [train, evaluation]
        accuracy_head, accuracy_probe = tables.accuracies
        self.store.finish_run(
            self.id,
            counts={
                **self._read_counts(sets, data.passes),
                "classes": data.classes,
                "features": tables.width,
                "evaluation_rows": len(evaluation),
                "eval_loss": influence.eval_loss,
                "harm": _harm_facts(influence),
                "diagnostics": diagnostics.facts(),
                **({"unsteady": data.unsteady} if data.unsteady else {}),
                "slices": _slices(train, influence),
                "level": None if judged.level is None else judged.level.facts(len(train)),
                "words": dict(Counter(judged.train.words(judged.cut))),
            },
            accuracy_head=accuracy_head,
            accuracy_probe=accuracy_probe,
            seconds=seconds,
            peak_memory=most_memory(),
            notes=[
                *(f"{WARNING}{said}" for said in data.warnings),
                *data.notes,
                *self._said,
                *notes_of(data, judged, influence, has_model, accuracy_head, accuracy_probe),
            ],
        )

    def _rows(self, rows: Forward, split: str, *, seen: bool | None) -> list[int]:
        """Ids of the rows that were read, and behind them of the unreadable ones."""
        source = rows.source

        def record(index: int, sha256: str) -> ExampleRecord:
            label = source.label_texts[index]
            return ExampleRecord(
                split,
                source.keys[index],
                source.positions[index],
                sha256,
                label,
                source.media_path(index),
                source.text(index) if self._settings.text else None,
                seen=seen,
            )

        read = (record(index, sha) for index, sha in zip(rows.indices, rows.sha256, strict=True))
        broken = (record(index, "") for index, _ in rows.unreadable)
        return self.store.add_examples(self.dataset_id, chain(read, broken))

    def _thumbnails(self, rows: Forward, ids: list[int], score: dict[int, float]) -> None:
        """Of flagged rows, by place, with the highest score of their findings."""
        if self._settings.thumbnails:
            roots = MediaRoots.of(self._settings.as_json(), rows.source.location)
            self.store.set_thumbnails(thumbnails(rows, ids, score, roots))
            paths = [rows.source.media_path(rows.indices[row]) for row in score]
            outside = [path for path in paths if path is not None and not roots.holds(path)]
            if outside:
                self._said.append(
                    f"{WARNING}{len(outside):,} flagged pictures lie outside of the data's folder, the first is "
                    f"{min(outside)}: they are not shown (--media-root FOLDER allows it)"
                )

    def _findings(self, found: list[Found], scan: Contents, ids: dict[str, list[int]]) -> None:
        """Stores them, and small pictures of the rows that they are on and of those nearest to them."""
        self.store.add_findings(
            self.id,
            (
                FindingRecord(
                    None if f.row is None else ids[f.split][f.row],
                    f.rule,
                    f.severity,
                    f.score,
                    f.evidence,
                    f.why,
                    f.subject,
                    f.name,
                    f.members,
                )
                for f in found
            ),
        )
        for split, rows in scan.splits.items():
            score: dict[int, float] = {}
            for each in found:
                if each.split == split and each.row is not None and each.row < len(rows):
                    score[each.row] = max(score.get(each.row, 0.0), each.score or 0.0)
            if split == "train":
                for row, named in _nearest(rows, found).items():
                    score[row] = max(score.get(row, 0.0), named)
            self._thumbnails(rows, ids[split], score)


@contextmanager
def begin_run(settings: ScanSettings, loaded: Loaded) -> Iterator[OpenRun | None]:
    """A run in the database, marked failed or interrupted where the block does not get to its end.

    None in another process than the first of several, which alone writes.
    """
    if not loaded.opened.passes.first:
        yield None
        return
    source, gate = loaded.train, Gate.of_settings(settings.as_json())
    _refuse_gate_on_nothing(gate, rules_asked(settings.rules))
    model, weights_sha256 = loaded.identity
    with Store.open(Path(settings.db), create=True) as store:
        dataset_id = store.dataset(source.name, source.location, source.kind)
        run_id = store.begin_run(
            dataset_id,
            settings=settings.as_json(),
            seed=settings.seed,
            versions=versions(),
            model=model,
            weights_sha256=weights_sha256,
            device=str(loaded.device),
            git_commit=git_commit(),
            gate=gate.settings() if gate.is_set else None,
        )
        try:
            with last_will(lambda: mark_interrupted(Path(settings.db), run_id)):
                yield OpenRun(store, dataset_id, run_id, settings, loaded.opened.stamp)
        except UsageError:  # a slip leaves no run behind
            store.forget_run(run_id)
            raise
        except BaseException as error:
            store.mark_run(run_id, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise


def _refuse_gate_on_nothing(gate: Gate, asked: Collection[str]) -> None:
    """A gate on a rule that nobody looks for would always pass."""
    for word in gate.fail_on:
        if word in RULES and word not in asked:
            raise UsageError(f"--fail-on {word}: --rules leaves it out", "Name it in --rules too.")


def refuse_not_finite(heads: Heads, judged: Judged, influence: Influence) -> None:
    """Raises `NumericalError`: no report may rest on numbers that are none."""
    quantities = {
        "self-influence": heads.influence.scores.self_influence,
        "suspicion": torch.from_numpy(judged.train.suspicion),
        "harm": influence.harm,
        "influence": influence.pairs.influence,
    }
    if judged.network is not None:
        quantities["self-influence through the network"] = judged.network.values
    for name, values in quantities.items():
        broken = int((~torch.isfinite(values)).sum())
        if broken:
            raise NumericalError(
                f"{name} is not finite on {broken:,} rows",
                "Are the inputs on the scale of training? Try --params head, or a larger --damping.",
            )


def _nearest(rows: Forward, found: Sequence[Found]) -> dict[int, float]:
    """Training rows that are named as the nearest ones of the gravest findings, of those that name any, and the highest
    score of these."""
    naming = (each for each in found if each.evidence.get("nearest"))
    first = sorted(naming, key=lambda each: each.score or 0.0)[-CARDS_WITH_NEAREST:]
    score = {
        near["key"]: each.score or 0.0
        for each in first
        for near in cast(list[dict[str, str]], each.evidence["nearest"])
    }
    return {place: score[key] for place, key in enumerate(rows.keys) if key in score}


def _harm_facts(influence: Influence) -> dict[str, object]:
    """What reports say of harm as a whole."""
    facts: dict[str, object] = {"measured_on": influence.targets.name, "judged": influence.harmful is not None}
    if influence.guesses:
        facts["guesses"] = True
    if influence.harmful is not None and len(influence.harmful.rows):
        right, wrong = influence.together.tolist()
        rows = influence.harmful.rows
        facts |= {"sum": float(influence.harm[rows].sum()), "turn_right": right, "turn_wrong": wrong}
    return facts


def _slices(train: Forward, influence: Influence) -> list[dict[str, object]]:
    keys = train.keys if influence.slices else []
    return [
        {
            "value": one.value,
            "rows": one.rows,
            "loss": one.loss,
            "accuracy": one.accuracy,
            "harmful": [
                {"key": keys[row], "harm": harm}
                for row, harm in zip(one.harmful.tolist(), one.harm.tolist(), strict=True)
            ],
        }
        for one in influence.slices
    ]
