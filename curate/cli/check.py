"""``curate check``: the gate on a stored run, without a model. Never imports torch, unless the data is torchvision's.

Knows options and the order of the checks; leaves the judgement to ``curate.gate.judgement`` and looking at the data to
``curate.pipeline.unchanged``.
"""

from typing import Any

import click

from curate.cli.chosen import chosen_run
from curate.cli.gating import accept_baseline, check_reference, end, printed
from curate.cli.options import (
    asked_formats,
    database,
    db_option,
    format_option,
    looks,
    put,
    run_options,
    scan_options,
    write_reports,
)
from curate.errors import DataError, StoreError
from curate.gate.judgement import Gate
from curate.reports import Report
from curate.reports.gather import read_run
from curate.reports.problems import problem_lines
from curate.reports.report import RunFacts
from curate.settings.merge import BASELINE, setting
from curate.store import Store

OF_THE_GATE = ("fail_on", "max_findings", "max_noise_rate", "new_only", "changed_rows", "since")


@click.command()
@scan_options("Gate")
@click.option("--no-verify", is_flag=True, help="Do not look whether the data is still what the run read.")
@run_options
@format_option
@db_option
@click.pass_context
def check(
    context: click.Context,
    /,
    no_verify: bool,
    run_id: int | None,
    dataset: str | None,
    format: tuple[str, ...],
    db: str | None,
    exit_zero: bool | None,
    **given: Any,
) -> None:
    """Gate a stored run: the newest of the data set, with the gate of its scan, else with --fail-on error.

    Exits with 1 on findings over the gate, and with 2 where the run cannot speak for the data: it did not finish, or
    rows are not what it read.
    """
    asked = asked_formats(format)
    name = database(db)
    with Store.open(name) as store:
        run, _ = read_run(store, chosen_run(store, run_id, dataset))
        _refuse_unfinished(store, run, named=run_id is not None)
        gate = _gate(run, given)
        check_reference(gate, name)
        accept_baseline(store, run.dataset, gate.baseline)
        positions = None if no_verify else _verify(store, run)
        report = Report.of_run(store, run.id, gate=gate, positions=positions, looks=looks(asked))
    write_reports(report, asked, otherwise=_write_problems)
    end(context, report, exit_zero=bool(setting("exit_zero", exit_zero)), told=printed(asked))


def _write_problems(report: Report) -> None:
    put("".join(f"{line}\n" for line in problem_lines(report)))


def _gate(run: RunFacts, given: dict[str, Any]) -> Gate:
    """What this command line, the environment, the scan or a file asks for, in this order; else --fail-on error."""
    baseline = setting("baseline", given.pop("baseline"), files=False) or run.settings.get("baseline") or BASELINE
    asked = {key: setting(key, given[key] or None, files=False) for key in OF_THE_GATE}
    if not any(asked.values()):
        asked = run.gate.settings() if run.gate.is_set else {key: setting(key) for key in OF_THE_GATE}
    if not Gate.of_settings(asked).is_set:
        asked = {"fail_on": ("error",)}
    return Gate.of_settings({**asked, "baseline": baseline})


def _refuse_unfinished(store: Store, run: RunFacts, *, named: bool) -> None:
    if run.status != "finished":
        raise StoreError(f"Run {run.id} is {run.status}: a gate cannot pass on it", "Scan again.")
    newer = store.query(
        "SELECT r.id, r.status FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id "
        "WHERE d.name = ? AND r.id > ? ORDER BY r.id DESC LIMIT 1",
        [run.dataset, run.id],
    )
    if newer and not named:
        raise StoreError(
            f"The newest run of {run.dataset}, {newer[0]['id']}, is {newer[0]['status']}: a gate cannot pass on it",
            f"Scan again, or name the one before: --run {run.id}.",
        )


def _verify(store: Store, run: RunFacts) -> dict[tuple[str, str], int]:
    """Where rows stand now that stand elsewhere. Raises ``DataError`` where a row is not what the run read."""
    from curate.pipeline.unchanged import compare
    from curate.process.progress import Progress

    (count,) = store.query("SELECT count(*) AS n FROM scores WHERE run_id = ?", [run.id])
    with Progress().stage("Comparing rows with the run", count["n"]) as advance:
        compared = compare(store, run, advance)
    if not compared.same:
        raise DataError(
            f"{run.location} has changed since run {run.id}: {compared}",
            "Scan it again: what this run says of it does not hold any more.",
        )
    return compared.moved
