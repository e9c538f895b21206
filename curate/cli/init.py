"""``curate init``: writes a folder's ``curate.toml`` and says what it found, what it guessed and what comes next.

Knows options and the wording; leaves looking, writing and checking to ``curate.onboarding.init``.
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.cli.doctor import lines as check_lines
from curate.cli.options import put
from curate.onboarding.checks import without_home
from curate.settings.options import OPTIONS

if TYPE_CHECKING:
    from curate.onboarding.init import Initialised


@click.command()
@click.argument("folder", required=False, default=".", metavar="[FOLDER]")
@click.option("--model", metavar="SPEC", help="What makes the model, as for scan.  [found by reading the files]")
@click.option("--weights", metavar="FILE", help="Trained weights.  [the best or newest checkpoint]")
@click.option("--eval", "eval", metavar="DATA", help="Rows to measure harm on.  [found by their name]")
@click.option("--label", metavar="NAME", help="The column or array with the labels.  [a usual name, else a guess]")
@click.option("--force", is_flag=True, help="Write curate.toml anew where there is one.")
@click.pass_context
def init(context: click.Context, /, folder: str, force: bool, **given: Any) -> None:
    """Look at FOLDER (the current one by default) and write a curate.toml that `curate scan` can work with.

    It finds data there, code that makes a model and checkpoints there or in the folders around it, up to the current
    one, and writes the file beside the code: never among the data alone. Files of code are read, not run. Then it
    opens what it found, as a scan would: that imports the model's code, unless FOLDER is outside of the current one.
    """
    from curate.onboarding.init import initialise

    debug = bool(context.find_root().params.get("debug"))
    outcome = initialise(Path(folder), given, force=force, debug=debug)
    put("\n".join(_told(outcome, Path(folder), given)) + "\n")
    if outcome.exit_status:
        context.exit(outcome.exit_status)


def _told(outcome: "Initialised", folder: Path, given: dict[str, Any]) -> list[str]:
    from curate.onboarding.init.text import toml
    from curate.reports.words import clean

    told = [f"wrote {outcome.path.as_posix()}", ""]
    for key, setting in outcome.found.settings.items():
        word = "off" if setting.failed else "guessed" if setting.guess else "found"
        told.append(f"{word:9}{OPTIONS[key].flag} = {toml(setting.value)}  ({setting.why})")
    told += [f"{'note':9}{remark}" for remarks in outcome.found.remarks.values() for remark in remarks]
    told.append("")
    for check in outcome.checks:
        told += check_lines(check)
    failed = [check.name for check in outcome.checks if check.status == "FAILED"]
    project = outcome.path.parent
    where = "" if project == Path() else " " + shlex.quote(project.as_posix())
    if outcome.outside and any(key in outcome.found.settings for key in ("model", "model_args")):
        told += ["", f"{project.as_posix()} is outside of the current folder: its curate.toml may not name code there."]
        told.append("If you trust it, add --config, or run curate from a folder above it.")
        where += f" --config {shlex.quote(outcome.path.as_posix())}"
    if failed:
        told += ["", f"FAILED: {', '.join(failed)}. Mend the lines that are switched off, then: curate doctor{where}"]
    elif outcome.missing:
        told += ["", *(f"missing: {what}" for what in outcome.missing)]
        if not given.get("model") and "model" not in outcome.found.settings:
            told.append("Name it in the file (`model =`, `weights =`), or:")
            of = "" if folder == Path() else " " + shlex.quote(folder.as_posix())
            told.append(f"next: curate init{of} --force --model FILE.py:NAME --weights FILE")
        else:
            told.append(f"next: curate doctor{where}")
    else:
        told += ["", f"next: curate scan{where}"]
    return [clean(without_home(line)) for line in told]
