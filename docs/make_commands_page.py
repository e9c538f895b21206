"""Makes the option tables of docs/reference/commands.md anew: ``python docs/make_commands_page.py``, from anywhere.

Everything in them stands in ``curate.settings.options``. What stands outside of the marks is written by hand and stays.
"""

import re
from pathlib import Path

from curate.settings.option import Option
from curate.settings.options import OPTIONS

PAGE = Path(__file__).resolve().parent / "reference" / "commands.md"
BEGIN, END = "<!-- options: {sections} -->", "<!-- end of what docs/make_commands_page.py makes -->"


def row(option: Option) -> str:
    """The option's line of a table."""
    called = "TRAIN" if option.key == "train" else option.spelling + (f" {option.metavar}" if option.metavar else "")
    said = f"{option.help} {option.more}".rstrip()
    return f"| {_cell(f'`{called}`')} | {_cell(option.otherwise)} | {_cell(said)} |"


def table(sections: list[str]) -> list[str]:
    """A table of the options of these sections."""
    rows = [row(option) for option in OPTIONS.values() if option.section in sections]
    return ["| option | default | meaning |", "|---|---|---|", *rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page(text: str) -> str:
    """The page with its tables made anew."""

    def anew(found: re.Match[str]) -> str:
        begin = BEGIN.format(sections=found[1])
        return "\n".join([begin, "", *table(found[1].split(", ")), "", END])

    pattern = re.escape(BEGIN).replace(re.escape("{sections}"), "([^\n]*)") + ".*?" + re.escape(END)
    return re.sub(pattern, anew, text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PAGE.parents[2])}")
