"""``curate scan``: options in, settings out, one call, a report, a gate.

Leaves the options to ``curate.settings.options``, what they mean to ``curate.settings.merge`` and the work to
``curate.pipeline.story``, which is imported only when there is something to do: ``--help`` must not wait for torch.
"""

from itertools import chain, repeat
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from curate.cli.dry_run import tell_plan
from curate.cli.early import refuse_early
from curate.cli.gating import accept_baseline, check_reference, end, printed
from curate.cli.options import (
    Sections,
    config_option,
    db_option,
    depth_of,
    format_option,
    looks,
    parse_formats,
    scan_options,
    write_reports,
)
from curate.cli.shards import planned, read_part
from curate.errors import UsageError
from curate.gate.judgement import Gate
from curate.plugs import SOURCES
from curate.process.allocator import importing, keep_freed_memory
from curate.process.ranks import launched, refuse_several, this_rank
from curate.settings.merge import ScanSettings, load_settings
from curate.settings.options import SECTIONS

if TYPE_CHECKING:
    from curate.stages.plan import ScanPlan


def _help() -> str:
    """What `curate scan --help` says, with each kind of data that there is."""
    kinds = [
        f"  {plug.spec if first else '':<21} {line}"
        for plug in SOURCES.values()
        for first, line in zip(chain([True], repeat(False)), wrap(plug.help, 52), strict=False)
    ]
    return HELP.format(kinds="\n".join(kinds))


HELP = """Find the rows of TRAIN that are probably mislabeled, and those that harm the results.

TRAIN is one of:

\b
{kinds}

A folder with a curate.toml brings its own settings: `curate init` writes one. Pictures need --model to judge their
labels; without one, only what their contents tell is found (broken files, copies).

Every option is also an environment variable (CURATE_SEED, CURATE_EVAL_ROWS) and a key of [tool.curate] in
pyproject.toml or of curate.toml.
"""


@click.command(cls=Sections, help=_help())
@click.argument("train", required=False, metavar="[TRAIN]")
@click.option(
    "--dry-run", is_flag=True, help="Tell what would be read and computed, with time and memory; score nothing."
)
@click.option("--plan", metavar="FILE", help="Scan what `curate plan` wrote down; most settings are fixed by it.")
@click.option("--shard", metavar="I/N", help="Only read this part of the planned rows; `curate merge` does the rest.")
@scan_options(*SECTIONS)
@config_option
@format_option
@db_option
@click.pass_context
def scan(
    context: click.Context,
    /,
    config: str | None,
    dry_run: bool,
    plan: str | None,
    shard: str | None,
    **given: Any,
) -> None:
    """Compute a run, and report it."""
    if shard is not None and plan is None:
        raise UsageError(f"--shard {shard} needs the plan that it is a part of.", "Give --plan FILE: `curate plan`.")
    found, settings = (None, load_settings(given, config=config)) if plan is None else planned(plan, given)
    if shard is not None and found is not None:
        _read_part(shard, found, settings)
        return
    refuse_slips(settings)
    if dry_run:
        if this_rank().first:
            tell_plan(settings)
    else:
        report_run(context, settings, found)


def refuse_slips(settings: ScanSettings) -> None:
    """A slip in the gate, the formats or the data is told before the work, wherever it was written."""
    if this_rank().first:  # the others have no gate
        check_reference(Gate.of_settings(settings.as_json()), settings.db)
    parse_formats(settings.format)
    refuse_early(settings)


def _read_part(shard: str, plan: "ScanPlan", settings: ScanSettings) -> None:
    """Read a part of the planned rows, and say how many."""
    number, count = read_part(shard)
    refuse_several("`curate scan --shard`")
    refuse_early(settings)
    from curate.process.progress import Progress
    from curate.stages.memory import passes_of
    from curate.stages.plan import Shard, read_shard

    part = Shard(passes_of(settings).budget, number, count)
    done = read_shard(plan, settings, part, Progress(quiet=settings.quiet))
    unreadable = f", {done.unreadable:,} cannot be read" if done.unreadable else ""
    before = f", {done.reused:,} of them before" if done.reused else ""
    click.echo(f"curate: part {shard}: {done.rows:,} rows are kept{before}{unreadable}", err=True)


def report_run(context: click.Context, settings: ScanSettings, plan: "ScanPlan | None") -> None:
    """Scan, of a plan only what it saw, and end with the report and the gate."""
    gate, depth = Gate.of_settings(settings.as_json()), depth_of(settings.verbose, settings.quiet)
    keep_freed_memory()
    with importing():
        from curate.pipeline.story import scan as run  # torch
        from curate.stages.joining import together

    with together(settings) as process:
        run_id = run(settings, process.progress, process.passes, plan)
    if not process.passes.first:
        return

    from curate.reports import Report
    from curate.reports.gather import read_run
    from curate.store import Store

    with Store.open(settings.db) as store:
        accept_baseline(store, read_run(store, run_id)[0].dataset, settings.baseline)
        report = Report.of_run(store, run_id, settings.top, gate=gate, looks=looks(settings.format)).at_depth(depth)
    write_reports(report, settings.format)
    # A launcher takes any status but 0 for a failure, and starts all anew: there `curate check` gates.
    end(context, report, exit_zero=settings.exit_zero, told=printed(settings.format), stored=launched())
