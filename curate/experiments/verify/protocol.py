"""Is influence right on this model? Rows and groups are really left out, and what happens is held against what was
predicted.

As Koh & Liang (2017) and Basu et al. (2021) do it: training rows of most influence, around the 30th percentile and at
random; the mean of the evaluation rows, the one of highest and the one of median loss. A refit without any change is
subtracted. Groups give the linear datamodeling score (Park et al. 2023). Every refit is stored as it ends, so that an
interrupted check goes on where it was, and more minutes add to what is there.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.influence.predict import ThroughNetwork
from curate.experiments.training import TrainingSet
from curate.experiments.verify.agreement import Agreement, OverGroups, chance_bound, rank_correlation
from curate.experiments.verify.answer import UNDECIDED, Answer, Evidence, answer, doubted
from curate.experiments.verify.jobs import Job, Jobs, Refits, identity
from curate.experiments.verify.plan import MIDDLE, RANDOM, TOP, Plan, make_plan
from curate.experiments.verify.refit import Recipe
from curate.experiments.verify.setting import Setting, prepare
from curate.process.progress import Progress
from curate.process.spoken import Spoken
from curate.settings.merge import ScanSettings
from curate.stages.agreement import read_by_all
from curate.stages.heads import fit_heads
from curate.stages.joining import Together
from curate.stages.prepare import Data, Held, Loaded
from curate.store import Store
from curate.store.verifications import add_verification, stored_harm

NAMES = ("mean", "highest loss", "median loss")
NAMED = len(NAMES)
OVERTIME = 1.2
"""Times the minutes asked for, after which no refit is begun."""
SAME = 0.01
"""Of the spread of a run's harm: so little two solves of one question differ."""
MORE_TARGETS = 5
"""Random evaluation rows beside the named ones, for the datamodeling score."""


@dataclass(frozen=True)
class Told:
    """One named target: what was predicted for it against what refits gave."""

    name: str
    """`mean`, `highest loss` or `median loss`."""
    key: str | None
    """Of the evaluation row; None for the mean."""
    loss: float
    """Before, nats."""
    evidence: Evidence
    by_choice: dict[str, float | None]
    """Spearman's correlation among the rows that were chosen for one reason."""
    chance: float | None
    """What predictions dealt out at random stay under in 95 of 100 deals: Spearman's correlation, by size."""


@dataclass(frozen=True)
class AtReach:
    """A refit that stops on its way answers the question of a larger damping: so much is its doing, not influence's."""

    damping: float
    """1 / reach + weight decay."""
    agreement: Agreement | None


@dataclass(frozen=True)
class Verification(Spoken):
    """The answer, and all that it rests on."""

    answer: Answer
    targets: list[Told]
    groups: list[float | None]
    """Of each target, also those without a name: Spearman's correlation over the groups, predicted against actual."""
    datamodeling_score: float | None
    """Their mean: the linear datamodeling score."""
    datamodeling_interval: tuple[float, float] | None
    """Of 95 %, by a bootstrap over the groups."""
    plan: Plan
    refits: int
    reused: int
    """Of the refits: stored by an earlier check."""
    measured_on: str
    at: str
    prediction: str
    refit: str
    pairs: list[dict[str, object]]
    """Every row that was left out: key, why it was chosen, predicted and actual change of each named target, nats."""
    stored: str = ""
    """Whether the newest scan of these weights stored the numbers that were checked here, in a sentence."""
    at_reach: AtReach | None = None
    """The mean loss again, with the damping that refits by fine-tuning amount to."""
    warnings: tuple[str, ...] = ()
    """What makes the whole of it doubtful: classes in another order, inputs prepared otherwise."""
    control: bool = False
    """Whether the predictions were dealt out at random."""
    seconds: float = 0.0

    def __str__(self) -> str:
        from curate.experiments.verify.telling import verified_page

        return verified_page(self)


