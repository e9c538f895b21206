"""What every study shares: its options, its written result, agreement of two sets of scores, rows of Fashion-MNIST."""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau, pearsonr, spearmanr
from torch import Tensor
from torch.nn import functional as F

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "tests" / "bench"))
# torch's own forward-mode rules still use torch.jit.script, and warn of it once.
warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)


# What a study is asked, and what it writes.


@dataclass
class Study:
    """Tables and settings of one study; `write` makes NAME.md, NAME.json and NAME.svg of them."""

    name: str
    quick: bool
    seeds: list[int]
    out: Path
    asked: argparse.Namespace
    started: float = field(default_factory=time.process_time)
    tables: dict[str, list[dict[str, object]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, name: str, doc: str, seeds: str = "0,1,2", more: Callable[[argparse.ArgumentParser], None] | None = None
    ) -> "Study":
        parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--quick", action="store_true", help="a small version, in seconds")
        parser.add_argument("--seeds", help=f"numbers, commas between; without it {seeds}, with --quick the first")
        parser.add_argument("--out", type=Path, help="folder of the results")
        if more is not None:
            more(parser)
        asked = parser.parse_args()
        numbers = asked.seeds or (seeds.split(",")[0] if asked.quick else seeds)
        out = asked.out or (Path(".cache/studies/fragility") if asked.quick else HERE / "results")
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
        return cls(name, asked.quick, [int(part) for part in numbers.split(",")], out, asked)

    def add(self, table: str, **cells: object) -> None:
        """One line of a table. A list of numbers is shown as its mean and its range."""
        self.tables.setdefault(table, []).append(cells)
        print(f"{self.name}: {table}: " + ", ".join(f"{k} {shown(v)}" for k, v in cells.items()), file=sys.stderr)

    def write(self, figure: object) -> None:
        """The tables, for people and for programs, and a matplotlib figure."""
        seconds = time.process_time() - self.started
        self.out.mkdir(parents=True, exist_ok=True)
        lines = [
            f"# Results: {self.name}\n",
            f"Seeds {', '.join(map(str, self.seeds))}{'; --quick' if self.quick else ''}; "
            f"{seconds:.0f} s of processor time. Several seeds: mean (lowest to highest).\n",
        ]
        for title, rows in self.tables.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            lines += [f"\n## {title}\n", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
            lines += [f"| {' | '.join(shown(row.get(column, '')) for column in columns)} |" for row in rows]
        (self.out / f"{self.name}.md").write_text("\n".join(lines) + "\n")
        record = {"study": self.name, "quick": self.quick, "seeds": self.seeds, "seconds": round(seconds, 1)}
        text = json.dumps({**record, "tables": self.tables}, indent=1, default=float)
        (self.out / f"{self.name}.json").write_text(text + "\n")
        figure.savefig(self.out / f"{self.name}.svg", metadata={"Date": None}, bbox_inches="tight")  # type: ignore[attr-defined]
        print(f"{self.name}: {seconds:.0f} s, written to {self.out}", file=sys.stderr)


def shown(value: object) -> str:
    """A cell: four digits at most, a list as its mean and range."""
    if isinstance(value, (list, tuple)):
        if not value:
            return "–"
        if len(value) == 1:
            return shown(value[0])
        low, high = shown(min(value)), shown(max(value))
        return low if low == high else f"{shown(float(np.mean(value)))} ({low} to {high})"
    if isinstance(value, float):
        if value == 0 or 1e-3 <= abs(value) < 1e4:
            return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
        return f"{value:.1e}"
    return str(value)


def figure(columns: int, height: float = 3.2) -> tuple[object, list[object]]:
    """A matplotlib figure of some axes side by side."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "curate", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    made, axes = pyplot.subplots(1, columns, figsize=(3.6 * columns, height), squeeze=False, layout="constrained")
    return made, list(axes[0])


def band(axis: object, x: Sequence[float], lists: Sequence[Sequence[float]], label: str, **style: object) -> None:
    """A line of means with the range over seeds around it."""
    middle = [float(np.mean(values)) for values in lists]
    line = axis.plot(x, middle, marker="o", markersize=3, label=label, **style)[0]  # type: ignore[attr-defined]
    low, high = [min(values) for values in lists], [max(values) for values in lists]
    axis.fill_between(x, low, high, alpha=0.15, color=line.get_color(), linewidth=0)  # type: ignore[attr-defined]


# Agreement.


@dataclass(frozen=True)
class Agreement:
    """Predicted against actual changes of a loss. ``slope`` is that of actual on predicted."""

    pearson: float
    spearman: float
    kendall: float
    slope: float
    sign: float
    """Share of rows whose sign agrees."""

    @classmethod
    def of(cls, predicted: Tensor, actual: Tensor) -> "Agreement":
        p, a = predicted.double().cpu().numpy(), actual.double().cpu().numpy()
        if p.std() == 0 or a.std() == 0 or not np.isfinite(p).all() or not np.isfinite(a).all():
            return cls(0.0, 0.0, 0.0, 0.0, 0.0)
        return cls(
            float(pearsonr(p, a)[0]), float(spearmanr(p, a)[0]), float(kendalltau(p, a)[0]),
            float(np.cov(p, a)[0, 1] / p.var(ddof=1)), float((np.sign(p) == np.sign(a)).mean()),
        )  # fmt: skip


# Data.


def fashion_rows(count: int, seed: int, side: int = 28, part: str = "train") -> tuple[Tensor, Tensor]:
    """Random rows of Fashion-MNIST, standardised, ``[n 1 side side]`` (pooled where smaller than 28), and labels."""
    import fashion

    pixels, labels = fashion.images(part)
    rows = np.random.default_rng(seed).permutation(len(pixels))[:count]
    x = (torch.from_numpy(pixels[rows].astype(np.float32))[:, None] / 255 - 0.286) / 0.353
    return (x if side == 28 else F.adaptive_avg_pool2d(x, side)), torch.from_numpy(labels[rows])
