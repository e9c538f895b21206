"""The command line: ``curate`` and its commands by name.

Knows how a command is found, how an error becomes a message and an exit status. A command's module is imported when
that command runs, so that ``curate --help`` and the reading commands never wait for torch.
"""

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from curate import __version__
from curate.errors import LONGEST_HINT, LONGEST_MESSAGE, CurateError, DataError, ModelError, UsageError, of_environment
from curate.process import stopping
from curate.process.ranks import refuse_several, this_rank

BUG_STATUS = 3
INTERRUPTED = 130
BROKEN_PIPE = 141  # 128 + SIGPIPE: never 1, which says "findings"

# What one wants -> name -> (where it is, what it does): the sentence stands here so that --help imports no command.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Set up": {
        "init": ("curate.cli.init:init", "Find data, model and weights, and write them into a curate.toml."),
        "doctor": ("curate.cli.doctor:doctor", "Check the installation, the data and the model; for bug reports."),
    },
    "Find": {
        "scan": ("curate.cli.scan:scan", "Score a data set, store the run, report it, and gate."),
        "plan": ("curate.cli.plan:plan", "Prepare a scan whose rows are read in parts, on any machines."),
        "merge": ("curate.cli.plan:merge", "Scan with the parts that were read: `scan --shard`."),
    },
    "Look": {
        "report": ("curate.cli.read:report", "A stored run again, in any format: terminal, page, JSON, CSV ..."),
        "show": ("curate.cli.read:show", "One row: scores, findings, nearest, helpful and harmful rows."),
        "diff": ("curate.cli.diff:diff", "Two runs side by side: new, fixed, still there."),
        "trend": ("curate.cli.trend:trend_command", "Run after run: noise, new and fixed findings, precision."),
        "runs": ("curate.cli.read:runs", "The runs in the database."),
    },
    "Decide": {
        "review": ("curate.cli.review:review", "Go through flagged rows with the keyboard."),
        "serve": ("curate.cli.serve:serve", "The same in a browser, and the database to query."),
        "mark": ("curate.cli.mark:mark", "Leave a verdict on rows, or on all rows of a file."),
        "audit": ("curate.cli.audit:audit", "How many labels are wrong? Verdicts on rows drawn at random say."),
        "export": ("curate.cli.export:export", "Write the data set after verdicts, or the verdicts."),
    },
    "Gate": {
        "check": ("curate.cli.check:check", "Gate a stored run; fails where the data has changed since."),
        "baseline": ("curate.cli.baseline:baseline", "Accept the findings that stand today, in a file to commit."),
    },
    "Check the numbers": {
        "verify": ("curate.cli.verify:verify", "Is influence right on this model? And what if rows were dropped?"),
        "retrain-check": (
            "curate.cli.retrain_check:retrain_check",
            "Did cleaning help? Trains on both labels.",
        ),
        "bench": ("curate.cli.bench:bench", "Which detector finds wrong labels best on these rows?"),
        "perturb": ("curate.cli.perturb:perturb", "Which parts of a training row make it help or harm."),
    },
}
COMMANDS: dict[str, tuple[str, str]] = {
    name: command for commands in GROUPS.values() for name, command in commands.items()
}


TOGETHER = ("scan", "merge", "bench", "verify", "retrain-check")
"""Commands that several processes can run together, as torchrun starts them."""


