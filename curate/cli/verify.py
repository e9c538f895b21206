"""``curate verify``: is influence right on this model, and what-if questions, as text or JSON.

Knows options and layout; leaves selection, prediction and refits to ``curate.experiments.verify``.
"""

from typing import TYPE_CHECKING, Any

import click

from curate.cli.early import refuse_early
from curate.cli.options import (
    Sections,
    config_option,
    database,
    db_option,
    form_option,
    put,
    refuse_column,
    scan_options,
)
from curate.errors import UsageError
from curate.process.numbers import percent
from curate.reports.words import brief, clean, signed
from curate.settings.merge import ScanSettings, load_settings

if TYPE_CHECKING:
    from curate.experiments.verify.mistakes import Mended
    from curate.experiments.verify.setting import Effect
    from curate.experiments.verify.what_if import WhatIf
    from curate.stages.joining import Together

DEFAULT_ROWS = {"drop": "harmful", "relabel": "mislabeled"}


@click.command(cls=Sections)
@click.argument("train", required=False, metavar="[TRAIN]")
@scan_options("Data", "Model", "Numbers")
@db_option
@config_option
@click.option(
    "--what-if",
    "change",
    type=click.Choice(["drop", "relabel", "finetune"]),
    help="Leave rows out, give them the suggested label, or step on the rows that help the mistakes.",
)
@click.option(
    "--rows",
    metavar="RULE,...|KEY,...|FILE",
    help="Findings of the newest finished run, or rows by key.  [harmful for drop, mislabeled for relabel]",
)
@click.option(
    "--at",
    "at",
    type=click.Choice(["model", "head", "probe"]),
    default="model",
    show_default=True,
    help="Refit the network, its head alone, or the probe on its features.",
)
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Time for the refits."
)
@click.option("--control", is_flag=True, help="Deal the predictions out at random: the answer must not be trust.")
@click.option(
    "--retrain",
    metavar="FILE.py:NAME|PKG.MOD:NAME",
    help="Your own training: NAME(dataset, seed) returns the model.  [fine-tuning from the checkpoint]",
)
@click.option(
    "--epochs", type=click.FloatRange(0, min_open=True), help="Of the fine-tuning.  [--share of --trained-epochs]"
)
@click.option(
    "--trained-epochs",
    type=click.FloatRange(0, min_open=True),
    default=50.0,
    show_default=True,
    help="That the checkpoint was trained for.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, min_open=True),
    default=0.06,
    show_default=True,
    help="Of the training's steps that the fine-tuning takes.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=0.01,
    show_default=True,
    help="Its learning rate at the start.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(0),
    help="Its L2 penalty.  [read off the gradient at the checkpoint, or its optimiser's state]",
)
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True, help="Gradient steps of finetune.")
@click.option("--top", type=click.IntRange(1), default=50, show_default=True, help="Rows that finetune steps on.")
@form_option("text", "json")
def verify(
    config: str | None,
    change: str | None,
    rows: str | None,
    at: str,
    minutes: float,
    control: bool,
    retrain: str | None,
    epochs: float | None,
    trained_epochs: float,
    share: float,
    rate: float,
    weight_decay: float | None,
    steps: int,
    top: int,
    form: str,
    db: str | None,
    **given: Any,
) -> None:
    """Is influence right on this model? Leaves rows out, refits, and holds the change against the prediction.

    The rows of most influence, around the 30th percentile and at random are left out one at a time, and random groups
    of rows together; the answer is trust, ranking only or do not trust, with the reason, or undecided if too few refits
    fit into the minutes. The refit is the probe's or the head's optimum, that of a network whose checkpoint is one, or
    a network fine-tuned from its checkpoint for --share of its training; a refit without any change is subtracted. The
    plan is told first; an interrupted check goes on where it was.

    With --what-if: what changes where rows of TRAIN are dropped or relabelled, predicted beside refitted. finetune
    takes gradient steps on the training rows that help the mistakes most, and shows what it fixes and breaks. Your
    model and data stay as they are.
    """
    _refuse(change, rows, retrain, control)
    settings = load_settings({**given, "db": database(db)}, config=config)
    refuse_column(settings)
    refuse_early(settings)

    from curate.experiments.verify.refit import Recipe  # torch
    from curate.stages.joining import together

    recipe = Recipe(
        epochs=share * trained_epochs if epochs is None else epochs,
        rate=rate,
        weight_decay=weight_decay,
        always=epochs is not None,
        retrain=retrain,
    )
    with together(settings) as process:
        if change is None:
            told = _checked(settings, process, form, at=at, recipe=recipe, minutes=minutes, control=control)
        elif change == "finetune":
            from curate.experiments.verify.mistakes import finetune

            mended = finetune(settings, process, rows=top, steps=steps, at=at, recipe=recipe)
            told = _json(mended) if form == "json" else _steps(mended)
        else:
            from curate.experiments.verify.what_if import what_if

            changed = what_if(settings, process, change, rows or DEFAULT_ROWS[change], at=at, recipe=recipe)
            told = _json(changed) if form == "json" else _table(changed)
    if process.passes.first:
        put(told)


