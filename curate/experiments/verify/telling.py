"""The page of `curate verify`: the answer first, then what it rests on.

Knows layout; leaves the experiment to ``curate.experiments.verify``.
"""

from typing import TYPE_CHECKING

from curate.experiments.verify.answer import UNDECIDED
from curate.process.numbers import duration, percent
from curate.reports.words import brief, clean, plural, signed

if TYPE_CHECKING:
    from curate.experiments.verify.agreement import Bounded
    from curate.experiments.verify.plan import Plan
    from curate.experiments.verify.protocol import Told, Verification


CLEARLY = 0.1
"""By so much another damping's rank correlation must be better to be spoken of."""


def plan_sentence(plan: "Plan") -> str:
    """What will be done, and for how long, before it is."""
    twice = f", {plan.repeats} of the rows again in another order" if plan.repeats else ""
    groups = f"{plan.groups} random halves" if plan.halves else f"{plan.groups} groups of {plan.group_size:,}"
    solved = f", after {duration(plan.spent)} of solving" if plan.spent >= 1 else ""
    shared = f" over {plan.processes} processes" if plan.processes > 1 else ""
    return (
        f"{plural(plan.rows, 'row')} left out one at a time, {groups}{twice}: "
        f"{plan.refits} refits of about {plan.seconds:.2g} s, {duration(plan.work)} in all{shared}{solved}"
    )


def verified_page(found: "Verification") -> str:
    """The answer as plain text, the most important line first."""
    answer = found.answer
    control = " (a control: predictions dealt out at random)" if found.control else ""
    lines = [
        f"Is influence right on this model? {answer.trust.upper()}{control}",
        clean(f"because of {answer.because}"),
        *(f"! warning: {clean(said)}" for said in found.warnings),
        "",
        f"{'rows left out one at a time':28}{'Pearson':>23}{'Spearman':>23}{'Kendall':>9}{'signs':>7}{'slope':>23}",
        *(line for one, word in zip(found.targets, answer.by_target, strict=True) for line in _target(one, word)),
        "",
        *_groups(found),
        *_choices(found.targets[0]),
        *_at_reach(found),
        "",
        clean(f"measured on {found.measured_on}"),
        clean(f"predicted by {found.prediction}"),
        clean(f"actual: {found.refit}, against the same without any change"),
        *([clean(found.stored)] if found.stored else []),
        _work(found),
        *_next(found),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _target(told: "Told", word: str) -> list[str]:
    name = "mean loss" if told.key is None else f"row of {told.name}"
    key = "" if told.key is None else clean(f" ({told.key})")
    evidence, agreement = told.evidence, told.evidence.agreement
    if agreement is None:
        first = f"{name:28}{'no change in any refit':>23}"
    else:
        first = (
            f"{name:28}{_estimate(agreement.pearson):>23}{_estimate(agreement.spearman):>23}"
            f"{agreement.kendall.value:>9.2f}{percent(agreement.signs.value, 0):>7}{_estimate(agreement.slope):>23}"
        )
    parts = [f"loss {brief(told.loss)} nats{key}", f"changes {brief(evidence.change)} (standard deviation)"]
    if evidence.noise:
        parts.append(f"noise {brief(evidence.noise)}")
    if abs(evidence.drift) > 1e-3 * evidence.change:  # at an optimum only rounding is left
        parts.append(f"drift {signed(evidence.drift)}")
    if told.chance is not None:
        parts.append(f"by chance Spearman is under {told.chance:.2f}")
    return [first, f"  {word}: {'; '.join(parts)}"]


def _estimate(found: "Bounded") -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _groups(found: "Verification") -> list[str]:
    scores = [score for score in found.groups if score is not None]
    if found.datamodeling_score is None:
        return ["groups: nothing changed in any refit"]
    spread = f"; {min(scores):.2f} to {max(scores):.2f}" if len(scores) > 1 else ""
    interval = found.datamodeling_interval
    between = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    groups = "halves of the rows" if found.plan.halves else f"groups of {found.plan.group_size:,}"
    return [
        f"{groups} left out: linear datamodeling score {found.datamodeling_score:.2f}{between}, the mean rank "
        f"correlation over {plural(len(scores), 'target')}{spread}"
    ]


def _choices(told: "Told") -> list[str]:
    parts = [f"{name} {'-' if rho is None else format(rho, '.2f')}" for name, rho in told.by_choice.items()]
    return [f"Spearman for the mean loss by how the rows were chosen: {', '.join(parts)}"]


def _next(found: "Verification") -> list[str]:
    if found.answer.trust == UNDECIDED:
        minutes, rows = found.plan.minutes, found.plan.most_rows
        return ["", f"next: curate verify --minutes {minutes} leaves out {rows} rows; refits made so far are kept"]
    if found.answer.trust == "trust" or found.at == "probe" or found.control:
        return []
    others = {
        "model": "--at head (what --params head takes) and --at probe (what suspicion rests on)",
        "head": "--at probe (what suspicion rests on)",
    }
    lines = [f"next: curate verify {others[found.at]} asks other questions, which may have better answers"]
    told, mean = found.at_reach, found.targets[0].evidence.agreement
    if told and told.agreement and mean and told.agreement.spearman.value > mean.spearman.value + CLEARLY:
        lines.append(f"next: a scan with --damping {brief(told.damping)} predicts what a short fine-tuning does")
    return ["", *lines]


def _at_reach(found: "Verification") -> list[str]:
    """How much of the disagreement is the refits' shortness."""
    told = found.at_reach
    if told is None or told.agreement is None:
        return []
    return [
        f"the mean loss with damping {brief(told.damping)}, which such short refits amount to: Pearson "
        f"{told.agreement.pearson.value:.2f}, Spearman {told.agreement.spearman.value:.2f}, slope "
        f"{told.agreement.slope.value:.2f}"
    ]


def _work(found: "Verification") -> str:
    reused = f", {found.reused} of them from an earlier check" if found.reused else ""
    return f"{plural(found.refits, 'refit')}{reused}, {duration(found.seconds)}"
