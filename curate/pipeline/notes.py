"""The notes of a run: sentences on what its numbers rest on, and warnings where they are doubtful.

Knows when something is worth saying; leaves writing to `record` and layout to the reports.
"""

from collections.abc import Iterator

from curate.engine.influence.deep import DISTANCE, HEAD, DeepInfluence
from curate.engine.influence.harmful import FEWEST_ROWS
from curate.engine.solvers.base import RANKS_BOUND, RESIDUAL_BOUND
from curate.engine.suspicion.level import Level
from curate.engine.suspicion.panel import LEARNT, LOST
from curate.plugs import solver_words
from curate.process.numbers import percent
from curate.rules.rule import LEAST_ROWS
from curate.stages.influence import Influence
from curate.stages.prepare import Data
from curate.stages.suspicion import Judged
from curate.store import WARNING

SILENT = 0.005
"""Share of wrong labels up to which suspicion says next to nothing."""


# Long, not deep: one sentence after the other, in the order of the report.
def notes_of(
    data: Data, judged: Judged, influence: Influence, has_model: bool, head: float | None, probe: float
) -> Iterator[str]:
    """What a reader of the numbers has to know, a sentence each."""
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
    if influence.guesses:
        yield "no row is called harmful: the head that influence is taken at is no better than a guess"
    elif influence.harmful is None:
        yield (
            f"no row is called harmful: {len(influence.targets.rows):,} evaluation rows are too few to tell "
            f"(it takes {FEWEST_ROWS})"
        )
    if influence.declined is not None:
        yield f"influence is taken at the head; {influence.declined}"
    if influence.deep is not None and influence.head_rows:
        yield (
            f"harm and the {len(influence.targets.chosen):,} evaluation rows of highest loss are answered from "
            f"{influence.parameters}; the other {influence.head_rows:,} evaluation rows from the {influence.head}"
        )
    if influence.left:
        yield f"{influence.left:,} evaluation rows were left out: the head is too large to be solved for each"
    if judged.checkpoints > 1:
        yield f"suspicion is the mean of {judged.checkpoints} checkpoints; everything else is of the last one named"
    if judged.level is not None:
        yield level_sentence(judged.level, len(data.train))
    yield from _of_the_memory(judged, head)
    deep = influence.deep
    if deep is not None and deep.recall < 1 and deep.recall >= deep.recalls.get(HEAD, 2.0):
        yield (
            f"candidates are the training rows of most influence at the head: {percent(deep.recall, 0)} of the "
            f"strongest are among them, {percent(deep.recalls[DISTANCE], 0)} among the nearest"
        )
    if deep is not None:
        yield from _of_the_solve(deep)
    classes = data.train.source.classes
    counts = data.train.labels.bincount(minlength=len(classes)).tolist()
    few = [name for name, count in zip(classes, counts, strict=True) if count < LEAST_ROWS]
    if few:
        named = ", ".join(few[:5]) + (f" and {len(few) - 5:,} more" if len(few) > 5 else "")
        yield (
            "classes with none or under five training rows, whose suspicion is a rank and no probability, and never "
            f"an error: {named}"
        )
    share = float((judged.train.suspicion > judged.cut).mean())
    if share > 0.3 and (judged.level is None or judged.level.source == "labels"):  # else somebody says that it is so
        yield f"{WARNING}{percent(share, 0)} of the rows are flagged: are the labels and --classes those of the model?"


