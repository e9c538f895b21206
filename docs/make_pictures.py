"""Makes the pictures of the documentation anew: ``python docs/make_pictures.py``, from anywhere.

Scans the shipped fixture into a database of its own and draws the stored run as the terminal shows it. What changes
from one run to the next (date, seconds, memory, the database's path) is left out, so that the file changes only where
the report does.
"""

import argparse
import io
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from curate import __version__
from curate.reports import Report, RichReport
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
        return Report.of_run(store, store.latest_run(), top=TOP, sketch=True)


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
    # rich's own template loads a font from the network; a picture in a repository must not.
    template = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(
        title=f"curate scan {SCANNED}", theme=DIMMED_MONOKAI, code_format=template, unique_id="curate-scan"
    )
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
        draw(steady(scanned(where), where), ROOT / "docs" / "images" / "scan.svg")
