"""Receipts and evidence in plain words, for those who have not read the papers.

Knows what each field of a receipt means to a reader; the terse form stands in ``terminal.receipt_sentence``.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from curate.plugs import CURVATURES, solver_words
from curate.process.numbers import duration, percent
from curate.reports.report import Receipt
from curate.reports.row_terminal import flat
from curate.reports.words import brief, clean, plural
from curate.store.rows import Near, RowFinding

NO_OPTION = {
    "class-block": "solved class by class, an approximation: trust the order of the rows more than the values",
    "dual of a sample": "solved on a sample of the rows",
}
"""How a number was solved for that no ``--solver`` names; the words of those stand in `plugs`."""
DETECTORS = {
    "loss": "loss of the given label",
    "margin": "margin to the next best label",
    "gradient_norm": "length of the gradient",
    "self_influence": "self-influence",
    "probe_self_influence": "self-influence at the probe",
    "leave_one_out_loss": "loss without the row",
    "leave_one_out_margin": "margin without the row",
    "neighbours": "labels of the nearest rows",
    "early_loss": "loss, early features",
    "early_margin": "margin, early features",
    "early_neighbours": "labels of the nearest rows, early features",
    "network_self_influence": "self-influence through the network",
    "probe_loss": "loss at the probe",
}
_NEXT_CELL = re.compile(r", (?=[^,=]+=)")
_APART = ("detectors", "more_suspect_than", "nearest", "group")  # told in a form of their own


def receipt_sentences(receipt: Receipt) -> list[str]:
    """What was not measured is not mentioned."""
    named, plug = CURVATURES.get(receipt.curvature or ""), solver_words(receipt.solver)
    curvature = receipt.curvature if named is None else named.words
    words = NO_OPTION.get(receipt.solver) if plug is None else plug.words
    how = f"It was {words or f'solved by {receipt.solver}'}"
    how += f", with the {clean(curvature)} curvature" if curvature else ""
    told = [clean(how) + (f". Parameters: {clean(receipt.parameters)}." if receipt.parameters else ".")]
    if receipt.damping is not None:
        asked = receipt.damping_asked
        if asked is not None and brief(asked) != brief(receipt.damping):
            told.append(
                f"Damping {brief(asked)} was asked for and {brief(receipt.damping)} used: small differences in "
                "directions that the model hardly uses are smoothed over."
            )
        else:
            told.append(f"Damping {brief(receipt.damping)} keeps it stable.")
    if receipt.residual is not None:
        told.append(f"Put back into its equation, the solution leaves {_share(receipt.residual)} unexplained.")
    if receipt.score_error is not None:
        told.append(f"The scores themselves are off by about {_share(receipt.score_error)}.")
    if receipt.recall is not None:
        interval = ""
        if receipt.recall_low is not None and receipt.recall_high is not None:
            interval = f" (95 %: {percent(receipt.recall_low, 0)} to {percent(receipt.recall_high, 0)})"
        told.append(
            f"Of the strongest rows of an evaluation row, {percent(receipt.recall, 0)}{interval} are among the "
            "candidates that were looked at; the others are not listed."
        )
    if receipt.steps is not None:
        took = f" in {duration(receipt.seconds)}" if receipt.seconds is not None else ""
        told.append(f"It took {plural(receipt.steps, 'step')}{took}.")
    elif receipt.seconds is not None:
        told.append(f"It took {duration(receipt.seconds)}.")
    return told


def _share(value: float) -> str:
    return "less than a millionth" if value < 1e-6 else percent(value, 1) if value >= 1e-3 else f"{value:.0e} of it"


def detector(name: str) -> str:
    """What people call it; a name without words of its own stands with spaces for underscores."""
    return DETECTORS.get(name, name.replace("_", " "))


def spoke(finding: RowFinding) -> list[tuple[str, str]]:
    """Detectors, and how many rows each finds less suspect, most first."""
    shares = finding.evidence.get("more_suspect_than")
    if not isinstance(shares, Mapping):
        return []
    found = [(detector(str(name)), float(share)) for name, share in shares.items() if isinstance(share, (int, float))]
    return [(name, _more(share)) for name, share in sorted(found, key=lambda pair: (-pair[1], pair[0]))]


def _more(share: float) -> str:
    """The most suspect row stands over all others; just below it no share is rounded up to all of them."""
    if share >= 1:
        return "more suspect than any other row"
    return f"more suspect than {percent(min(share, 0.999))} of the rows"


def tally(nearest: Sequence[Near]) -> list[tuple[str, int]]:
    """Labels of the nearest rows and how many have each, the most frequent first."""
    return Counter(clean("(none)" if near.label is None else near.label) for near in nearest).most_common()


def facts(finding: RowFinding) -> list[tuple[str, str]]:
    """The other evidence, as names and values."""
    rest: dict[str, Any] = {name: value for name, value in finding.evidence.items() if name not in _APART}
    return flat(rest)


def records(texts: Sequence[str | None]) -> list[list[tuple[str, str]]]:
    """Rows of a table (``a=1, b=two``) as names and values; nothing if the texts do not share their columns."""
    parts = [_NEXT_CELL.split(text) if text else [] for text in texts]
    cells = [[tuple(part.split("=", 1)) for part in row] for row in parts]
    names = {tuple(cell[0] for cell in row) for row in cells if row}
    if len(names) != 1 or any(len(cell) != 2 for row in cells for cell in row):
        return [[] for _ in texts]
    return [[(name, value) for name, value in row] for row in cells]
