"""``curate retrain-check``: did cleaning help? Trained twice by the user's own code, as text or JSON.

Knows options; leaves training and judging to ``curate.experiments.cleaned``.
"""

from pathlib import Path
from typing import Any

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
from curate.settings.merge import load_settings


@click.command("retrain-check", cls=Sections)
@click.argument("train", required=False, metavar="[TRAIN]")
@scan_options("Data", "Model")
@db_option
@config_option
@click.option(
    "--retrain",
    metavar="FILE.py:NAME|PKG.MOD:NAME",
    required=True,
    help="Your own training: NAME(dataset, seed) returns the model.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Trainings of each kind; from two on their own chance is in the interval.",
)
@click.option(
    "--parts",
    type=click.IntRange(0),
    help="Confirmed training rows judge too, left out in so many parts; 0: confirmed evaluation rows alone.  [0 if "
    "there are 30 of these, else 2]",
)
@click.option(
    "--apply-suggestions", is_flag=True, help="Take the suggested label of flagged rows that have no verdict."
)
@form_option("text", "json")
def retrain_check(
    retrain: str,
    seeds: int,
    parts: int | None,
    apply_suggestions: bool,
    form: str,
    db: str | None,
    config: str | None,
    **given: Any,
) -> None:
    """Train on the given and on the cleaned labels, and say whether cleaning helped.

    Cleaned are the labels after verdicts. Your own training makes a model of each; both are judged on rows whose label
    a person confirmed (keep) or corrected (relabel) and that neither was trained on: on evaluation rows if 30 of them
    are confirmed, else on training rows that are left out of both, part by part. `curate audit` draws rows to confirm.
    """
    settings = load_settings({**given, "db": database(db)}, config=config)
    refuse_column(settings)
    refuse_early(settings)

    from curate.experiments.cleaned import Retraining, compare_cleaned  # torch
    from curate.experiments.training import Training
    from curate.reports.json import SCHEMA_VERSION, dump, plain
    from curate.stages.agreement import read_by_all
    from curate.stages.joining import together

    training, asked = Training.of(retrain), Retraining(seeds, parts, apply_suggestions)
    with together(settings) as process:
        _, data = read_by_all(settings, process.progress, process.passes)
        found = compare_cleaned(Path(settings.db), data, training, asked, seed=settings.seed, progress=process.progress)
    if process.passes.first:
        put(dump({"schema_version": SCHEMA_VERSION, **plain(found)}) if form == "json" else str(found))
