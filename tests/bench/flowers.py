"""Real noise: a folder of five kinds of flowers scraped from the web (Kaggle "Flowers Recognition", resized).

    python tests/bench/flowers.py FOLDER     # the folder that holds daisy/ dandelion/ rose/ sunflower/ tulip/

Prints the ranks of three files known to be wrong and of the pairs of files with one content and two labels, and
draws the first 24 rows of the mislabeled list as a contact sheet, ``.cache/bench/flowers.png``.
"""

import sqlite3
import subprocess
import sys
from pathlib import Path

import fashion
from PIL import Image, ImageDraw

WRONG = (
    "sunflower/29744655960_c0868b43da_n.jpg",
    "rose/5181899042_0a6ffe0c8a_n.jpg",
    "tulip/3637371174_a8dfcc1b35.jpg",
)
TILE, COLUMNS, ROWS = 160, 6, 4


def contact_sheet(folder: Path, rows: list[tuple[str, str, str, float]], to: Path) -> None:
    sheet = Image.new("RGB", (COLUMNS * TILE, ROWS * (TILE + 30)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (key, given, suggested, suspicion) in enumerate(rows):
        x, y = place % COLUMNS * TILE, place // COLUMNS * (TILE + 30)
        sheet.paste(Image.open(folder / key).convert("RGB").resize((TILE - 4, TILE - 4)), (x, y))
        draw.text((x + 2, y + TILE - 2), f"{place + 1}. {given} > {suggested}\n{suspicion:.2f}", fill="black")
    sheet.save(to)


def main(folder: Path) -> None:
    fashion.HOME.mkdir(parents=True, exist_ok=True)
    database = fashion.HOME / "flowers.db"
    model = f"{Path(__file__).with_name('efficientnet.py')}:factory"
    command = [
        str(Path(sys.executable).with_name("curate")),
        "scan",
        str(folder),
        "--model",
        model,
        "--db",
        str(database),
    ]
    subprocess.run([*command, "-f", f"text:{fashion.HOME / 'flowers.txt'}"], check=True, stdout=subprocess.DEVNULL)
    with sqlite3.connect(database) as connection:
        run = "s.run_id = (SELECT max(id) FROM runs)"
        ranks = dict(
            connection.execute(
                f"SELECT e.key, s.rank FROM scores AS s JOIN examples AS e ON e.id = s.example_id WHERE {run}"
            ).fetchall()
        )
        conflicts = connection.execute(
            "SELECT e.content_sha256, e.key FROM findings AS f JOIN examples AS e ON e.id = f.example_id "
            "WHERE f.rule = 'conflict' AND f.run_id = (SELECT max(id) FROM runs) ORDER BY 1, 2"
        ).fetchall()
        first = connection.execute(
            "SELECT e.key, e.label, s.suggested_label, s.suspicion FROM scores AS s JOIN examples AS e "
            f"ON e.id = s.example_id WHERE {run} ORDER BY s.rank LIMIT {COLUMNS * ROWS}"
        ).fetchall()
    print(f"{len(ranks):,} rows")
    for key in WRONG:
        print(f"wrong file {key}: rank {ranks[key]}")
    for content in dict.fromkeys(sha for sha, _ in conflicts):
        print(
            "one content, two labels:",
            ", ".join(f"{key}: rank {ranks[key]}" for sha, key in conflicts if sha == content),
        )
    contact_sheet(folder, first, fashion.HOME / "flowers.png")
    print(fashion.HOME / "flowers.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