def verify(
    settings: ScanSettings,
    process: Together,
    *,
    at: str,
    recipe: Recipe,
    minutes: float,
    announce: Callable[[Plan], None],
    control: bool = False,
    held: Held | None = None,
) -> Verification:
    """``announce`` is told the plan before the work; ``control`` deals the predictions out at random; ``held`` is what
    a caller has in memory of data and model. Several processes deal the refits out and all return the same; the first
    alone stores.

    Raises `UsageError` where the minutes do not allow enough refits.
    """
    started, progress = time.monotonic(), process.progress
    loaded, data = read_by_all(settings, progress, process.passes, held)
    heads, began = fit_heads(data, settings.damping), time.monotonic()
    setting = prepare(
        settings,
        data,
        heads,
        at=at,
        recipe=recipe,
        progress=progress,
        choose=lambda losses: _alone(losses, settings.seed),
    )
    predicted = setting.predictor.drop_on_each().double().numpy()
    spent = data.passes.told(lambda: time.monotonic() - began)
    with Store.open(Path(settings.db), create=True) if data.passes.first else nullcontext() as store:
        refits = Refits(store, identity(data, setting, recipe.retrain, settings.seed), setting)
        plan = _planned(refits, setting, minutes, spent, progress, halves=recipe.retrain is not None)
        announce(plan)
        jobs = Jobs.of(plan, predicted, data.train, settings.seed)
        every = jobs.mixed(settings.seed)
        with progress.stage("Refits", len(every)) as advance:
            refits.make(every, advance, until=began + 60 * OVERTIME * minutes)
        if control:
            predicted = np.random.default_rng(settings.seed).permutation(predicted)
        found = _compared(setting, refits, predicted, jobs, plan, settings.seed)
        if not control:
            found = replace(found, at_reach=_at_reach(setting, refits, list(jobs.rows), settings.seed))
            found = replace(found, stored=_beside_the_scan(store, loaded, data, predicted[:, 0]) if store else "")
        found = replace(found, warnings=data.warnings, control=control, seconds=time.monotonic() - started)
        if data.unsteady:
            found = replace(found, answer=doubted(found.answer, f"outputs that move: {data.unsteady}"))
        if store is not None and not control and found.answer.trust != UNDECIDED:
            _store(store, settings, loaded, found)
        return found


def _compared(
    setting: Setting, refits: Refits, predicted: Float[np.ndarray, "n k"], jobs: Jobs, plan: Plan, seed: int
) -> Verification:
    said, actual = refits.held(list(jobs.rows), predicted)
    rows = {job: reason for job, reason in jobs.rows.items() if job.place in refits.found}
    told = [
        _told(number, setting, refits, said[:, number], actual[:, number], rows, seed)
        for number in range(min(NAMED, predicted.shape[1]))
    ]
    groups = OverGroups.of(*refits.held(jobs.groups, predicted), seed)
    score = groups.score
    return Verification(
        answer=answer(
            {_in_words(one): one.evidence for one in told},
            score,
            halves=plan.halves,
            rows=len(rows),
            most=plan.most_rows,
        ),
        targets=told,
        groups=groups.by_target,
        datamodeling_score=None if score is None else score.value,
        datamodeling_interval=None if score is None else (score.low, score.high),
        plan=plan,
        refits=refits.made + refits.reused,
        reused=refits.reused,
        measured_on=setting.targets.name,
        at=setting.at,
        prediction=setting.predictor.how,
        refit=setting.refit.recipe,
        pairs=[
            {"key": job.name, "chosen": reason, "predicted": one[:NAMED].tolist(), "actual": other[:NAMED].tolist()}
            for (job, reason), one, other in zip(rows.items(), said, actual, strict=True)
        ],
    )


def _store(store: Store, settings: ScanSettings, loaded: Loaded, found: Verification) -> None:
    source = loaded.train
    add_verification(
        store,
        store.dataset(source.name, source.location, source.kind),
        identity=loaded.identity,
        settings={**settings.as_json(), "at": found.at, "refit": found.refit},
        trust=found.answer.trust,
        because=found.answer.because,
        found=asdict(found),
    )


def _beside_the_scan(store: Store, loaded: Loaded, data: Data, predicted: Float[np.ndarray, " n"]) -> str:
    """``predicted`` of each training row: the rise of the mean loss without it, whose negative is harm."""
    source = loaded.train
    found = stored_harm(store, store.dataset(source.name, source.location, source.kind), loaded.identity[1])
    if found is None:
        return "no scan of these weights is stored here: what was checked is what one with these options would store"
    run, harm = found
    keys = [place for place, key in enumerate(data.train.keys) if key in harm]
    here, there = -predicted[keys], np.array([harm[data.train.keys[place]] for place in keys])
    if not len(there):
        return f"run {run} stored no harm of these rows"
    if np.abs(here - there).max() <= SAME * there.std():
        return f"the numbers checked are those that run {run} stored"
    alike = rank_correlation(here, there)
    times = float(there @ here / max(float(here @ here), 1e-300))
    how = "" if alike is None else f" (rank correlation {alike:.2f}, {times:.2f} times as large)"
    return f"run {run} stored other numbers{how}: this is the answer to a scan with the options given here, not to it"