class Commands(click.Group):
    """A group whose commands are imported when they run, and whose errors are told in one or two lines."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command, imported when it is asked for."""
        if name not in COMMANDS:
            return None
        if name not in TOGETHER and not context.resilient_parsing:
            refuse_several(f"`curate {name}`", f"Start it without torchrun: {', '.join(TOGETHER)} run in several.")
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was named; a slip is told with the names near it."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not context.resilient_parsing:
            from curate.settings.specs import did_you_mean

            hint = did_you_mean(args[0], COMMANDS) or f"There are {', '.join(COMMANDS)}."
            context.fail(f"There is no command '{args[0]}'. {hint}")
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write names and sentences without importing a command."""
        width = max(map(len, COMMANDS))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", sentence) for name, (_, sentence) in commands.items()])

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        """Run the command line; signals are heeded if it is the one of this process."""
        if args is None:  # the command line of this process
            stopping.install()
        try:
            return super().main(args, *more, **named)
        except OSError as error:  # click itself writes help, versions and usage
            told = of_environment(error)
            if told is None:
                raise
            _say(f"curate: error: {told.message}", told.hint)
            _silence_stdout()
            sys.exit(told.exit_status)

    def invoke(self, context: click.Context) -> Any:
        """Run the command; its errors are told in two lines."""
        with stopping.running():
            return self._told(context)

    def _told(self, context: click.Context) -> Any:
        """Run the command; an error becomes a message and an exit status."""
        try:
            result = super().invoke(context)
            sys.stdout.flush()  # a reader that has gone is noticed here, not at the interpreter's end
            return result
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            if _says_why(error.format_message()):
                _show(error)
            context.exit(2)  # some of click's own would end with 1, which says "findings"
        except BrokenPipeError:
            _silence_stdout()
            context.exit(BROKEN_PIPE)
        except KeyboardInterrupt as error:
            if this_rank().first:
                _say(f"curate: {error if isinstance(error, stopping.Stopped) else 'interrupted'}")
            context.exit(getattr(error, "status", INTERRUPTED))
        except Exception as error:  # a boundary: what nobody foresaw
            if context.params.get("debug"):
                traceback.print_exc()
            told = error if isinstance(error, CurateError) else of_environment(error)
            if told is not None:
                everybodys = isinstance(told, UsageError | DataError | ModelError)
                _say_failed(f"error: {told.message}", told.hint, everybodys=everybodys)
                _silence_stdout()
                context.exit(told.exit_status)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            _say_failed(
                f"this is a bug in curate, not in your data: {reason}",
                "please report it where you got curate, with the output of `curate --debug ...`",
            )
            context.exit(BUG_STATUS)


def _says_why(message: str) -> bool:
    """Whether this process says what went wrong: of several processes one does, and the launcher is told by each."""
    if this_rank().count == 1:
        return True
    from curate.process import heartbeat

    heartbeat.tell_launcher(message)
    return heartbeat.speaks()


def _say_failed(message: str, hint: str, *, everybodys: bool = False) -> None:
    """Say what went wrong; of several processes the one that says it, unless it is the first and ``everybodys``."""
    if _says_why(message):
        nameless = this_rank().count == 1 or (everybodys and this_rank().first)
        _say(f"curate: {message}" if nameless else f"curate: {this_rank()}: {message}", hint)


def _say(message: str, hint: str = "") -> None:
    """One line each, of a length that a log has room for, whatever stands in a file name or a label."""
    from curate.reports.words import clean, shorten

    with contextlib.suppress(OSError):  # a log without room: the exit status still says what it says
        for text, most in ((message, LONGEST_MESSAGE), (hint, LONGEST_HINT)):
            if text:
                click.echo(shorten(" ".join(clean(line) for line in text.splitlines()), most), err=True)


def _show(error: click.ClickException) -> None:
    """As click shows its errors, in a bounded length."""
    context = getattr(error, "ctx", None)
    if context is not None:
        click.echo(context.get_usage(), err=True)
        click.echo(f"Try '{context.command_path} --help' for help.\n", err=True)
    _say(f"Error: {error.format_message()}")


def _silence_stdout() -> None:
    """Keep the interpreter from writing to a closed pipe or a full disk once more at its end: it would end with 120."""
    try:
        sys.stdout.flush()
        return
    except (OSError, ValueError):
        pass
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group("curate", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--db", metavar="FILE", help="The database (default: .curate/curate.db); also after the command.")
@click.option("--debug", is_flag=True, envvar="CURATE_DEBUG", help="Show the traceback of an error.")
@click.version_option(__version__, "--version", prog_name="curate", message="%(prog)s %(version)s")
def main(db: str | None, debug: bool) -> None:
    """Find the training rows that are mislabeled or that harm, from one trained checkpoint."""
