"""What ``scan`` and ``check`` share: how a judged report ends the process.

Knows where the last line goes; leaves the judgement to ``curate.gate.judgement``.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.cli.options import parse_formats
from curate.errors import NothingScanned
from curate.gate.baseline import Baseline, Section, tell_database
from curate.gate.judgement import Gate
from curate.gate.references import NoReference

if TYPE_CHECKING:
    from curate.reports import Report
    from curate.store import Store

PRINTED = ("rich", "text", "github")
"""Formats whose last line is the gate's sentence."""


def check_reference(gate: Gate, database: str) -> None:
    """What can never be compared with is told before the work. Raises ``UsageError``."""
    from curate.store import Store

    if gate.baseline is not None:
        baseline = Baseline.read(gate.baseline)
        if gate.compares and gate.since is None and not baseline.there:
            told = f"there is no {baseline.path.as_posix()} yet, so this run cannot pass"
            click.echo(f"curate: {told}: `curate baseline` makes one of it", err=True)
    if gate.since is None:
        return
    if gate.since.isdecimal():
        with Store.open(database) as store:
            found = store.query("SELECT status FROM runs WHERE id = ?", [int(gate.since)])
        if not found or found[0]["status"] != "finished":
            what = f"is {found[0]['status']}" if found else f"is not in {database}"
            raise NoReference(f"--since {gate.since}: this run {what}", "Name a finished one: `curate runs`.")
    elif not Path(gate.since).exists():
        raise NoReference(f"--since {gate.since}: there is no such database", "Name a run, or the database's file.")


def accept_baseline(store: "Store", dataset: str, path: str | None) -> None:
    """Take what the baseline accepts into the database: the view ``current_findings`` then says so too."""
    if path is not None:
        tell_database(store, dataset, Baseline.read(path).sections.get(dataset, Section()))


def end(context: click.Context, report: "Report", *, exit_zero: bool, told: bool, stored: bool = False) -> None:
    """The step summary, the last line where no report printed it (``told``), and the exit status.

    ``stored``: that is 0 whatever the gate says, as the run is stored.
    """
    from curate.reports.problems import first_counted
    from curate.reports.words import clean

    outcome = report.outcome
    summarise(report)
    if not told:
        first = first_counted(report)
        click.echo((f"over the gate: {first}\n" if first else "") + clean(outcome.sentence), err=True)
    if stored:
        return
    if outcome.status == 5:
        raise NothingScanned(f"Run {report.run.id} scanned nothing", "A gate cannot pass on it.")
    if outcome.status == 1 and exit_zero:
        return
    if outcome.status:
        context.exit(outcome.status)


def printed(formats: tuple[str, ...]) -> bool:
    """Does one of these outputs put the gate's sentence on stdout? Without any on stdout the terminal's report does."""
    spoken = [output.format for output in parse_formats(formats) if output.file is None]
    return not spoken or spoken[0] in PRINTED


def summarise(report: "Report") -> None:
    """Append to the file that GitHub shows as the summary of a step, where there is one."""
    from curate.reports.markdown import MarkdownReport

    file = os.environ.get("GITHUB_STEP_SUMMARY")
    if not file:
        return
    try:
        with open(file, "a", encoding="utf-8") as summary:
            summary.write(MarkdownReport().render(report) + "\n")
    except OSError as error:
        print(f"curate: no step summary: {file}: {error.strerror}", file=sys.stderr)
