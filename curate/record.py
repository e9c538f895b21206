"""Writing a run down: examples, scores, pairs, findings, receipts, and how the run ended.

Knows how the stages' results become rows of the database; leaves SQL to `store`.
"""

import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from curate.config import ScanSettings
from curate.errors import NumericalError, UnreadableRow
from curate.findings import Found, evaluation_findings, scores_of, train_findings, with_nearest
from curate.forward import Forward
from curate.gate import Gate
from curate.heads import Heads
from curate.influence.deep import DISTANCE, HEAD, DeepInfluence
from curate.influence.diagnostics import Diagnostics
from curate.influence.harmful import FALSE_DISCOVERIES, FEWEST_ROWS
from curate.influence.stage import Influence
from curate.neighbours import Neighbours
from curate.prepare import Data, Loaded
from curate.probe import PENALTY
from curate.solvers.base import RESIDUAL_BOUND
from curate.sources import Source
from curate.store import WARNING, ExampleRecord, FindingRecord, ReceiptRecord, Store, row_fingerprint
from curate.suspicion.experts import VOTERS
from curate.suspicion.panel import BY_HEART, Judge
from curate.suspicion.stage import Judged
from curate.suspicion.verdicts import RIGHT, UNKNOWN, WRONG
from curate.thumbnails import thumbnails
from curate.versions import git_commit, versions


class Run:
    """A run that has begun."""

    def __init__(self, store: Store, dataset_id: int, run_id: int) -> None:
        self.store, self.dataset_id, self.id = store, dataset_id, run_id

    def words(self, rows: Forward) -> Int[np.ndarray, " n"]:
        """What people said of each row as it is now: WRONG (relabel, drop), RIGHT (keep), else UNKNOWN."""
        said = self.store.words(self.dataset_id)
        words = np.full(len(rows), UNKNOWN)
        if said:
            source = rows.source
            kinds = {"relabel": WRONG, "drop": WRONG, "keep": RIGHT}
            for row, (index, sha256) in enumerate(zip(rows.indices, rows.sha256, strict=True)):
                fingerprint = row_fingerprint(source.name, source.keys[index], sha256, source.label_texts[index])
                words[row] = kinds.get(said.get(fingerprint, ""), UNKNOWN)
        return words

    def finish(
        self,
        data: Data,
        heads: Heads,
        judged: Judged,
        influence: Influence,
        diagnostics: Diagnostics,
        neighbours: Neighbours,
        seconds: float,
    ) -> None:
        """Stores everything and closes the run, in one transaction: an interrupted run leaves no half of it."""
        refuse_not_finite(heads, judged, influence)
        with self.store.transaction():
            self._write(data, heads, judged, influence, diagnostics, neighbours, seconds)

    def _write(
        self,
        data: Data,
        heads: Heads,
        judged: Judged,
        influence: Influence,
        diagnostics: Diagnostics,
        neighbours: Neighbours,
        seconds: float,
    ) -> None:
        train, evaluation = data.train, data.evaluation
        self.store.set_labels(self.dataset_id, [(name, index) for index, name in enumerate(train.source.classes)])
        has_model = data.network is not None
        train_ids = self._rows(train, "train", seen=True)
        self._scores(train_ids, scores_of(train, judged.train, heads, judged, influence))
        found = list(with_nearest(data, neighbours, train_findings(data, judged, influence)))
        self._findings(train_ids, found)
        self.store.set_thumbnails(thumbnails(train, train_ids, found))
        if data.own_evaluation:
            evaluation_ids = train_ids[: len(evaluation)]
        else:
            evaluation_ids = self._rows(evaluation, "eval", seen=False)
            assert judged.evaluation is not None
            self._scores(evaluation_ids, scores_of(evaluation, judged.evaluation, heads, judged, None))
            found = list(evaluation_findings(data, judged))
            self._findings(evaluation_ids, found)
            self.store.set_thumbnails(thumbnails(evaluation, evaluation_ids, found))
        pairs = zip(*(column.tolist() for column in influence.pairs.columns()), strict=True)
        self.store.add_influences(
            self.id, ((evaluation_ids[e], train_ids[t], value, rank) for e, t, value, rank in pairs)
        )
        self.store.add_receipts(self.id, _receipts(data, heads, judged, influence))
        sets = [train] if data.own_evaluation else [train, evaluation]
        accuracy_head, accuracy_probe = heads.accuracies(train)
        self.store.finish_run(
            self.id,
            counts={
                "scored": sum(len(rows) for rows in sets),
                "reused": sum(rows.reused for rows in sets),
                "unreadable": sum(len(rows.unreadable) for rows in sets),
                "blank": sum(rows.blank for rows in sets),
                "classes": data.classes,
                "features": train.features.shape[1],
                "evaluation_rows": len(evaluation),
                "eval_loss": influence.eval_loss,
                "harm": _harm_facts(influence),
                "diagnostics": diagnostics.facts(),
                "slices": _slices(train, influence),
            },
            accuracy_head=accuracy_head,
            accuracy_probe=accuracy_probe,
            seconds=seconds,
            peak_memory=_peak_memory(),
            notes=[
                *(f"{WARNING}{said}" for said in data.warnings),
                *data.notes,
                *_notes(data, judged, influence, has_model, accuracy_head, accuracy_probe),
            ],
        )

    def _rows(self, rows: Forward, split: str, *, seen: bool) -> list[int]:
        """Examples of the rows that were read, and with them the unreadable ones and their findings."""
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
                source.text(index),
                seen=seen,
            )

        read = [record(index, sha) for index, sha in zip(rows.indices, rows.sha256, strict=True)]
        broken = [record(index, "") for index, _ in rows.unreadable]
        ids = self.store.add_examples(self.dataset_id, [*read, *broken])
        self.store.add_findings(
            self.id,
            [
                FindingRecord(
                    example,
                    "unreadable",
                    "error",
                    None,
                    {"reason": reason, "content_sha256": _bytes_of(source, index)},
                    f"it cannot be read: {reason}",
                )
                for example, (index, reason) in zip(ids[len(read) :], rows.unreadable, strict=True)
            ],
        )
        return ids[: len(read)]

    def _scores(self, ids: list[int], columns: dict[str, list[object]]) -> None:
        names = list(columns)
        values = zip(*columns.values(), strict=True)
        self.store.add_scores(
            self.id,
            (dict(zip(names, row, strict=True), example_id=example) for example, row in zip(ids, values, strict=True)),
        )

    def _findings(self, ids: list[int], found: Iterable[Found]) -> None:
        self.store.add_findings(
            self.id,
            (FindingRecord(ids[f.row], f.rule, f.severity, f.score, f.evidence, f.why) for f in found),
        )


