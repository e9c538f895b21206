"""Makes docs/reference/rules.md from ``RULES``: ``python docs/make_rules_page.py``, from anywhere."""

from pathlib import Path
from textwrap import fill

from curate.rules.rule import RULES, Rule

WIDTH = 120
PAGE = Path(__file__).resolve().parent / "reference" / "rules.md"
TOP = (
    "What a finding may be of. `--fail-on` takes their names, or a severity: it asks for all findings of that severity "
    "and above. A rule in preview is shown everywhere and counted by a gate only if `--fail-on` names it, for one "
    "release. `curate review --rule RULE` shows the rows of one, `curate mark KEY -v VERDICT --rule RULE` leaves a "
    "verdict on it alone."
)

PICTURE = (
    "![Pictures of the fixture that were copied and spoilt, each with the rule that named it and what it says: "
    "copies by JPEG, mirrored, darker; blank, dark, bright, blurred, tiny, of an odd shape](../images/rules.png)"
)


def page() -> str:
    """The whole page."""
    return "\n".join(["# Rules\n", f"{fill(TOP, WIDTH)}\n", f"{PICTURE}\n", *(_of(rule) for rule in RULES.values())])


def _of(rule: Rule) -> str:
    preview = ", in preview" if rule.preview else ""
    confirmed = ", ".join(f"`{verdict}`" for verdict in rule.confirmed_by) or "no verdict"
    facts = f"Severity {rule.severity}; of a {rule.subject}; since {rule.since}{preview}; confirmed by {confirmed}."
    parts = (f"{rule.title}. {rule.means}", rule.do, facts)
    return "\n\n".join([f"## {rule.name}", *(fill(part, WIDTH, break_on_hyphens=False) for part in parts)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PAGE.parents[2])}")
