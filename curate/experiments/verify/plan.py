"""What is refitted within a number of minutes: which rows one at a time, which groups, how many of them twice.

Rows as in the literature (Koh & Liang 2017, Basu et al. 2021): those of most influence, those around the 30th
percentile, and random ones. Knows counts and choices; leaves the refits to `protocol`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.errors import UsageError
from curate.process.numbers import duration

MOST, FEWEST = (160, 40, 20), (24, 8, 4)
"""Rows, groups, rows that are refitted twice."""
MOST_TRAININGS, FEWEST_TRAININGS = (60, 100, 10), (16, 24, 4)
"""The same where every refit is a training of its own, and the groups are halves."""
PERCENTILE = 0.3
GROUP_SHARE, GROUP_ROWS = 0.01, 10
"""A group holds a hundredth of the training rows, ten at least."""

TOP, MIDDLE, RANDOM = "top", "30th percentile", "random"
"""Why a row was chosen."""


@dataclass(frozen=True)
class Plan:
    """How many refits of each kind, and what one takes."""

    rows: int
    """Left out one at a time, for all targets together."""
    groups: int
    group_size: int
    repeats: int
    """Rows whose refit is made again in another order of the training rows."""
    seconds: float
    """Estimated, of one refit."""
    spent: float = 0.0
    """Of the minutes, on what is predicted, in seconds: it was solved before the first refit."""
    halves: bool = False
    """Whether each group is a half of the rows."""
    processes: int = 1
    """That deal the refits out."""
    most_rows: int = 0
    """That are left out one at a time where there is time for all refits."""
    minutes: int = 0
    """That allow all of them."""

    @property
    def refits(self) -> int:
        """Refits in all."""
        return self.rows + self.groups + self.repeats

    @property
    def work(self) -> float:
        """Seconds of all refits, some of them beside one another."""
        return self.refits * self.seconds / self.processes


def make_plan(
    n: int,
    minutes: float,
    seconds: float,
    *,
    exact: bool,
    halves: bool = False,
    spent: float = 0.0,
    processes: int = 1,
) -> Plan:
    """For ``n`` training rows, where one refit takes ``seconds`` and ``spent`` ones of the minutes are gone.

    ``exact`` refits need no repeating; ``halves`` of the rows are the groups where each is a training of its own.
    Raises `UsageError` where the minutes do not allow the fewest refits from which anything can be said.
    """
    size = n // 2 if halves else min(max(GROUP_ROWS, round(GROUP_SHARE * n)), max(1, n // 4))
    most, fewest = (
        (min(rows, n), groups, 0 if exact else repeats)
        for rows, groups, repeats in ((MOST_TRAININGS, FEWEST_TRAININGS) if halves else (MOST, FEWEST))
    )
    allowed = processes * max(0.0, 60 * minutes - spent) / max(seconds, 1e-9)
    if allowed < sum(fewest):
        needed = math.ceil((sum(fewest) * seconds / processes + spent) / 60)
        after = f" after {duration(spent)} of solving" if spent > seconds else ""
        raise UsageError(
            f"--minutes {minutes:g} allows {int(allowed)} refits of {seconds:.2g} s{after}; under {sum(fewest)} say "
            "nothing",
            f"Give --minutes {needed}, fewer --epochs, or --at probe or head.",
        )
    share = min(1.0, allowed / sum(most))
    rows, groups, repeats = (max(least, int(share * some)) for least, some in zip(fewest, most, strict=True))
    for_all = math.ceil(max(minutes, (sum(most) * seconds / processes + spent) / 60))
    return Plan(rows, groups, size, repeats, seconds, spent, halves, processes, most[0], for_all)


def choose_rows(influence: Float[Tensor, "n m"], count: int, generator: torch.Generator) -> dict[int, str]:
    """Training rows and why each was chosen, at most ``count``; ``influence`` on each of the m named targets.

    A quarter of them at random; of the others the same number for each target, half of most influence, half around the
    30th percentile of its size.
    """
    n, targets = influence.shape
    each = max(1, (count - count // 4) // (2 * targets))
    chosen: dict[int, str] = {}
    for sizes in influence.abs().T:
        order = sizes.argsort(descending=True, stable=True)
        for row in order[:each].tolist():
            chosen.setdefault(row, TOP)
    for sizes in influence.abs().T:
        order = sizes.argsort(descending=True, stable=True)
        middle = order[max(0, round((1 - PERCENTILE) * n) - each // 2) :]
        for row in middle[:each].tolist():
            chosen.setdefault(row, MIDDLE)
    for row in torch.randperm(n, generator=generator).tolist():
        if len(chosen) >= count:
            break
        chosen.setdefault(row, RANDOM)
    return chosen


def choose_groups(n: int, count: int, size: int, generator: torch.Generator) -> list[list[int]]:
    """Random groups of training rows."""
    return [sorted(torch.randperm(n, generator=generator)[:size].tolist()) for _ in range(count)]
