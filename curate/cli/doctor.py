"""``curate doctor``: each check as it is done, in plain text to paste into a bug report.

Knows the layout and the exit status; leaves the checks to ``curate.onboarding.doctor``.
"""

from collections.abc import Iterator
from typing import Any

import click

from curate.cli.options import Sections, config_option, db_option, form_option, put, scan_options
from curate.onboarding.checks import Check, without_home

INDENT = 9


class DoctorSections(Sections):
    """The same without a gate."""

    last = "Settings and output"


@click.command(cls=DoctorSections)
@click.argument("train", required=False, metavar="[TRAIN]")
@scan_options("Data", "Model", "Numbers")
@config_option
@form_option("text", "json")
@db_option
@click.pass_context
def doctor(context: click.Context, /, config: str | None, form: str, **given: Any) -> None:
    """Check what a scan of TRAIN needs, and write it down for a bug report: nothing is scored or stored.

    Versions, devices, the settings in force, the database; where TRAIN is named, also the data, the model and some
    rows through it. Your home folder is written as ~. Without TRAIN and settings: the installation alone.
    """
    from curate.onboarding.doctor import doctor as run

    checks = run(given, config, debug=bool(context.find_root().params.get("debug")))
    done = list(checks) if form == "json" else list(_written(checks))
    failed = [check for check in done if check.status == "FAILED"]
    if form == "json":
        from curate.reports.json import SCHEMA_VERSION, dump

        put(
            dump(
                {"schema_version": SCHEMA_VERSION, "passed": not failed, "checks": [check.as_json() for check in done]}
            )
        )
    elif failed:
        put(f"\nFAILED: {', '.join(check.name for check in failed)}\n")
    else:
        put("\nok: everything that was asked for works\n")
    if failed:
        context.exit(failed[0].exit_status)


def _written(checks: Iterator[Check]) -> Iterator[Check]:
    for check in checks:
        put("\n".join(lines(check)) + "\n")
        yield check


def lines(check: Check) -> list[str]:
    """A check as lines of plain text, its values under one another."""
    from curate.reports.words import clean

    if check.status == "skipped" and check.error:
        return [clean(without_home(f"{check.status:{INDENT}}{check.name}: {check.error}"))]
    facts = [
        *check.facts,
        *(("error", check.error),) * bool(check.error),
        *(("what to do", check.hint),) * bool(check.hint),
    ]
    width = max((len(name) for name, _ in facts), default=0) + 2
    told = [
        (name if number == 0 else "", part) for name, value in facts for number, part in enumerate(value.split("\n"))
    ]
    return [
        f"{check.status:{INDENT}}{check.name}",
        *(clean(without_home(f"{'':{INDENT}}{name:{width}}{value}")).rstrip() for name, value in told),
    ]
