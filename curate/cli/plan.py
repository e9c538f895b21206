"""``curate plan`` and ``curate merge``: a scan in parts, on machines that share nothing but files.

Knows options and sentences; leaves the plan to ``curate.stages.plan`` and the scan to ``curate.cli.scan``.
"""

from typing import Any

import click

from curate.cli.early import refuse_early
from curate.cli.options import Sections, config_option, db_option, format_option, put, scan_options, write_file
from curate.cli.scan import refuse_slips, report_run
from curate.cli.shards import planned
from curate.settings.merge import load_settings

PLAN = "curate-plan.json"


@click.command(cls=Sections)
@click.argument("train", required=False, metavar="[TRAIN]")
@click.option("--plan", "plan_file", metavar="FILE", default=PLAN, show_default=True, help="Where to write it.")
@scan_options("Data", "Model", "Numbers")
@config_option
@db_option
def plan(config: str | None, plan_file: str, **given: Any) -> None:
    """Write down what all that compute a part of a scan must have in common.

    That is its settings, the list of rows, classes, weights and versions. On any machine that sees the same,
    `curate scan --shard 3/8 --plan FILE` then sends the third eighth of the rows through the model, and `curate merge`
    scans with what all have kept.
    """
    settings = load_settings(given, config=config)
    refuse_early(settings)
    from curate.process.progress import Progress
    from curate.stages.plan import ScanPlan

    made = ScanPlan.of(settings, Progress())
    write_file(plan_file, made.text(), "--plan")
    rows = ", ".join(f"{name}: {made.sees[name].partition(' ')[0]}" for name in ("training rows", "evaluation rows"))
    put(
        f"planned in {plan_file} ({rows})\n"
        f"next: curate scan --plan {plan_file} --shard 1/N, and so on to N/N; then curate merge --plan {plan_file}\n"
    )


@click.command(cls=Sections)
@click.option("--plan", "plan_file", metavar="FILE", default=PLAN, show_default=True, help="The plan.")
@scan_options("Gate", "Output")
@format_option
@db_option
@click.pass_context
def merge(context: click.Context, /, plan_file: str, **given: Any) -> None:
    """Scan what was planned, with the parts that were read before: the rest of a scan in one go.

    Parts lie in the folder `cache` beside the database; of other machines they are copied there, into one folder. One
    that is missing or damaged is read anew.
    """
    found, settings = planned(plan_file, given)
    refuse_slips(settings)
    report_run(context, settings, found)
