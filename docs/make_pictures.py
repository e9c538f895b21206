"""Makes the pictures of the documentation anew: ``python docs/make_pictures.py``, from anywhere.

Scans the shipped fixture into a database of its own and draws the stored run as the terminal shows it, and the screen
of ``curate review`` on it (needs the extra ``review``), and by ``make_rules_picture`` what the rules find. What changes
from one run to the next (date, seconds, memory, the database's path) is left out, so that the file changes only where
the report does.
"""

import argparse
import asyncio
import io
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from make_rules_picture import draw_rules
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from curate import __version__
from curate.reports import Report
from curate.reports.report import Looks
from curate.reports.terminal import RichReport
from curate.store import Store

ROOT = Path(__file__).resolve().parent.parent
SCANNED = "fixtures/fashion"
COMMAND = "import sys; from curate.cli import main; main(sys.argv[1:])"
FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"
TOP = 4


def scanned(database: str) -> Report:
    """The report of a fresh scan, as ``curate scan`` prints it."""
    subprocess.run(
        [sys.executable, "-c", COMMAND, "scan", SCANNED, "--db", database],
        cwd=ROOT, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    with Store.open(database) as store:
        return Report.of_run(store, store.latest_run(), top=TOP, looks=Looks(sketch=True))


def steady(report: Report, database: str) -> Report:
    """The same without what differs between two runs of one command."""
    return replace(
        report,
        run=replace(report.run, id=1, started=f"curate {__version__}", seconds=None, peak_memory=None),
        receipts=tuple(replace(receipt, seconds=None) for receipt in report.receipts),
        next=tuple(replace(step, command=step.command.replace(f" --db {database}", "")) for step in report.next),
    )


def draw(report: Report, file: Path) -> None:
    console = Console(
        record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor", _environ={},
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    RichReport().write(report, console)
    keep(console.export_svg(title=f"curate scan {SCANNED}", theme=DIMMED_MONOKAI, unique_id="curate-scan"), file)


async def draw_review(database: str, file: Path) -> None:
    """The screen of ``curate review``, after its first verdict."""
    from curate.review.app import ReviewApp
    from curate.review.queue import Queue

    with Store.open(database) as store:
        queue = Queue(store, store.latest_run(), "ada")
        async with ReviewApp(queue).run_test(size=(110, 34)) as pilot:
            await pilot.press("r")
            await pilot.pause()
            keep(re.sub(r"terminal-\d+", "curate-review", pilot.app.export_screenshot(title="curate review")), file)


def keep(svg: str, file: Path) -> None:
    # rich's own template loads a font from the network; a picture in a repository must not.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)  # some readers drop the spaces that begin a text
    svg = svg.replace("Fira Code, monospace", FONTS).replace("font-family: arial", "font-family: Arial, sans-serif")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
    print(f"wrote {file.relative_to(ROOT)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", help="keep the scan's database in this file [a temporary one]")
    asked = parser.parse_args().db
    with tempfile.TemporaryDirectory() as folder:
        where = str(Path(asked).resolve()) if asked else str(Path(folder, "curate.db"))
        images = ROOT / "docs" / "images"
        draw(steady(scanned(where), where), images / "scan.svg")
        asyncio.run(draw_review(where, images / "review.svg"))
    draw_rules()
