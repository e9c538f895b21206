"""Makes the generated part of docs/reference/database.md anew: ``python docs/make_database_page.py``, from anywhere.

Names, types and foreign keys are read off a new database, the words on them off ``curate.store.glossary``. What stands
outside of the two marks is written by hand and stays.
"""

import sqlite3
import tempfile
from pathlib import Path

from curate.store import Store
from curate.store.glossary import COLUMNS, STEPS, TABLES, VIEW_COLUMNS, VIEWS

PAGE = Path(__file__).resolve().parent / "reference" / "database.md"
BEGIN, END = "<!-- made by docs/make_database_page.py -->", "<!-- end of what is made -->"


def table(connection: sqlite3.Connection, name: str) -> list[str]:
    keys = {row[3]: f"→ `{row[2]}`" for row in connection.execute(f'PRAGMA foreign_key_list("{name}")')}
    lines = [f"### {name}", "", TABLES[name], "", "| column | type | meaning |", "|---|---|---|"]
    for _, column, kind, required, *_ in connection.execute(f'PRAGMA table_xinfo("{name}")'):
        said = "; ".join(part for part in (keys.get(column, ""), COLUMNS[name][column]) if part)
        null = "" if required or column == "id" else ", may be NULL"
        lines.append(f"| `{column}` | {kind.lower()}{null} | {_cell(said)} |")
    return [*lines, ""]


def view(connection: sqlite3.Connection, name: str) -> list[str]:
    columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')]
    own = {column: said for column, said in VIEW_COLUMNS[name].items() if said}
    lines = [f"### {name}", "", VIEWS[name], "", f"Columns: {', '.join(f'`{column}`' for column in columns)}.", ""]
    if own:
        lines += ["| column | meaning |", "|---|---|"]
        lines += [f"| `{column}` | {_cell(own[column])} |" for column in columns if column in own]
        lines.append("")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def made() -> str:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder, "curate.db"), create=True) as store:
        lines = ["## Tables", ""]
        for name in TABLES:
            lines += table(store.connection, name)
        lines += ["`examples_fts` is a full-text index over `key` and `text` of `examples`.", "", "## Views", ""]
        lines += ["Current means: of the newest finished run of each data set.", ""]
        for name in VIEWS:
            lines += view(store.connection, name)
        lines += ["### Steps", "", "Views that these stand on.", "", "| view | holds |", "|---|---|"]
        lines += [f"| `{name}` | {said} |" for name, said in STEPS.items()]
    return "\n".join([*lines, ""])


def page(text: str) -> str:
    """The page with its generated part made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PAGE.parents[2])}")