def _checked(settings: ScanSettings, process: "Together", form: str, **asked: Any) -> str:
    """The answer of the check; its plan is told before the work."""
    from curate.experiments.verify.protocol import verify as run
    from curate.experiments.verify.telling import plan_sentence, verified_page

    def say(text: str) -> None:
        if process.passes.first:
            click.echo(f"curate: {text}", err=True)

    try:
        found = run(settings, process, announce=lambda plan: say(f"plan: {plan_sentence(plan)}"), **asked)
    except KeyboardInterrupt:
        say("the refits made so far are kept: the same command goes on with them")
        raise
    return _json(found) if form == "json" else verified_page(found)


def _refuse(change: str | None, rows: str | None, retrain: str | None, control: bool) -> None:
    """Options that the question asked has no use for."""
    if change is None and rows is not None:
        raise UsageError("--rows goes with --what-if drop or relabel", "Without it, the check chooses its rows.")
    if change is not None and control:
        raise UsageError("--control does not go with --what-if", "Leave out one of them.")
    for name, said in (("--rows", rows), ("--retrain", retrain)):
        if change == "finetune" and said is not None:
            raise UsageError(
                f"{name} does not go with --what-if finetune", "It steps on the rows that help most: --top."
            )


def _json(found: object) -> str:
    from curate.reports.json import SCHEMA_VERSION, dump, plain

    return dump({"schema_version": SCHEMA_VERSION, **plain(found)})


def _table(found: "WhatIf") -> str:
    done = "left out" if found.change == "drop" else "given their suggested labels"
    columns = (("predicted", found.predicted), ("actual", found.actual), ("drift", found.drift))
    lines = [
        clean(f"What if: {found.what} {done}"),
        *(f"! warning: {clean(said)}" for said in found.warnings),
        clean(f"measured on {found.measured_on}: loss {brief(found.loss)} nats, accuracy {percent(found.accuracy)}"),
        "",
        f"{'':26}" + "".join(f"{name:>12}" for name, _ in columns),
        f"{'loss, nats':26}" + "".join(f"{signed(change.loss):>12}" for _, change in columns),
        f"{'loss, share':26}" + "".join(f"{_share(change.loss, found.loss):>12}" for _, change in columns),
        f"{'accuracy, points':26}" + "".join(f"{_points(change, found.targets):>12}" for _, change in columns),
        f"{'predictions turned right':26}" + "".join(f"{change.turn_right:>12,}" for _, change in columns),
        f"{'predictions turned wrong':26}" + "".join(f"{change.turn_wrong:>12,}" for _, change in columns),
        "",
        f"predicted by {clean(found.prediction)}; the predictions that turn, by the head",
        f"actual: {clean(found.refit)}, with the change against without it",
        "drift: the same without any change, against the model as it is",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _share(change: float, loss: float) -> str:
    return f"{100 * change / loss:+.1f} %" if loss else "-"


def _points(change: "Effect", targets: int) -> str:
    return f"{100 * (change.turn_right - change.turn_wrong) / targets:+.2f}"


def _steps(mended: "Mended") -> str:
    shown = ", ".join(clean(key) for key in mended.keys[:5]) + (" ..." if len(mended.keys) > 5 else "")
    lines = [
        *(f"! warning: {clean(said)}" for said in mended.warnings),
        f"Gradient steps on the {len(mended.keys):,} training rows that help {clean(mended.measured_on)} most",
        f"{shown}",
        "",
        f"{'steps':>5}{'their loss':>13}{'loss of all':>13}{'fixed':>8}{'broken':>8}",
    ]
    lines += [
        f"{step.steps:>5}{brief(step.target_loss):>13}{brief(step.loss):>13}{step.fixed:>8,}{step.broken:>8,}"
        for step in mended.steps
    ]
    lines += [
        "",
        f"rate {mended.rate:g}; fixed and broken: predictions on the whole evaluation set, against the model as it is",
        f"help by {clean(mended.prediction)}",
    ]
    return "\n".join(lines) + "\n"
