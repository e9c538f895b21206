"""Options and output that commands share: those of a scan, ``--db``, ``-f FORMAT[:FILE]``; the writing of reports.

Knows where a report goes; ``curate.reports`` knows how it looks and ``curate.settings.merge`` where settings come from.
"""

import contextlib
import glob
import io
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from curate.errors import UsageError
from curate.plugs import REPORTS
from curate.settings.merge import ScanSettings, setting
from curate.settings.option import Option
from curate.settings.options import OPTIONS, SECTIONS
from curate.settings.specs import MOST_WHOLE, whole

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from rich.console import Console

    from curate.reports import Report
    from curate.reports.report import Depth, Looks

Function = TypeVar("Function", bound=Callable[..., Any])
HALF_WRITTEN = ".curate-tmp"
FORMATS = tuple(REPORTS)
PLAIN_FORMATS = ("rich", "text", "json")
"""Of what is no report of a run: one row, the list of runs."""
HEADINGS = ("Data", "Model", "Numbers")
"""Sections that have a heading of their own in a command's help."""
_SHARED = ("config", "form", "_click_default_help")
"""Options of several commands that the table of options lacks."""
_OWN = ("train", "format", "db")
"""An argument, and options that have a check of their own here."""


@dataclass(frozen=True, slots=True)
class Output:
    """A format and the file it goes to; None: stdout."""

    format: str
    file: str | None


def refuse_column(settings: ScanSettings) -> None:
    """``--slice COLUMN`` without a value is for a scan: other commands measure on one set of rows."""
    if settings.sliced_by is not None:
        raise UsageError(
            f"--slice {settings.sliced_by} names no value", "Give COLUMN=VALUE; a column alone is for a scan."
        )


def parse_formats(formats: Iterable[str], known: Collection[str] = FORMATS) -> list[Output]:
    """``FORMAT[:FILE]`` each; only the first colon parts, so that a drive letter stays with its file."""
    outputs: list[Output] = []
    for text in formats:
        name, colon, file = text.partition(":")
        if name not in known:
            raise UsageError(f"-f {text}: no format is called '{name}'", f"Formats: {', '.join(known)}")
        if colon and not file:
            raise UsageError(f"-f {text}: no file after the colon", f"Give -f {name}, or -f {name}:FILE")
        if file and file != "-" and Path(file).is_dir():
            raise UsageError(f"-f {text}: {file} is a folder", "Name a file in it")
        outputs.append(Output(name, file if file and file != "-" else None))
    if sum(1 for output in outputs if output.file is None) > 1:
        raise UsageError("Two formats cannot both go to stdout", "Send one to a file: -f FORMAT:FILE")
    files = [os.path.abspath(output.file) for output in outputs if output.file is not None]
    for output in outputs:
        if output.file is not None and files.count(os.path.abspath(output.file)) > 1:
            raise UsageError(f"Two formats cannot both go to {output.file}", "Give each its own file")
    return outputs