def _planned(
    refits: Refits, setting: Setting, minutes: float, spent: float, progress: Progress, *, halves: bool
) -> Plan:
    """After the refits without a change, which tell how long one takes."""
    exact = setting.refit.converged
    unchanged = [Job.unchanged(ordering) for ordering in range(1 if exact else 2)]
    with progress.stage("Refits without a change", len(unchanged)) as advance:
        for job in unchanged:  # by one process, whose second one tells the time: a first one also loads what it needs
            refits.make([job], advance)
    passes = setting.data.passes
    seconds = min(refits.seconds[job.place] for job in unchanged)
    if exact:  # many at once, from the optimum that is known now, take far less than the first
        seconds = passes.told(lambda: _one_of_many(setting))
    n = len(setting.data.train)
    return make_plan(n, minutes, seconds, exact=exact, halves=halves, spent=spent, processes=passes.count)


def _one_of_many(setting: Setting) -> float:
    """Seconds of a refit among others."""
    some, whole = min(8, setting.refit.batch), TrainingSet.of(setting.data.train)
    rows = [whole.without(torch.tensor([row])) for row in range(some)]
    list(setting.refit.many(rows[:1]))  # another process may have made the refit that all begin with
    started = time.monotonic()
    list(setting.refit.many(rows))
    return (time.monotonic() - started) / some


def _alone(losses: Float[Tensor, " T"], seed: int) -> Int[Tensor, " k"]:
    """The target rows of highest and of median loss, and some random others."""
    order = losses.argsort(descending=True, stable=True)
    named = [int(order[0]), int(order[len(order) // 2])]
    random = torch.randperm(len(losses), generator=torch.Generator().manual_seed(seed)).tolist()
    places = list(dict.fromkeys([*named, *random]))
    return torch.tensor(places[: len(set(named)) + MORE_TARGETS])


def _told(
    number: int,
    setting: Setting,
    refits: Refits,
    said: Float[np.ndarray, " m"],
    actual: Float[np.ndarray, " m"],
    rows: dict[Job, str],
    seed: int,
) -> Told:
    twice = [(job, job.again) for job in rows if job.again.place in refits.found]
    apart = np.array([refits.change(one)[number] - refits.change(other)[number] for one, other in twice])
    before = refits.losses(setting.before)[number]
    evidence = Evidence(
        agreement=Agreement.of(said, actual, seed),
        change=float(actual.std()),
        largest=float(np.abs(actual).max()),
        noise=float(np.sqrt((apart**2).mean() / 2)) if len(apart) else 0.0,
        drift=refits.found[Job.unchanged().place][number] - before,
    )
    by_choice: dict[str, float | None] = {}
    for wanted in (TOP, MIDDLE, RANDOM):
        of_it = np.array([reason == wanted for reason in rows.values()])
        by_choice[wanted] = rank_correlation(said[of_it], actual[of_it])
    key = None
    if number:
        place = int(setting.targets.rows[setting.at_head.alone[number - 1]])
        key = setting.data.evaluation.keys[place]
    return Told(NAMES[number], key, before, evidence, by_choice, chance_bound(said, actual, seed))


def _at_reach(setting: Setting, refits: Refits, jobs: list[Job], seed: int) -> AtReach | None:
    predictor, reach = setting.predictor, setting.refit.reach
    if reach is None or not isinstance(predictor, ThroughNetwork):
        return None
    damping = 1 / reach + setting.refit.decay
    said, actual = refits.held(jobs, predictor.drop_at(damping).double().numpy()[:, None])
    return AtReach(damping, Agreement.of(said[:, 0], actual[:, 0], seed))


def _in_words(told: Told) -> str:
    return "the mean loss" if told.key is None else f"the row of {told.name}"
