"""Makes the tables of what can be taken by its name anew: ``python docs/make_plugs_tables.py``, from anywhere.

What stands outside of a table's two marks is written by hand and stays.
"""

from pathlib import Path

from curate.plugs import CURVATURES, FAMILIES, REPORTS, SOLVERS, SOURCES

REFERENCE = Path(__file__).resolve().parent / "reference"
BEGIN, END = "<!-- {} made by docs/make_plugs_tables.py -->", "<!-- end of what is made -->"


def solvers() -> list[str]:
    lines = ["| `--solver` | answers | error | takes | settings |", "|---|---|---|---|---|"]
    for name, plug in SOLVERS.items():
        settings = ", ".join(f"`{key}`" for key in plug.settings)
        if plug.preset:
            given = ",".join(key if value is True else f"{key}={value}" for key, value in plug.preset.items())
            settings = f"is `lissa:{given}`"
        lines.append(f"| `{name}` | {plug.help} | {plug.error} | {plug.takes} | {settings} |")
    lines += ["", "| `--curvature` | is |", "|---|---|"]
    return lines + [f"| `{name}` | {plug.words}: {plug.help} |" for name, plug in CURVATURES.items()]


def data_and_models() -> list[str]:
    lines = ["| kind of data | as | is |", "|---|---|---|"]
    lines += [f"| `{name}` | `{plug.spec}` | {plug.help} |" for name, plug in SOURCES.items()]
    lines += ["", "| `--model` | is |", "|---|---|"]
    return lines + [f"| `{name}:NAME` | {plug.help} |" for name, plug in FAMILIES.items()]


def reports() -> list[str]:
    lines = ["| format | what | for |", "|---|---|---|"]
    return lines + [f"| `{name}` | {plug.help} | {plug.readers} |" for name, plug in REPORTS.items()]


TABLES = {
    "solvers": (REFERENCE / "commands.md", solvers),
    "data and models": (REFERENCE / "commands.md", data_and_models),
    "reports": (REFERENCE / "formats.md", reports),
}


def pages() -> dict[Path, str]:
    """The text of each page with its tables as they are now."""
    found: dict[Path, str] = {}
    for name, (path, table) in TABLES.items():
        text = found.get(path) or path.read_text(encoding="utf-8")
        begin, made = BEGIN.format(name), "\n".join(table())
        before, _, rest = text.partition(begin)
        found[path] = f"{before}{begin}\n\n{made}\n\n{END}{rest.partition(END)[2]}"
    return found


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