def _db(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """After the command, else before it, else None: environment, files and the default are the settings' affair."""
    if value is None:
        value = context.find_root().params.get("db")
    return value


class Sections(click.Command):
    """A command whose help shows its options under headings, those that it alone has first."""

    own: ClassVar[str] = "Of this command"
    last: ClassVar[str] = "Gate, settings and output"

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        parameters = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        for heading in [self.own, *(heading for heading in SECTIONS if heading in HEADINGS), self.last]:
            records = [
                record
                for option in parameters
                if self._heading(option) == heading and (record := option.get_help_record(ctx))
            ]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def _heading(self, option: click.Option) -> str:
        known = OPTIONS.get(option.name or "")
        if known is None and option.name not in _SHARED:
            return self.own
        return known.section if known is not None and known.section in HEADINGS else self.last


def scan_options(*sections: str) -> Callable[[Function], Function]:
    """Options of a scan, by the sections of the table, in its order.

    No types and no defaults: files and the environment must be able to tell "not given", and one place checks values
    wherever they come from.
    """

    def add(function: Function) -> Function:
        for option in reversed(OPTIONS.values()):
            if option.section in sections and option.key not in _OWN:
                function = _clicked(option)(function)
        return function

    return add


def telling_options(function: Function) -> Function:
    """``--top N``, ``-v`` and ``-q``: how much a report tells."""
    for key in ("quiet", "verbose", "top"):
        function = _clicked(OPTIONS[key])(function)
    return function


def _clicked(option: Option) -> Callable[[Function], Function]:
    """The option as click has it."""
    if option.switch is not None:
        names = [option.spelling, *([f"-{option.short}"] if option.short else [])]
        return click.option(
            *names, option.key, is_flag=True, flag_value=option.switch == "on", default=None, help=option.help
        )
    return click.option(
        option.spelling, option.key, metavar=option.metavar, multiple=option.several, help=option.sentence
    )


def config_option(function: Function) -> Function:
    """``--config FILE``."""
    told = "Settings from this file instead of pyproject.toml and curate.toml."
    return click.option("--config", metavar="FILE", help=told)(function)


def db_option(function: Function) -> Function:
    """``--db FILE`` as ``db``: None where neither place on the command line names one."""
    option = click.option("--db", metavar="FILE", callback=_db, help="The database (default: .curate/curate.db).")
    return option(function)


def form_option(*forms: str) -> Callable[[Function], Function]:
    """``-f FORM`` as ``form``, one of these, the first by default: for what a command says of itself."""
    return click.option(
        "-f",
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="How to write it.",
    )


def format_option(function: Function) -> Function:
    """``-f FORMAT[:FILE]`` as ``format``: a tuple of texts, for ``write_reports``."""
    return formats_option(FORMATS)(function)


def plain_format_option(function: Function) -> Function:
    """The same for what is no report of a run."""
    return formats_option(PLAIN_FORMATS)(function)


def formats_option(known: tuple[str, ...]) -> Callable[[Function], Function]:
    """The same for a command that writes other formats."""

    def check(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_formats(value, known)  # a slip is told before the work, not after it
        return value

    return click.option(
        "-f",
        "--format",
        metavar="FORMAT[:FILE]",
        multiple=True,
        callback=check,
        help=f"Output format: {', '.join(known)}; repeatable. Default: rich on a terminal, else text.",
    )


def run_options(function: Function) -> Function:
    """``--run ID`` and ``--dataset NAME``: which stored run a reading command takes."""
    run = click.option(
        "--run",
        "run_id",
        metavar="ID",
        type=click.IntRange(1, MOST_WHOLE),
        envvar="CURATE_RUN",
        help="The run (default: the newest finished one).",
    )
    dataset = click.option(
        "--dataset",
        metavar="NAME",
        envvar="CURATE_DATASET",
        help="The data set, where the database holds several.",
        shell_complete=_datasets,
    )
    return run(dataset(function))


def _datasets(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from curate.cli.completing import datasets

    return datasets(context, parameter, incomplete)


def database(db: str | None) -> str:
    """The database that a reading command takes, given what the command line says."""
    return str(setting("db", db))


def asked_formats(formats: tuple[str, ...], known: Collection[str] = FORMATS) -> tuple[str, ...]:
    """The formats that a reading command writes, given what the command line says.

    Settings are written for reports: a format among them that this command lacks is left out.
    """
    found = tuple(setting("format", formats or None) or ())
    outputs = parse_formats(found)
    return tuple(text for text, output in zip(found, outputs, strict=True) if output.format in known)


def depth_of(verbose: bool, quiet: bool) -> "Depth":
    """How much the report for people tells. Raises ``UsageError`` if both were asked for."""
    if verbose and quiet:
        raise UsageError("--verbose and --quiet: a report cannot be both", "Leave out one of them")
    return "long" if verbose else "quiet" if quiet else "short"


def looks(formats: Iterable[str]) -> "Looks":
    """What these formats show."""
    from curate.reports import renderer
    from curate.reports.report import Looks

    outputs = parse_formats(formats)
    spoken = [output.format for output in outputs if output.file is None] or [default_format()]
    shown = [renderer(output.format) for output in outputs]
    return Looks(any(kind.gallery for kind in shown), "rich" in spoken, any(kind.listed for kind in shown))


def write_reports(
    report: "Report", formats: Iterable[str], otherwise: Callable[["Report"], None] | None = None
) -> None:
    """Write the report in each format asked for; where none goes to stdout, ``otherwise`` or the terminal report."""
    from curate.reports import renderer
    from curate.reports.terminal import RichReport

    def to_file(name: str) -> str:
        return renderer(name)().render(report)

    def to_stdout(name: str) -> None:
        if name == "rich":
            RichReport().write(report, terminal())
        else:
            put(to_file(name))

    outputs = parse_formats(formats)
    if otherwise is not None and all(output.file is not None for output in outputs):
        write_files(outputs, to_file)
        otherwise(report)
    else:
        write_outputs(outputs, to_file, to_stdout)


def write_outputs(outputs: list[Output], to_file: Callable[[str], str], to_stdout: Callable[[str], None]) -> None:
    """Files first: who reads the terminal may act on them at once."""
    write_files(outputs, to_file)
    spoken = [output.format for output in outputs if output.file is None]
    for name in spoken or [default_format()]:
        to_stdout(name)


def write_files(outputs: list[Output], to_file: Callable[[str], str]) -> None:
    """Write what goes to files."""
    for output in outputs:
        if output.file is not None:
            write_file(output.file, to_file(output.format))


def default_format() -> str:
    """The format of stdout if none is asked for."""
    forced = bool(os.environ.get("FORCE_COLOR"))
    return "rich" if forced or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb") else "text"


def terminal() -> "Console":
    """stdout for rich, which honours NO_COLOR, FORCE_COLOR, TERM=dumb and COLUMNS by itself."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a sign that cannot be shown must not end the report
    console = Console(highlight=False, markup=False, emoji=False)
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        console.width = 100  # no terminal has a width to ask for
    return console


def put(text: str) -> None:
    """Text to stdout; what its encoding cannot show becomes an escape, where an error would lose the report."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), nl=False)


def write_file(name: str, text: str, option: str = "-f") -> None:
    """Text as UTF-8, by ``write_bytes``."""
    write_bytes(name, text.encode("utf-8", "backslashreplace"), option)


def write_bytes(name: str, data: bytes, option: str = "-f") -> None:
    """Write the whole file or leave what was there; a pipe or a device is written to as it is."""
    path = Path(name)
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            path.write_bytes(data)
            return
        path = path.resolve()  # a link stays a link, its target is replaced
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{HALF_WRITTEN}")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(
            f"Cannot write {name}: {error.strerror or error}", f"Name another file after {option}"
        ) from None


def _sweep(path: Path) -> None:
    """Take away what processes that were killed while they wrote this file left beside it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{HALF_WRITTEN}"):
        owner = whole(left.name.removesuffix(HALF_WRITTEN).rpartition(".")[2], 2**31 - 1)
        if owner is not None and not _alive(owner):
            with contextlib.suppress(OSError):
                left.unlink()


def _alive(process: int) -> bool:
    if process == os.getpid():
        return False  # this one writes one file after the other
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
