"""Which evaluation rows harm is measured on, and which of them are solved for one by one.

Knows `--eval-rows` and `--slice`; leaves the solving to `influence`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.errors import UsageError
from curate.files.reading import read_names
from curate.settings.merge import ScanSettings
from curate.settings.specs import did_you_mean, is_file
from curate.sources import Source
from curate.stages.forward import Forward

ONE_BY_ONE = 32
"""Evaluation rows of highest loss that are solved for one by one, where nobody says which."""
SHOWN = 8


@dataclass(frozen=True)
class Targets:
    """Rows of the evaluation set, in its order."""

    rows: Int[Tensor, " T"]
    """Harm is predicted for their mean loss."""
    chosen: Int[Tensor, " c"]
    """Places in ``rows`` of those solved for one by one through the network."""
    name: str
    """What they are called in a sentence: `the 113 evaluation rows that the model gets wrong`."""
    whole: bool
    """Whether they are the whole evaluation set."""


def choose_targets(
    settings: ScanSettings, evaluation: Forward, logits: Float[Tensor, "E C"], losses: Float[Tensor, " E"]
) -> Targets:
    """Raises `UsageError` where the options name no row."""
    keep = torch.ones(len(evaluation), dtype=torch.bool)
    asked, words = settings.eval_rows, ""
    if settings.slice is not None:
        keep &= _slice(settings.slice, evaluation)
        words = f" with {settings.slice}"
    every = asked == "all"
    if asked == "mistakes":
        keep &= logits.argmax(1) != evaluation.labels
        words += " that the model gets wrong"
    elif isinstance(asked, str) and not every:
        keep &= _named(asked, evaluation)
        words += f" that --eval-rows {asked} names"
        every = True
    rows = keep.nonzero()[:, 0]
    if not len(rows):
        raise UsageError(f"There are no evaluation rows{words}", "Harm needs some: leave out --eval-rows or --slice.")
    count = len(rows) if every else asked if isinstance(asked, int) else ONE_BY_ONE
    chosen = torch.argsort(losses[rows], descending=True, stable=True)[:count].sort().values
    plural = "evaluation row" if len(rows) == 1 else "evaluation rows"
    return Targets(rows, chosen, f"the {len(rows):,} {plural}{words}", len(rows) == len(evaluation))


def refuse_rows(settings: ScanSettings, evaluation: Source) -> None:
    """Rows that the options name and nobody has are told before any is read. Raises `UsageError`."""
    if settings.slice is not None:
        column, sign, wanted = settings.slice.partition("=")
        values = evaluation.values(column)
        if sign:
            _has_value(settings.slice, column, wanted, values)
    asked = settings.eval_rows
    if isinstance(asked, str) and asked not in ("mistakes", "all"):
        _rows_named(asked, {key: row for row, key in enumerate(evaluation.keys)})


def _slice(asked: str, evaluation: Forward) -> Tensor:
    column, _, wanted = asked.partition("=")
    values = evaluation.source.values(column)
    found = [values[index] for index in evaluation.indices]
    _has_value(asked, column, wanted, found)
    return torch.tensor([value == wanted for value in found])


def _has_value(asked: str, column: str, wanted: str, found: Sequence[str | None]) -> None:
    if wanted not in found:
        counts = Counter(value for value in found if value is not None)
        shown = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common(SHOWN))
        more = f" and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else ""
        raise UsageError(f"--slice {asked}: no evaluation row has this value.", f"{column} is {shown}{more}.")


def _named(asked: str, evaluation: Forward) -> Tensor:
    """Rows by key: one, several with commas between, or those of a file, one a line."""
    keep = torch.zeros(len(evaluation), dtype=torch.bool)
    keep[_rows_named(asked, {key: row for row, key in enumerate(evaluation.keys)})] = True
    return keep


def _rows_named(asked: str, keys: Mapping[str, int]) -> list[int]:
    if asked in keys or asked.removeprefix("eval:") in keys:
        names = [asked]
    elif is_file(asked):
        names = read_names(asked, "--eval-rows")
    else:
        names = [name.strip() for name in asked.split(",") if name.strip()]
    rows = []
    for name in names:
        row = keys.get(name, keys.get(name.removeprefix("eval:")))
        if row is None:
            where = f" (of {asked})" if is_file(asked) else ""
            raise UsageError(
                f"--eval-rows: no evaluation row is called '{name}'{where}.",
                did_you_mean(name, keys)
                or "Give mistakes, all, a number, keys with commas between, or a file of keys.",
            )
        rows.append(row)
    return rows
