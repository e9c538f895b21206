"""One row as a page of its own: ``curate show KEY -f html``. No script, nothing fetched, the picture within.

Knows markup and style; what is said of the row is ``row``'s, and numbers in words are ``words``'s.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from curate.process.numbers import percent
from curate.reports.row import RowReport
from curate.reports.row_terminal import NAMES, WORDS, flat, parts_of, similar, verdict_sentence
from curate.reports.words import brief, clean, signed
from curate.store.rows import HitRow, Row

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem; overflow-wrap: anywhere } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .2rem .8rem .2rem 0;
vertical-align: top; border-bottom: 1px solid #8884; overflow-wrap: anywhere }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.dim { opacity: .7 } .error { color: #c33 } .warning { color: #a70 }
img { image-rendering: pixelated; width: 12rem; max-width: 100%; float: right; margin: 0 0 1rem 1rem }
img.wide { width: auto; float: none; margin: 0 }
"""


@dataclass(frozen=True)
class Heat:
    """A heat map (PNG) and a few lines under it."""

    picture: bytes
    lines: tuple[str, ...]

    def parts(self) -> list[str]:
        """HTML: the picture as a data address, then a paragraph for each line."""
        data = base64.b64encode(self.picture).decode()
        image = f'<img alt="heat map" class="wide" src="data:image/png;base64,{data}">'
        return [image, *(f"<p>{_text(line)}</p>" for line in self.lines)]


def row_page(told: RowReport, heat: Heat | None = None) -> str:
    """The whole page, with the heat map of its influence if there is one; all text of the user's is escaped."""
    row = told.row
    title = _text(f"{row.key}: {told.run.dataset}, run {told.run.id}")
    facts = [("split", row.split), ("given label", "(none)" if row.label is None else row.label)]
    if row.suggested_label is not None:
        facts.append(("suggested", f"{row.suggested_label} ({percent(row.suggested_probability)})"))
    if row.word is not None:
        facts.append(("label is", WORDS[row.word]))
    facts.append(("verdict", "none yet" if row.verdict is None else verdict_sentence(row.verdict)))
    facts += [(name, value) for name, value in (("file", row.media_path), ("text", row.text)) if value]
    body = [
        f"<h1>{_text(row.key)}</h1>",
        _picture(told),
        _table([], [[_text(name), _text(value)] for name, value in facts]),
        "<h2>Scores</h2>",
        _table(
            ["score", "value", "rank", ""],
            [
                [
                    _text(NAMES[score.name][0]),
                    _number(brief(score.value)),
                    _number("" if score.rank is None else f"{score.rank:,} of {score.of:,}"),
                    f'<span class="dim">{_text(NAMES[score.name][1])}</span>',
                ]
                for score in told.scores
            ],
        ),
        *_findings(row),
        *(["<h2>Which part of it</h2>", *heat.parts()] if heat else []),
        *_nearest(row),
    ]
    for heading, hits in parts_of(row):
        body += [f"<h2>{_text(heading)}</h2>", _hits(hits)]
    return _page(title, body)


def heat_page(title: str, heat: Heat) -> str:
    """A page of the heat map alone."""
    return _page(_text(title), [f"<h1>{_text(title)}</h1>", *heat.parts()])


def _page(title: str, body: Iterable[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _text(value: object) -> str:
    return escape(clean(value))


def _number(text: str) -> str:
    return f'<div class="number">{_text(text)}</div>'


def _table(headings: list[str], rows: Iterable[list[str]]) -> str:
    head = "<tr>" + "".join(f"<th>{_text(heading)}</th>" for heading in headings) + "</tr>" if headings else ""
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{head}{''.join(lines)}</table>"


def _picture(told: RowReport) -> str:
    picture = told.picture()
    if picture is None:
        return ""
    kind = "png" if picture.startswith(b"\x89PNG") else "gif" if picture.startswith(b"GIF8") else "jpeg"
    data = base64.b64encode(picture).decode()
    return f'<img alt="{_text(told.row.key)}" src="data:image/{kind};base64,{data}">'


def _findings(row: Row) -> list[str]:
    parts = ["<h2>Findings</h2>"]
    if not row.findings:
        return [*parts, "<p>none</p>"]
    for finding in row.findings:
        parts.append(
            f'<p><strong class="{_text(finding.severity)}">{_text(finding.rule)}</strong> · {_text(finding.severity)} '
            f"· {_text(finding.state)}<br>{_text(finding.why)}</p>"
        )
        parts.append(_table([], [[_text(name), _text(value)] for name, value in flat(finding.shown)]))
    return parts


def _nearest(row: Row) -> list[str]:
    if not row.nearest:
        return []
    rows = [[_number(similar(near)), _text(near.key), _text(near.label or "(none)")] for near in row.nearest]
    return ["<h2>Nearest training rows</h2>", _table(["similarity", "key", "label"], rows)]


def _hits(hits: tuple[HitRow, ...]) -> str:
    if not hits:
        return '<p class="dim">no such pair was kept in this run</p>'
    rows = [
        [_number(signed(hit.influence)), _text(hit.key), _text("(none)" if hit.label is None else hit.label)]
        for hit in hits
    ]
    return _table(["influence, nats", "key", "label"], rows)
