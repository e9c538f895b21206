"""The page of `curate retrain-check`: the answer first, then what it rests on."""

from typing import TYPE_CHECKING

from curate.process.numbers import duration, percent
from curate.reports.words import brief, clean, plural, signed

if TYPE_CHECKING:
    from curate.experiments.cleaned import CleaningEffect
    from curate.experiments.verify.agreement import Bounded


def cleaning_page(found: "CleaningEffect") -> str:
    """The effect as plain text."""
    points = found.accuracy
    drawn = f", {found.by_audit:,} of them drawn by an audit" if found.by_audit else ""
    lines = [
        f"Did cleaning help? {found.answer.upper()}",
        f"because of the accuracy on {plural(found.rows, 'row')} whose label a person confirmed or corrected"
        f"{_by_loss(found)}",
        "",
        f"{'':14}{'given':>10}{'cleaned':>10}   difference, 95 % interval",
        f"{'accuracy':14}{percent(found.accuracy_given):>10}{percent(found.accuracy_cleaned):>10}   "
        f"{100 * points.value:+.1f} points ({100 * points.low:+.1f} to {100 * points.high:+.1f})",
        f"{'loss, nats':14}{brief(found.loss_given):>10}{brief(found.loss_cleaned):>10}   {_signed(found.loss)}",
        f"predictions turned right {_count(found.turned_right)}, turned wrong {_count(found.turned_wrong)}",
        "",
        f"judged on rows that were not trained on{drawn}",
        f"cleaned: {plural(found.relabelled, 'label')} changed, {plural(found.dropped, 'row')} left out; "
        f"a training learned from {_count(found.learned)} of these {found.relabelled + found.dropped:,} changes",
        clean(f"trained by {found.trained_by}, {plural(found.trainings, 'time')}, {duration(found.seconds)}"),
        *_cautions(found),
    ]
    return "\n".join(lines) + "\n"


def _cautions(found: "CleaningEffect") -> list[str]:
    lines = []
    if found.by_audit < found.rows:
        lines.append(
            "! rows that were judged because they looked wrong are harder than most: for the accuracy on all rows let "
            "`curate audit` draw them"
        )
    if found.seeds == 1:
        lines.append("! one training each: the interval is over the rows; more seeds add the chance of the training")
    if found.rows_needed is not None:
        lines.append(f"next: a difference of this size would be told on about {found.rows_needed:,} confirmed rows")
    return lines


def _by_loss(found: "CleaningEffect") -> str:
    """What the loss tells where the accuracy does not."""
    if found.answer != "cannot tell" or found.loss.low <= 0 <= found.loss.high:
        return ""
    return f"; the loss tells a difference, it {'fell' if found.loss.value < 0 else 'rose'}"


def _signed(bounds: "Bounded") -> str:
    return f"{signed(bounds.value)} ({signed(bounds.low)} to {signed(bounds.high)})"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) else f"{number:,.1f}"
