"""Audits simulated on sets whose wrong labels are known: do the intervals hold, how wide are they, what is it good for?

    python tests/bench/audit.py FOLDER [--choose] [--audits 2000] [--sets REGEX] [--rows]
    python tests/bench/audit.py FOLDER --least

FOLDER is that of ``detection.py``; the sets, and the split into those to choose on and those to judge on, stand in
``audit_sets.py``. Each audit draws afresh and is judged by the truth; strata, allocation and intervals are those of
``curate.audit``, with 1,000 draws of the posterior in place of 20,000.

Columns: verdicts; share of the audits whose interval holds the true rate; the mean width over that of Wilson's
interval on a simple random sample of so many; the same of the one-sided bounds, low and high; the share of audits whose
estimate (the sum of suspicion afterwards) is within 30 % of the truth; the root mean square error over the true rate;
F1 of flagging as many rows as the audit says wrong: mean, and in the worst tenth, less that at the true rate; coverage
of the flags' precision and recall (the flags: as many rows as are wrong), and of the rate in classes of ten verdicts,
these three on a twentieth of the audits.
``--rows`` prints every set, else the worst and the mean of those with one rate.

``--least``: how narrow an interval could be by the order of suspicion at all. Whoever knew the share of wrong labels in
each stratum beforehand, and drew by it (Neyman 1934), would have 2 · 1.96 · Σ W √(p(1 - p)) / √n; that is set against
Wilson's, for curate's strata and for twenty of as many rows each. Nothing narrower can hold 95 % for long.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from audit_sets import CHOOSE, JUDGE, Known, known

from curate.audit import estimate
from curate.audit.design import Strata, allocated, strata_of
from curate.audit.estimate import Cells

SIZES = (25, 50, 100, 200)
GROUPS = ((0.025, "up to 2 %"), (0.07, "5 %"), (0.15, "10 %"), (0.3, "20 %"), (1.0, "over 30 %"))
NAMES = ("covers", "width", "above low", "below high", "within 30 %", "error", "F1", "F1 worst", "precision", "recall",
         "classes")  # fmt: skip
CLASSES_OF = 10
"""Verdicts of a class whose rate is told."""


def wilson(rate: float, n: int) -> float:
    """The mean width of Wilson's interval on simple random samples."""
    z, x = 1.959964, np.random.default_rng(0).binomial(n, rate, 4000)
    return float((2 * z * np.sqrt(x / n * (1 - x / n) / n + (z / n / 2) ** 2) / (1 + z * z / n)).mean())


