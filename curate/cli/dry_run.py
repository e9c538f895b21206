"""``curate scan --dry-run``: the plan of a scan as plain text, to read before a long one.

Knows the layout; leaves the plan to ``curate.onboarding.dry_run``, which needs torch.
"""

from curate.cli.options import put
from curate.process.numbers import about, memory
from curate.settings.merge import ScanSettings

INDENT = 19


def tell_plan(settings: ScanSettings) -> None:
    """Print what a scan with these settings would do."""
    from curate.onboarding.dry_run import dry_run

    plan = dry_run(settings)
    lines = ["would read", *(f"  {name:<{INDENT - 2}}{told}" for name, told in plan.facts), "", "would compute"]
    lines += [f"  {name:<{INDENT - 2}}{about(seconds):<20}{told}" for name, seconds, told in plan.steps]
    lines += ["", f"in all {about(plan.seconds)} of one core and about {memory(plan.memory)} of memory"]
    if plan.memory > plan.free:
        lines.append(
            f"! warning: {memory(plan.free)} are free here; --limit N takes a sample, --memory SIZE bounds steps"
        )
    lines += [f"! warning: {warning}" for warning in plan.warnings]
    put("\n".join([*lines, "nothing was scored or stored\n"]))
