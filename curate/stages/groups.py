"""``--group``: rows that count as one when they are left out, such as those of one patient.

Rows of equal content always do; with a group, so do rows that share its value, and whatever is linked by either.
Knows where the values stand (a column, a part of the keys); leaves what is made of groups to heads, experts and the
rule `leak`.
"""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from curate.errors import UsageError
from curate.sources import Source
from curate.stages.forward import Forward


@dataclass(frozen=True)
class Groups:
    """The group of each training row and evaluation row that was read; None: of no group. ``name`` is the column."""

    name: str
    train: list[str | None]
    evaluation: list[str | None]

    def shared(self) -> dict[int, tuple[str, int]]:
        """Evaluation rows whose group has training rows too: its name, and how many."""
        counts: dict[str, int] = {}
        for value in self.train:
            if value is not None:
                counts[value] = counts.get(value, 0) + 1
        return {
            row: (value, counts[value])
            for row, value in enumerate(self.evaluation)
            if value is not None and value in counts
        }


def read_groups(asked: str | None, train: Forward, evaluation: Forward, own: bool) -> tuple[Groups | None, list[str]]:
    """The groups, and notes. ``own``: the evaluation rows are training rows. Raises `UsageError` if there are none."""
    if asked is None:
        return None, []
    values = _of(asked, train)
    notes = [f"--group {asked}: {len(set(values) - {None}):,} groups; rows of one are left out together"]
    theirs: list[str | None] = [None] * len(evaluation)
    if not own:
        try:
            theirs = _of(asked, evaluation)
        except UsageError:
            notes.append(f"the evaluation set has no {asked}: whether groups are in both sets is not known")
    return Groups((_pattern(asked) and "group") or asked, values, theirs), notes


def together(contents: Int[Tensor, " n"], groups: Groups | None) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """How many rows are left out with each row, itself counted, and the number of its group; by `Forward.contents`.

    Raises `UsageError` if groups leave no row that another one could be judged by.
    """
    group = contents
    if groups is not None:
        values = [row if value is None else value for row, value in enumerate(groups.train)]
        group = torch.tensor(_linked([contents.tolist(), values]))
        if len(group) > 1 and not bool(group.any()):
            raise UsageError(f"--group {groups.name}: all rows are of one group.", "Nothing is left to judge them by.")
    return torch.bincount(group)[group], group


def _linked(links: list[Sequence[Hashable]]) -> list[int]:
    """Rows that any of the lists has the same value for get the same number, and so on from row to row."""
    count = len(links[0])
    above = list(range(count))

    def top(row: int) -> int:
        while above[row] != row:
            above[row] = above[above[row]]
            row = above[row]
        return row

    for values in links:
        first: dict[Hashable, int] = {}
        for row, value in enumerate(values):
            above[top(row)] = top(first.setdefault(value, row))
    tops = [top(row) for row in range(count)]
    numbers = {row: number for number, row in enumerate(dict.fromkeys(tops))}
    return [numbers[row] for row in tops]


def _pattern(asked: str) -> re.Pattern[str] | None:
    if "(" not in asked:
        return None
    try:
        found = re.compile(asked)
    except re.error as error:
        raise UsageError(f"--group {asked}: no regular expression: {error}.") from error
    if found.groups != 1:
        raise UsageError(f"--group {asked}: one group is needed, the value.", "As in '(patient[0-9]+)'.")
    return found


def _of(asked: str, rows: Forward) -> list[str | None]:
    pattern = _pattern(asked)
    if pattern is None:
        values = rows.source.values(asked, "--group")
        return [values[index] for index in rows.indices]
    found = [pattern.search(key) for key in rows.keys]
    if not any(found):
        raise UsageError(f"--group {asked}: no key holds it, the first is {rows.keys[0]}.", "It is searched in keys.")
    return [one[1] if one is not None else None for one in found]


def refuse_group(asked: str | None, source: Source) -> None:
    """A column that is not there is told before any row is read. Raises `UsageError`."""
    if asked is not None and _pattern(asked) is None:
        source.values(asked, "--group")