def simulated(one: Known, n: int, audits: int) -> dict[str, float]:
    draw = np.random.default_rng(n)
    order = np.argsort(-one.suspicion, kind="stable")
    wrong, given = one.wrong[order], one.given[order]
    strata = strata_of(one.suspicion[order])
    sizes = strata.sizes
    plan = allocated(strata.shapes, n, sizes, np.zeros(len(sizes), int))
    starts = np.array([0, *strata.ends[:-1]])
    best, true = f1_curve(wrong), int(wrong.sum())
    bad = np.add.reduceat(wrong.astype(int), starts)
    counts = draw.hypergeometric(bad, sizes - bad, plan, (audits, len(sizes)))
    different, place = np.unique(counts, axis=0, return_inverse=True)
    told = [estimate.rate(cells_of(strata, sizes, plan, each)) for each in different]
    found = np.array([(e.value, e.low, e.high, e.at_least, e.at_most) for e in told])[place.ravel()]
    flag_covers: list[list[bool]] = []
    class_covers: list[bool] = []
    for _ in range(audits // 20):
        each = zip(starts, sizes, plan, strict=True)
        rows = np.concatenate([start + draw.choice(size, k, replace=False) for start, size, k in each])
        flag_covers.append(of_flags(strata, rows, wrong, true))
        class_covers += of_classes(strata, rows, wrong, given)
    value, low, high, at_least, at_most = found.T
    rate, close = one.rate, 1e-12
    f1 = best[np.clip(np.round(value * len(wrong)).astype(int), 1, len(wrong)) - 1]
    return {
        "covers": float(((low <= rate + close) & (rate <= high + close)).mean()),
        "width": float((high - low).mean()) / wilson(rate, n),
        "above low": float((at_least <= rate + close).mean()),
        "below high": float((rate <= at_most + close).mean()),
        "within 30 %": float((abs(value - rate) <= 0.3 * rate).mean()),
        "error": float(np.sqrt(((value - rate) ** 2).mean())) / rate,
        "F1": float(f1.mean() - best[true - 1]),
        "F1 worst": float(np.quantile(f1, 0.1) - best[true - 1]),
        "precision": float(np.mean([covers[0] for covers in flag_covers])),
        "recall": float(np.mean([covers[1] for covers in flag_covers])),
        "classes": float(np.mean(class_covers)) if class_covers else float("nan"),
    }


def least_widths(one: Known) -> tuple[float, float]:
    """The narrowest interval over Wilson's, for large n: by our strata, and by twenty of as many rows."""
    order = np.argsort(-one.suspicion, kind="stable")
    wrong = one.wrong[order].astype(float)
    simple = np.sqrt(one.rate * (1 - one.rate))
    widths = []
    for parts in (np.split(wrong, strata_of(one.suspicion[order]).ends[:-1]), np.array_split(wrong, 20)):
        spread = sum(len(part) / len(wrong) * np.sqrt(part.mean() * (1 - part.mean())) for part in parts)
        widths.append(float(spread / simple))
    return widths[0], widths[1]


def cells_of(strata: Strata, sizes: np.ndarray, looked: np.ndarray, counts: np.ndarray) -> Cells:
    return Cells(sizes.astype(float), looked - counts, counts, np.zeros(len(sizes)), strata.shapes)


def of_flags(strata: Strata, rows: np.ndarray, wrong: np.ndarray, flags: int) -> list[bool]:
    """Whether the intervals of precision and recall hold the truth."""
    every = np.arange(len(wrong))
    cell = 2 * np.searchsorted(strata.ends, every + 1) + (every >= flags)
    cells = parts(strata, cell, cell // 2, rows, wrong)
    flagged = np.unique(cell) % 2 == 0
    told, truth = estimate.precision(cells, flagged), float(wrong[:flags].mean())
    found, caught = estimate.recall(cells, flagged), float(wrong[:flags].sum() / wrong.sum())
    return [told.low <= truth + 1e-12 and truth <= told.high + 1e-12, found.low <= caught <= found.high]


def of_classes(strata: Strata, rows: np.ndarray, wrong: np.ndarray, given: np.ndarray) -> list[bool]:
    covers = []
    for label in np.unique(given):
        mine = np.flatnonzero(given == label)
        looked = np.flatnonzero(np.isin(mine, rows))
        if len(looked) >= CLASSES_OF:
            stratum = np.searchsorted(strata.ends, mine + 1)
            told = estimate.rate(parts(strata, stratum, stratum, looked, wrong[mine]))
            covers.append(told.low <= wrong[mine].mean() + 1e-12 and wrong[mine].mean() <= told.high + 1e-12)
    return covers


def parts(strata: Strata, cell: np.ndarray, stratum: np.ndarray, rows: np.ndarray, wrong: np.ndarray) -> Cells:
    """Cells of rows by number; ``rows`` are those with a verdict."""
    names, first, inverse = np.unique(cell, return_index=True, return_inverse=True)
    count = len(names)
    bad = np.bincount(inverse[rows], wrong[rows], count)
    looked = np.bincount(inverse[rows], minlength=count)
    shapes = strata.shapes[:, stratum[first]]
    return Cells(np.bincount(inverse, minlength=count).astype(float), looked - bad, bad, np.zeros(count), shapes)


def f1_curve(wrong: np.ndarray) -> np.ndarray:
    """F1 of flagging the first 1, 2, ... rows."""
    result: np.ndarray = 2 * np.cumsum(wrong) / (np.arange(1, len(wrong) + 1) + wrong.sum())
    return result


def line(name: str, n: int, values: dict[str, str]) -> str:
    return f"{name:34}\t{n}\t" + "\t".join(values[key] for key in NAMES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--choose", action="store_true", help="the sets to choose on, in place of those to judge on")
    parser.add_argument("--audits", type=int, default=2000)
    parser.add_argument("--sets", default="")
    parser.add_argument("--rows", action="store_true", help="every set")
    parser.add_argument("--least", action="store_true", help="only how narrow an interval could be")
    asked = parser.parse_args()
    if asked.least:
        print("set\trate\tour strata\ttwenty strata")
        for one in known(asked.folder, CHOOSE if asked.choose else JUDGE, asked.sets):
            ours, twenty = least_widths(one)
            print(f"{one.name:34}\t{one.rate:.3f}\t{ours:.2f}\t{twenty:.2f}", flush=True)
        return
    estimate.DRAWS = 1000
    print("set\tverdicts\t" + "\t".join(NAMES))
    groups: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    for one in known(asked.folder, CHOOSE if asked.choose else JUDGE, asked.sets):
        group = next(name for most, name in GROUPS if one.rate < most)
        for n in SIZES:
            got = simulated(one, n, asked.audits)
            groups[group, n].append(got)
            if asked.rows:
                print(line(one.name, n, {key: f"{value:.3f}" for key, value in got.items()}), flush=True)
    names = [name for _, name in GROUPS]
    for (group, n), rows in sorted(groups.items(), key=lambda pair: (names.index(pair[0][0]), pair[0][1])):
        worst = {"width": max, "error": max}
        told = {
            key: f"{worst.get(key, min)(known):.3f} {np.mean(known):.3f}" if known else "-"
            for key in NAMES
            for known in [[row[key] for row in rows if not np.isnan(row[key])]]
        }
        print(line(f"{len(rows)} sets, {group}: worst, mean", n, told))


if __name__ == "__main__":
    sys.exit(main())
