"""Makes the table of solvers in docs/reference/commands.md anew: ``python docs/make_solvers_table.py``, from anywhere.

What stands outside of the two marks is written by hand and stays.
"""

from pathlib import Path

from curate.plugs import CURVATURES, SOLVERS

PAGE = Path(__file__).resolve().parent / "reference" / "commands.md"
BEGIN, END = "<!-- made by docs/make_solvers_table.py -->", "<!-- end of what is made -->"


def table() -> str:
    lines = ["| `--solver` | answers | error | takes | settings |", "|---|---|---|---|---|"]
    for name, plug in SOLVERS.items():
        settings = ", ".join(f"`{key}`" for key in plug.settings)
        if plug.preset:
            given = ",".join(key if value is True else f"{key}={value}" for key, value in plug.preset.items())
            settings = f"is `lissa:{given}`"
        lines.append(f"| `{name}` | {plug.help} | {plug.error} | {plug.takes} | {settings} |")
    lines += ["", "| `--curvature` | is |", "|---|---|"]
    lines += [f"| `{name}` | {plug.words}: {plug.help} |" for name, plug in CURVATURES.items()]
    return "\n".join(lines)


def page(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