def _of_the_memory(judged: Judged, head: float | None) -> Iterator[str]:
    """Whether the network knows its labels by heart; never silent if it may, and nothing would show it."""
    memory, depths = judged.panel.memory, judged.panel.judges[0].depths
    if memory is not None and memory.by_heart:
        known = f"it gives {percent(memory.repeated, 0)} of the labels that look wrong from its {_listed(depths)}"
        if memory.unseen_accuracy is not None and memory.lost >= LOST:
            known += f", and is right on {percent(memory.unseen_accuracy)} of the evaluation rows"
        if memory.wavering is not None and memory.wavers:
            known += (
                f", and calls {percent(memory.wavering, 0)} of all rows that it is sure of otherwise half way to the "
                "next row"
            )
        yield (
            f"the network knows its labels by heart ({_right(head)}): {known}; suspicion rests on its "
            f"{_listed(depths)} alone"
        )
        return
    if head is None or head < LEARNT or judged.train.suspicion.sum() > SILENT * len(judged.train.suspicion):
        return
    told = "its inputs and early features do not contradict them" if memory is not None else "nothing else was asked"
    yield (
        f"the network gives nearly every row its label ({_right(head)}), and {told}: few labels are wrong, or "
        "it has learnt the wrong ones. Suspicion is a ranking here; scan the data without --model, or with an "
        "embedding that was not trained on these labels, and compare"
    )


def _listed(depths: tuple[str, ...]) -> str:
    return " and ".join(depths)


def level_sentence(level: Level, rows: int) -> str:
    """How many labels suspicion says are wrong, who says so, and between what."""

    def share(count: float) -> str:
        return f"{100 * count / rows:.1f} %"

    if level.source == "audit":
        low, high = level.interval or (level.low, level.high)
        return (
            f"an audit of {level.verdicts:,} rows sets the level of suspicion: {share(level.expected)} of the labels "
            f"are wrong (95 %: {share(low)} to {share(high)}), and as many rows are flagged"
        )
    if level.source == "noise rate":
        between = "" if level.low == level.high else f", between {share(level.low)} and {share(level.high)}"
        return f"--noise-rate sets the level of suspicion: {share(level.expected)} of the labels are wrong{between}"
    counts = ", ".join(f"{name.replace('_', ' ')} {share(count)}" for name, count in level.by.items())
    return (
        f"suspicion says that {share(level.expected)} of the labels are wrong; labels alone do not tell it better than "
        f"{share(level.low)} to {share(level.high)} ({counts}): `curate audit` finds out"
    )


def _of_the_solve(deep: DeepInfluence) -> Iterator[str]:
    """What auto chose, a damping that was raised, and a warning where the residual is over the bound.

    A solver that replaces the curvature has a residual over any bound by its nature: what tells whether its answer is
    of use is how well its ranks hold.
    """
    raised = deep.solution.damping > 1.01 * deep.damping_asked
    why = deep.solution.detail.get("why")
    if why:
        used = f" at damping {deep.solution.damping:.2g}" if raised else ""
        yield f"--solver auto took {deep.solver}{used}: {why}"
    elif raised:
        better = "--solver cg" if deep.solver == "preconditioned-lissa" else "--solver preconditioned-lissa or cg"
        yield (
            f"damping {deep.damping_asked:.2g} was raised to {deep.solution.damping:.2g}, the smallest that the steps "
            f"of {deep.solver} can solve; {better} avoids this"
        )
    residual = float(deep.solution.residual.mean())
    if deep.whole or residual <= RESIDUAL_BOUND:
        return
    plug = solver_words(deep.solver)
    replaces = plug is not None and plug.replaces
    better = "a larger --damping" if deep.solver == "cg" else "--solver cg"
    if replaces and deep.ranks_kept is not None:
        weak = WARNING if deep.ranks_kept < RANKS_BOUND or (deep.score_error or 0.0) > 1 else ""
        measured = len(deep.solution.missing[0])
        yield (
            f"{weak}{deep.solver} solves an approximation of the curvature: measured on {measured} evaluation rows, "
            f"its scores are off by {percent(deep.score_error or 0.0, 0)} and have a rank correlation of "
            f"{deep.ranks_kept:.2f} with solved ones; {better} solves the curvature itself"
        )
        return
    error = "" if deep.score_error is None else f" and its scores' error at {deep.score_error:.2g}"
    yield (
        f"{WARNING}evaluation influence and harm: the residual of {deep.solver} was measured at {residual:.2g}"
        f"{error}: take them as a ranking at most, or use {better}"
    )


def _right(accuracy: float | None) -> str:
    return (
        "its last features deny errors that the early ones see"
        if accuracy is None
        else f"{percent(accuracy)} right on the given ones"
    )
