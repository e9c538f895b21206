"""``curate scan``: options in, settings out, one call, a report, a gate.

Leaves the options to ``curate.settings.options``, what they mean to ``curate.settings.merge`` and the work to
``curate.pipeline.story``, which is imported only when there is something to do: ``--help`` must not wait for torch.
"""

from itertools import chain, repeat
from textwrap import wrap
from typing import Any

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
from curate.gate.judgement import Gate
from curate.plugs import SOURCES
from curate.process.allocator import keep_freed_memory
from curate.process.ranks import launched
from curate.settings.merge import load_settings
from curate.settings.options import SECTIONS


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
@scan_options(*SECTIONS)
@config_option
@format_option
@db_option
@click.pass_context
def scan(context: click.Context, /, config: str | None, dry_run: bool, **given: Any) -> None:
    """Compute a run, and report it."""
    settings = load_settings(given, config=config)
    # A slip in the gate or the formats is told before the work, wherever it was written.
    gate = Gate.of_settings(settings.as_json())
    check_reference(gate, settings.db)
    parse_formats(settings.format)
    depth = depth_of(settings.verbose, settings.quiet)
    refuse_early(settings)
    if dry_run:
        tell_plan(settings)
        return

    keep_freed_memory()
    from curate.pipeline.story import scan as run  # torch
    from curate.stages.joining import together

    with together(settings) as process:
        run_id = run(settings, process.progress, process.passes)
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