def _bytes_of(source: Source, index: int) -> str:
    """Content hash of a row that came no further: with it `curate check` sees whether the row was replaced."""
    try:
        return source.read(index).content_sha256
    except UnreadableRow:
        return ""


@contextmanager
def begin_run(settings: ScanSettings, loaded: Loaded) -> Iterator[Run]:
    """A run in the database, marked failed or interrupted where the block does not get to its end."""
    source, model, gate = loaded.train, loaded.model, Gate.of_settings(settings.as_json())
    with Store.open(Path(settings.db), create=True) as store:
        dataset_id = store.dataset(source.name, source.location, source.kind)
        run_id = store.begin_run(
            dataset_id,
            settings=settings.as_json(),
            seed=settings.seed,
            versions=versions(),
            model=model.spec if model else None,
            weights_sha256=model.weights_sha256 if model else None,
            device=str(loaded.device),
            git_commit=git_commit(),
            gate=gate.settings() if gate.is_set else None,
        )
        try:
            yield Run(store, dataset_id, run_id)
        except BaseException as error:
            store.mark_run(run_id, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise


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


def _receipts(data: Data, heads: Heads, judged: Judged, influence: Influence) -> Iterator[ReceiptRecord]:
    head = heads.influence.head
    probe = heads.probe_influence
    yield ReceiptRecord(
        quantity="suspicion",
        solver="exact" if probe.head.exact else "class-block",
        curvature="ggn",
        parameters="probe",
        damping=PENALTY,
        detail={
            "detectors": "leave-one-out probe, neighbour votes",
            "voters": VOTERS,
            "judges": [_judge(judge) for judge in judged.panel.judges],
            "confirmed_by_last_features": judged.panel.confirmed,
            "cut": judged.cut,
            "checkpoints": judged.checkpoints,
            "verdicts": None if judged.correction is None else asdict(judged.correction),
            "mean_leverage": probe.scores.mean_leverage,
        },
    )
    yield ReceiptRecord(
        quantity="self-influence",
        solver="exact" if head.exact else "class-block",
        curvature="ggn",
        parameters=heads.name,
        damping=float(head.curvature.penalty[0]) if heads.damping is None else heads.damping,
        detail={"mean_leverage": heads.influence.scores.mean_leverage},
    )
    network = judged.network
    if network is not None:
        yield ReceiptRecord(
            quantity="self-influence through the network",
            solver="ekfac" if network.layers else "exact" if network.sampled is None else "dual of a sample",
            curvature=network.curvature,
            parameters=network.parameters,
            damping=network.damping,
            seconds=network.seconds,
            detail={"sampled_rows": network.sampled, "approximation": network.layers},
        )
    deep = influence.deep
    if deep is not None and influence.solver is not None:
        low, high = deep.recall_interval
        yield ReceiptRecord(
            quantity="evaluation influence",
            solver=deep.solver,
            curvature=deep.curvature,
            parameters=influence.parameters,
            damping_asked=deep.damping_asked,
            damping=deep.solution.damping,
            residual=float(deep.solution.residual.mean()),
            score_error=deep.score_error,
            steps=deep.solution.steps,
            seconds=influence.seconds,
            recall=deep.recall,
            recall_low=low,
            recall_high=high,
            rank_stability=deep.stability,
            detail={
                **deep.solution.detail,
                "right_hand_sides": len(deep.solution.rows),
                "largest_residual": float(deep.solution.residual.max()),
                "candidates": deep.candidates,
                "gradients_taken": deep.gradients_taken,
                "recall_by_order_of_candidates": deep.recalls,
                "evaluation_rows": influence.targets.name,
            },
        )
    if influence.head_rows:
        yield ReceiptRecord(
            quantity="evaluation influence" if deep is None else "influence on the other rows",
            solver="exact" if head.exact else "cg",
            curvature="ggn",
            parameters=heads.name,
            damping=float(head.curvature.penalty[0]) if heads.damping is None else heads.damping,
            residual=influence.head_residual,
            rank_stability=influence.head_stability,
            seconds=influence.seconds if deep is None else None,
            detail={"evaluation_rows": influence.head_rows},
        )
    harmful = influence.harmful
    if harmful is not None:
        at_head = "exact" if head.exact else "cg"
        yield ReceiptRecord(
            quantity="harmful rows",
            solver=at_head if deep is None else deep.solver,
            curvature="ggn" if deep is None else deep.curvature,
            parameters=influence.parameters,
            detail={
                "evaluation_rows": influence.targets.name,
                "groups_of_evaluation_rows": harmful.groups,
                "smallest_harm": harmful.minimum,
                "rows_tested": harmful.tested,
                "false_discovery_rate": FALSE_DISCOVERIES,
                "flips": heads.name,
            },
        )


def _harm_facts(influence: Influence) -> dict[str, object]:
    """What reports say of harm as a whole."""
    facts: dict[str, object] = {"measured_on": influence.targets.name, "judged": influence.harmful is not None}
    if influence.harmful is not None and len(influence.harmful.rows):
        right, wrong = influence.together.tolist()
        rows = influence.harmful.rows
        facts |= {"sum": float(influence.harm[rows].sum()), "turn_right": right, "turn_wrong": wrong}
    return facts


def _slices(train: Forward, influence: Influence) -> list[dict[str, object]]:
    keys = train.keys if influence.slices else []
    return [
        {
            "value": one.value, "rows": one.rows, "loss": one.loss, "accuracy": one.accuracy,
            "harmful": [
                {"key": keys[row], "harm": harm}
                for row, harm in zip(one.harmful.tolist(), one.harm.tolist(), strict=True)
            ],
        }
        for one in influence.slices
    ]  # fmt: skip


def _notes(
    data: Data, judged: Judged, influence: Influence, has_model: bool, head: float | None, probe: float
) -> Iterator[str]:
    if data.own_evaluation:
        yield (
            f"no evaluation set was given: {len(data.evaluation):,} training rows, chosen by content, also serve "
            "as one; they are as noisy as the rest" + (" and known to the network" if has_model else "")
        )
    sets = [data.train] if data.own_evaluation else [data.train, data.evaluation]
    reused = sum(rows.reused for rows in sets)
    if reused:
        yield (
            f"the forward pass of {reused:,} of {sum(map(len, sets)):,} rows was taken from an earlier scan (same "
            "content, model and versions); what is fitted to all rows was fitted anew"
        )
    if not influence.targets.whole:
        yield f"harm is measured on {influence.targets.name}, of {len(data.evaluation):,}"
    if influence.harmful is None:
        yield (
            f"no row is called harmful: {len(influence.targets.rows):,} evaluation rows are too few to tell "
            f"(it takes {FEWEST_ROWS})"
        )
    if influence.deep is not None and influence.head_rows:
        yield (
            f"harm and the {len(influence.targets.chosen):,} evaluation rows of highest loss are answered from "
            f"{influence.parameters}; the other {influence.head_rows:,} evaluation rows from the head"
        )
    if influence.left:
        yield f"{influence.left:,} evaluation rows were left out: the head is too large to be solved for each"
    if judged.checkpoints > 1:
        yield f"suspicion is the mean of {judged.checkpoints} checkpoints; everything else is of the last one named"
    if judged.correction is not None:
        told = judged.correction
        before = np.array([0.5, 0.9])
        half, sure = told.of(before)
        yield (
            f"suspicion was corrected by {told.wrong + told.right:,} verdicts ({told.wrong:,} labels wrong, "
            f"{told.right:,} right): 0.5 became {half:.2f}, 0.9 became {sure:.2f}; the order of the rows is the same"
        )
    if judged.panel.by_heart:
        assert data.network is not None
        assert data.network.early is not None
        yield (
            f"the network has memorised its labels ({_right(head)}): suspicion rests on its features halfway up "
            f"(what {data.network.early.name} reads), which hardly know them"
        )
    elif head is not None and head >= BY_HEART and data.train.early is None:
        yield (
            f"the network has memorised its labels ({_right(head)}): suspicion rests on its last features, and its "
            "probabilities are too timid; its ranks are better than they"
        )
    deep = influence.deep
    if deep is not None and deep.recall < 1 and deep.recall >= deep.recalls.get(HEAD, 2.0):
        yield (
            f"candidates are the training rows of most influence at the head: {deep.recall:.0%} of the strongest are "
            f"among them, {deep.recalls[DISTANCE]:.0%} among the nearest"
        )
    if deep is not None and deep.solution.damping > 1.01 * deep.damping_asked:
        yield (
            f"damping {deep.damping_asked:.2g} was asked for and raised to {deep.solution.damping:.2g}, the smallest "
            "that the steps of plain LiSSA can solve; --solver preconditioned-lissa or cg avoids this"
        )
    if deep is not None:
        yield from _of_the_solve(deep)
    classes = data.train.source.classes
    counts = data.train.labels.bincount(minlength=len(classes)).tolist()
    few = [name for name, count in zip(classes, counts, strict=True) if count < 5]
    if few:
        yield f"classes with under five rows, whose suspicion is a rank and no probability: {', '.join(few[:5])}"
    share = float((judged.train.suspicion > judged.cut).mean())
    if share > 0.3:
        yield f"{WARNING}{share:.0%} of the rows are flagged: are the labels and --classes those of the model?"


def _of_the_solve(deep: DeepInfluence) -> Iterator[str]:
    """What auto chose, and a warning where the residual is over the bound."""
    why = deep.solution.detail.get("why")
    if why:
        yield f"--solver auto took {deep.solver}: {why}"
    residual = float(deep.solution.residual.mean())
    better = "a larger --damping" if deep.solver == "cg" else "--solver cg"
    if residual > RESIDUAL_BOUND:
        error = "" if deep.score_error is None else f" and its scores' error at {deep.score_error:.2g}"
        yield (
            f"{WARNING}evaluation influence and harm: the residual of {deep.solver} was measured at {residual:.2g}"
            f"{error}: take them as a ranking at most, or use {better}"
        )


def _right(accuracy: float | None) -> str:
    return (
        "its last features deny errors that the early ones see"
        if accuracy is None
        else f"{accuracy:.1%} right on the given ones"
    )


def _judge(judge: Judge) -> dict[str, object]:
    weights = [round(float(weight), 3) for weight in judge.fusion.weights]
    return {"depths": judge.depths, "weights": weights, "noise": round(judge.fusion.noise.rate, 4)}


def _peak_memory() -> int:
    """Bytes; the operating system counts them in kB, on a Mac in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
