"""The report as one page: a gallery of the flagged rows that opens anywhere, without a network.

Knows the page's parts and that all text is shown as text (autoescaping, and a policy that runs no script but the
page's own); leaves the rows to ``gallery.py`` and geometry to ``charts.py``.
"""

import base64
import hashlib
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.process.numbers import duration, memory, percent
from curate.reports import trend
from curate.reports.base import Renderer
from curate.reports.gallery import Gallery
from curate.reports.harmful_terminal import group_sentence, none_harmful, turned
from curate.reports.html import charts, sentences
from curate.reports.report import Report
from curate.reports.summary import summary_sentence
from curate.reports.trust_terminal import accuracy_sentence
from curate.reports.trusted import trust_advice, trust_facts
from curate.reports.words import brief, clean, moment, plural, signed
from curate.rules.rule import rule_of

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
EMPTY = Gallery(cards=(), shown=0, flagged=0, distribution=None, confusion=None)


class HtmlReport(Renderer):
    """One page that holds its own pictures, style and script."""

    gallery, listed = True, False

    def render(self, report: Report) -> str:
        return page(report)


def page(report: Report) -> str:
    """The whole page as text; a report without its gallery has no cards."""
    gallery = report.gallery or EMPTY
    style, script = _part("page.css"), _part("page.js")
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            run=report.run,
            summary=summary_sentence(report),
            accuracy=accuracy_sentence(report),
            none_harmful=none_harmful(report),
            gallery=gallery,
            outcome=report.outcome,
            style=style,
            script=script,
            policy=(
                f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
                "base-uri 'none'; form-action 'none'"
            ),
            histogram=charts.histogram(gallery.distribution) if gallery.distribution else None,
            matrix=charts.matrix(gallery.confusion) if gallery.confusion else None,
            scatter=gallery.scatter,
            trend=[trend.cells_of(line) for line in gallery.trend] if len(gallery.trend) > 1 else [],
            trend_headings=trend.HEADINGS,
            trend_sentence=trend.sentence(gallery.trend),
            wide=[row for row in report.others if rule_of(row.rule).subject in ("class", "column", "slice")],
            noise=[] if report.unjudged else charts.noise(report.by_class),
            trust=list(trust_facts(report.run.counts, report.checked)),
            advice=trust_advice(report.run.counts),
            receipts=[(receipt.quantity, sentences.receipt_sentences(receipt)) for receipt in report.receipts],
            writing=False,
            records=sentences.records([card.text for card in gallery.cards]),
            filters=_filters(gallery),
        )
    )


def frame(document: str, height: int = 720) -> str:
    """A page inside of another one (a notebook's cell), which it can neither read nor restyle."""
    return (
        f'<iframe srcdoc="{escape(document)}" sandbox="allow-scripts" title="curate report" '
        f'width="100%" height="{height}" style="border: 1px solid #8888; border-radius: 4px"></iframe>'
    )


@cache
def environment() -> "Environment":
    """Jinja, with everything escaped; foreign text goes through ``clean`` (one line) or ``lines`` as well."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= FILTERS
    return made


def lines(text: str) -> str:
    """Harmless text that keeps its line breaks."""
    return "\n".join(clean(line) for line in text.replace("\r\n", "\n").split("\n"))


def whole(text: str) -> str:
    """A sentence whose per cent signs stay on the line of their number."""
    return text.replace(" %", "\u00a0%")


def picture(thumbnail: bytes) -> str:
    """A thumbnail as an address that holds it; "" if it is no picture that browsers know."""
    kind = "jpeg" if thumbnail.startswith(b"\xff\xd8") else "png" if thumbnail.startswith(b"\x89PNG") else None
    return f"data:image/{kind};base64,{base64.b64encode(thumbnail).decode()}" if kind else ""


FILTERS = {
    "brief": brief,
    "clean": clean,
    "lines": lines,
    "whole": whole,
    "duration": duration,
    "memory": memory,
    "moment": moment,
    "percent": percent,
    "plural": plural,
    "signed": signed,
    "picture": picture,
    "spoke": sentences.spoke,
    "facts": sentences.facts,
    "group": group_sentence,
    "turned": turned,
    "tally": sentences.tally,
    "rule": rule_of,
}
"""What the templates say numbers and foreign text with; also those of ``curate serve``."""


def _part(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _filters(gallery: Gallery) -> dict[str, Any]:
    """What can be chosen from: only what tells cards apart."""
    found = {
        "rule": {finding.rule for card in gallery.cards for finding in card.findings},
        "severity": {finding.severity for card in gallery.cards for finding in card.findings},
        "state": {finding.state for card in gallery.cards for finding in card.findings},
        "given": {card.label for card in gallery.cards if card.label is not None},
        "suggested": {card.suggested_label for card in gallery.cards if card.suggested_label is not None},
        "split": {card.split for card in gallery.cards},
    }
    return {name: sorted(values) for name, values in found.items() if len(values) > 1}
