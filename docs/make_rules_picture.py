"""Makes the picture of what the rules find: ``python docs/make_rules_picture.py`` (``make_pictures.py`` does it too).

Plants copies and spoilt pictures among the fixture's, scans them, and draws those that a rule named, with what the scan
says of them.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from curate.experiments.planting import COPY, KINDS
from curate.rules.rule import RULES
from curate.store import Store

ROOT = Path(__file__).resolve().parent.parent
FIXTURE = ROOT / "fixtures" / "fashion"
FILE = ROOT / "docs" / "images" / "rules.png"
COMMAND = "import sys; from curate.cli import main; main(sys.argv[1:])"
SIDE, WIDE, HIGH, ACROSS = 84, 330, 118, 3


def planted(folder: Path) -> None:
    """The fixture's training pictures in ``folder``, and beside them one of each kind."""
    shutil.copytree(FIXTURE / "train", folder)
    files = sorted(folder.glob("*/*.png"))
    draw = np.random.default_rng(0)
    for kind, place in zip(KINDS["image"], draw.permutation(len(files)), strict=False):
        with Image.open(files[place]) as picture:
            edited = kind.edit(picture.convert("RGB"), draw)
        assert isinstance(edited, Image.Image)
        edited.save(files[place].with_name(f"{kind.name.split()[0]}-{files[place].name}"))


def scanned(folder: Path, database: str) -> list[dict[str, object]]:
    """What a scan without a model says of them."""
    command = [sys.executable, "-c", COMMAND, "--db", database, "scan", folder.name]
    subprocess.run(command, cwd=folder.parent, stdout=subprocess.DEVNULL, check=True)
    with Store.open(database) as store:
        return store.query("SELECT rule, key, why, subject_name AS stands FROM current_findings ORDER BY key")


def examples(folder: Path, found: list[dict[str, object]]) -> list[tuple[str, list[Path], str]]:
    """Rule, pictures to show, and what is said of them: one of each kind that was found."""
    shown: list[tuple[str, list[Path], str]] = []
    for kind in KINDS["image"]:
        stem = kind.name.split()[0]
        of = [row for row in found if row["rule"] == kind.rule and f"/{stem}-" in f"{row['key']} {row['stands']}"]
        for row in of[:1]:
            keys = [row["stands"], row["key"]] if kind.rule == COPY else [row["key"]]
            why = kind.name if kind.rule == COPY else str(row["why"])
            shown.append((kind.rule, [folder / str(key) for key in keys], why))
    return shown


def draw_rules(file: Path = FILE) -> None:
    """Writes the sheet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        planted(folder)
        shown = examples(folder, scanned(folder, str(Path(name) / "curate.db")))
        sheet = Image.new("RGB", (WIDE * ACROSS, HIGH * -(-len(shown) // ACROSS)), "white")
        pen = ImageDraw.Draw(sheet)
        for place, (rule, files, why) in enumerate(shown):
            left, top = WIDE * (place % ACROSS) + 8, HIGH * (place // ACROSS) + 8
            for number, file_of in enumerate(files):
                with Image.open(file_of) as picture:
                    _put(sheet, picture.convert("RGB"), left + (SIDE + 4) * number, top)
            at = left + (SIDE + 4) * len(files) + 6
            pen.text((at, top), RULES[rule].name, fill="black")
            for line, text in enumerate(_lines(why, (WIDE - at + left) // 7)):
                pen.text((at, top + 16 + 13 * line), text, fill=(90, 90, 90))
    sheet.save(file, optimize=True)
    print(f"wrote {file.relative_to(ROOT)}")


def _put(sheet: Image.Image, picture: Image.Image, left: int, top: int) -> None:
    """Three times as large, or as large as there is room, in a thin frame."""
    shown = picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST)
    sheet.paste(shown, (left, top))
    ImageDraw.Draw(sheet).rectangle(
        (left - 1, top - 1, left + shown.width, top + shown.height), outline=(180, 180, 180)
    )


def _lines(text: str, letters: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines[:6]


if __name__ == "__main__":
    draw_rules()
