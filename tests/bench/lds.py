"""Linear datamodeling scores: does influence predict what retraining without half, or a tenth, of the rows does?

    python tests/bench/lds.py train FOLDER [--networks cnn,...] [--subsets 100] [--seeds 2] [--shares 0.5,0.9]
    python tests/bench/lds.py score FOLDER [--networks cnn,...] [--methods probe,...]
    python tests/bench/lds.py table FOLDER [--networks cnn,...] [--against kronfluence]

The score (Ilyas et al. 2022; Park et al. 2023) of an evaluation row is Spearman's correlation, over random subsets
of the training rows, between its loss after training on a subset and what a method predicts of it: the sum of the
influence of the rows that were left out. A method's score is the mean over 100 evaluation rows. Networks, recipes and
data stand in `lds_networks.py`, those to choose on and those to judge on apart. FOLDER is the folder of real data.
Trainings and matrices are kept in ``.cache/bench/lds`` (or ``CURATE_BENCH_HOME``), and each part goes on where it
stopped. The ceiling is how well one seed's losses rank those of the mean of the others. Intervals are of 95 %, by a
bootstrap over subsets and evaluation rows at once; beside ``--against`` they are paired.
"""

import argparse
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import fashion
import lds_networks
import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F

from curate.engine.curvature.ekfac import EKFAC
from curate.engine.curvature.head import HeadCurvature
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.head import HeadInfluence
from curate.engine.influence.predict import AtHead, ThroughNetwork
from curate.engine.influence.problem import Problem
from curate.engine.loss import SOFTMAX
from curate.engine.probe import fit_probe, probe_inputs
from curate.process.progress import Progress

SILENT = Progress.silent()
HOME = fashion.HOME / "lds"
BOOTSTRAPS = 500
FEWEST = 5
"""Subsets below which nothing is said."""


class Inputs:
    """Rows in memory."""

    device = torch.device("cpu")

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor) -> Tensor:
        return self.x[indices]


@dataclass(frozen=True)
class Labelled:
    """An `engine.rows.Rows`."""

    inputs: Inputs
    labels: Tensor
    logits: Tensor | None
    features: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Case:
    """A trained network, its rows, and what several methods share."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.module = lds_networks.whole(name, folder, HOME)
        x, y, z, w = lds_networks.data(name, folder)
        self.head = [layer for layer in self.module.modules() if isinstance(layer, nn.Linear)][-1]
        self.train, self.tests = self._rows(x, y), self._rows(z, w)
        self.classes = self.train.logits.shape[1]
        self.objective = Objective(self.module, choose_parameters(self.module, "all"), lambda output: output)
        self.problem = Problem(self.objective, self.train)

    @torch.no_grad()
    def _rows(self, x: Tensor, labels: Tensor) -> Labelled:
        seen = []
        hook = self.head.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
        logits = self.module(x)
        hook.remove()
        return Labelled(Inputs(x), labels, logits, seen[0])

    @cached_property
    def targets(self) -> Tensor:
        """Gradients of the evaluation rows."""
        every = torch.arange(len(self.tests))
        problem = self.problem.over(self.tests)
        return torch.cat([problem.row_gradients(part) for part in problem.gradient_parts(every)])

    @cached_property
    def ekfac(self) -> EKFAC:
        labels = F.one_hot(self.train.labels, self.classes).float()
        return EKFAC.fit_labels(self.objective, self.train.inputs, labels)

    def along(self, solved: Tensor) -> Tensor:
        """Influence of all training rows on what was ``solved`` for, ``[n T]``."""
        own = self.ekfac.own(self.train.inputs, self.problem.residuals)
        products = self.ekfac.products(own, solved)
        return (products - products.mean(0)) / len(self.train)

    def at_head(self, head: HeadInfluence, x: Tensor, logits: Tensor) -> Tensor:
        """The same by a closed form."""
        solved, _, _ = head.solve(head.gradients(x, SOFTMAX.residuals(logits, self.tests.labels)))
        return torch.cat([head.on(solved, rows) for rows in head.blocks(len(solved))])

    def closed(self, curvature: HeadCurvature, logits: Tensor) -> HeadInfluence:
        head = curvature.factorise()
        return HeadInfluence(head, self.train.labels, head.scores(logits, self.train.labels))


def with_ones(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1).double()


def own_head(case: Case) -> Tensor:
    """The model's own head in closed form, as a scan damps it: a tenth of the mean eigenvalue."""
    x, logits = with_ones(case.train.features), case.train.logits.double()
    p = logits.softmax(1)
    trace = float((SOFTMAX.trace(p) * x.square().sum(1)).mean())
    penalty = torch.full((x.shape[1],), 0.1 * trace / (x.shape[1] * case.classes), dtype=x.dtype)
    head = case.closed(HeadCurvature(x, p, penalty), logits)
    return case.at_head(head, with_ones(case.tests.features), case.tests.logits.double())


def probe(case: Case) -> Tensor:
    """The probe in closed form."""
    fitted, x = fit_probe(case.train.features, case.train.labels, case.classes)
    head = case.closed(fitted.curvature(x), fitted.logits(x))
    z = probe_inputs(case.tests.features).to(x)
    return case.at_head(head, z, fitted.logits(z))


def ekfac_at(damping: Callable[[Case], float]) -> Callable[[Case], Tensor]:
    """EK-FAC with one damping for all layers."""
    return lambda case: case.along(case.ekfac.solve(case.targets, damping(case)))


def by_layer(share: float) -> Callable[[Case], Tensor]:
    """EK-FAC, each layer damped by a share of its own mean eigenvalue."""
    return lambda case: case.along(case.ekfac.solve(case.targets, case.ekfac.dampings(share)))


def gradient_product(case: Case) -> Tensor:
    return case.along(case.targets)


def last_layer_product(case: Case) -> Tensor:
    """Of the last layer's gradients, at one checkpoint: TracInCPFast's score (Pruthi et al. 2020)."""
    x, z = with_ones(case.train.features), with_ones(case.tests.features)
    r = SOFTMAX.residuals(case.train.logits, case.train.labels).double()
    s = SOFTMAX.residuals(case.tests.logits, case.tests.labels).double()
    return (x @ z.T) * (r @ s.T) / len(x)


def cosine(case: Case) -> Tensor:
    """Of the features, for rows of the same label; its negative for others."""
    x, z = F.normalize(case.train.features), F.normalize(case.tests.features)
    same = case.train.labels[:, None] == case.tests.labels[None]
    return (x @ z.T) * torch.where(same, 1.0, -1.0)


def neighbours(case: Case) -> Tensor:
    """1 / K for each of the 50 nearest rows of the same label, as much less for others (Jia et al. 2019)."""
    far = torch.cdist(case.train.features, case.tests.features)
    near = far.argsort(0).argsort(0) < 50
    same = case.train.labels[:, None] == case.tests.labels[None]
    return near * torch.where(same, 1.0, -1.0) / 50


def bm25(case: Case, k: float = 1.5, b: float = 0.75) -> Tensor | None:
    """Of the words (Robertson & Zaragoza 2009), signed as the cosine is; None where the rows are no texts."""
    if case.name not in lds_networks.TEXTS:
        return None
    words, asked = (F.one_hot(rows.inputs.x, lds_networks.WORDS).sum(1).double() for rows in (case.train, case.tests))
    words[:, :2] = asked[:, :2] = 0  # what is rare or no word at all
    lengths, texts_with = words.sum(1, keepdim=True), (words > 0).sum(0)
    rarity = ((len(words) - texts_with + 0.5) / (texts_with + 0.5)).log1p()
    weights = rarity * words * (k + 1) / (words + k * (1 - b + b * lengths / lengths.mean()))
    same = case.train.labels[:, None] == case.tests.labels[None]
    return weights @ asked.T * torch.where(same, 1.0, -1.0)


def trak(case: Case, size: int = 512) -> Tensor:
    """TRAK (Park et al. 2023) of one checkpoint: projected gradients of the margin, the residuals' weights 1 - p."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(case.objective.p, size, generator=generator) / size**0.5

    def projected(rows: Labelled) -> tuple[Tensor, Tensor]:
        p = rows.logits.softmax(1)
        right = p.gather(1, rows.labels[:, None])[:, 0]
        # The margin log p / (1 - p) has the loss's gradient over -(1 - p).
        weights = -SOFTMAX.residuals(rows.logits, rows.labels) / (1 - right).clamp_min(1e-6)[:, None]
        parts = [
            case.objective.row_gradients(rows.inputs.batch(part), weights[part]) @ draw
            for part in torch.arange(len(rows)).split(200)
        ]
        return torch.cat(parts).double(), right.double()

    x, right = projected(case.train)
    z, _ = projected(case.tests)
    gram = x.T @ x
    gram.diagonal().add_(1e-6 * float(gram.diagonal().mean()))
    return (x @ torch.linalg.solve(gram, z.T)) * (1 - right)[:, None]


def chance(case: Case) -> Tensor:
    return torch.randn(len(case.train), len(case.tests), generator=torch.Generator().manual_seed(0))


def scanned(case: Case) -> Tensor | None:
    """What a scan answers by default, for every evaluation row: `influence_by_layers` with the probe.

    None at a minimum with a known penalty, which a scan solves for.
    """
    if case.problem.gradient.known_penalty:
        return None
    fitted, x = fit_probe(case.train.features, case.train.labels, case.classes)
    head = case.closed(fitted.curvature(x), fitted.logits(x))
    z = probe_inputs(case.tests.features).to(x)
    at_probe = AtHead(head, z, SOFTMAX.residuals(fitted.logits(z), case.tests.labels), "", torch.arange(len(z)))
    predictor = ThroughNetwork.by_layers(case.problem, case.tests, at_probe, 0, SILENT)
    return predictor.drop_on_each()[:, 1:]


DEFAULT = "curate's default"
METHODS: dict[str, Callable[[Case], Tensor | None]] = {
    DEFAULT: scanned,
    "probe": probe,
    "head": own_head,
    "ekfac, a tenth of each layer's mean": by_layer(0.1),
    "ekfac, each layer's mean": by_layer(1.0),
    "ekfac, a hundredth of each layer's mean": by_layer(0.01),
    "ekfac, a tenth of the mean": ekfac_at(lambda case: 0.1 * case.ekfac.mean_eigenvalue()),
    "ekfac, largest over 166": ekfac_at(lambda case: case.ekfac.largest_eigenvalue() / 166),
    "ekfac, largest over 33": ekfac_at(lambda case: case.ekfac.largest_eigenvalue() / 33),
    "gradient product": gradient_product,
    "last layer's product": last_layer_product,
    "trak": trak,
    "cosine": cosine,
    "neighbours": neighbours,
    "bm25": bm25,
    "chance": chance,
}


def scores_of(name: str, method: str) -> Path:
    return HOME / name / "scores" / f"{method}.pt"


def score(name: str, folder: Path, methods: list[str]) -> None:
    """Makes the matrices that are not there, and says what each of them cost."""
    case = Case(name, folder)
    for method in methods:
        file = scores_of(name, method)
        if file.exists():
            continue
        vars(case).pop("ekfac", None)  # each method pays for what it takes
        vars(case).pop("targets", None)
        started = time.process_time()
        found = METHODS[method](case)
        if found is None:
            continue
        seconds = time.process_time() - started
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"influence": found.float(), "seconds": seconds}, file)
        print(f"{name}: {method}: {seconds:.1f} processor s", flush=True)


@dataclass(frozen=True)
class Truth:
    """Of a network and a share: losses ``[m T]`` by seed, and which rows were left out ``[m n]``."""

    losses: list[np.ndarray]
    left: np.ndarray

    @classmethod
    def of(cls, name: str, folder: Path, share: float, seeds: int) -> "Truth | None":
        if lds_networks.RECIPES[name].optimiser == "lbfgs":
            seeds = 1  # to the one optimum there is
        by_seed = [lds_networks.truth(HOME, name, share, seed) for seed in range(seeds)]
        by_seed = [one for one in by_seed if one]
        if not by_seed:
            return None
        numbers = sorted(set.intersection(*(set(one) for one in by_seed)))
        n = len(lds_networks.data(name, folder)[1])
        left = np.ones((len(numbers), n), dtype=np.float32)
        for place, number in enumerate(numbers):
            left[place, lds_networks.subset(n, share, number).numpy()] = 0
        return cls([np.stack([one[number].numpy() for number in numbers]) for one in by_seed], left)

    @property
    def mean(self) -> np.ndarray:
        return np.mean(self.losses, axis=0)


def spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each column."""
    one, other = rankdata(one, axis=0), rankdata(other, axis=0)
    one, other = one - one.mean(0), other - other.mean(0)
    size = np.sqrt((one**2).sum(0) * (other**2).sum(0))
    return (one * other).sum(0) / np.maximum(size, 1e-12)


def draws(subsets: int, tests: int) -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [(draw.integers(0, subsets, subsets), draw.integers(0, tests, tests)) for _ in range(BOOTSTRAPS)]


def resampled(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.array([spearman(predicted[rows], truth[rows])[tests].mean() for rows, tests in draws(*truth.shape)])


def interval(values: np.ndarray) -> str:
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{low:+.3f} to {high:+.3f}"


def combined(one: Tensor, other: Tensor) -> Tensor:
    """The mean of two answers, in nats of the first: the second is scaled by evaluation row to the same spread."""
    return (one + other * (one.std(0) / other.std(0).clamp_min(1e-30))) / 2


MEANS = {
    "mean of probe and ekfac by layer": ("ekfac, a tenth of each layer's mean", "probe"),
    "mean of probe and ekfac, a tenth of the mean": ("ekfac, a tenth of the mean", "probe"),
    "mean of probe and ekfac, largest over 166": ("ekfac, largest over 166", "probe"),
    "mean of probe and ekfac, each layer's mean": ("ekfac, each layer's mean", "probe"),
    "mean of head and ekfac by layer": ("ekfac, a tenth of each layer's mean", "head"),
    "mean of head and probe": ("head", "probe"),
}


def matrices(name: str) -> dict[str, tuple[Tensor, float]]:
    """By method its matrix and its seconds, those of the means among them."""
    found = {}
    for file in sorted((HOME / name / "scores").glob("*.pt")):
        kept = torch.load(file, weights_only=True)
        found[file.stem] = (kept["influence"], kept["seconds"])
    for mean, (one, other) in MEANS.items():
        if one in found and other in found:
            found[mean] = (combined(found[one][0], found[other][0]), found[one][1] + found[other][1])
    return found


@dataclass(frozen=True)
class Line:
    """A method's score on a network and a share of the rows."""

    method: str
    score: float
    seconds: float
    gain: np.ndarray | None
    """Over another method, by resample; None of that method, and where it has no matrix."""

    def __str__(self) -> str:
        beside = "" if self.gain is None else f"  {interval(self.gain)}"
        return f"  {self.score:6.3f}  {self.seconds:7.1f} s  {self.method}{beside}"


def lines(name: str, truth: Truth, against: str, told: Collection[str] | None = None) -> list[Line]:
    """Every method that has a matrix, the best first; gains of those ``told`` alone, of all where it is None."""
    predicted = {method: (truth.left @ found.numpy(), cost) for method, (found, cost) in matrices(name).items()}
    rival = resampled(predicted[against][0], truth.mean) if against in predicted else None
    found = []
    for method, (values, cost) in predicted.items():
        wanted = rival is not None and method != against and (told is None or method in told)
        gain = resampled(values, truth.mean) - rival if wanted else None
        found.append(Line(method, float(spearman(values, truth.mean).mean()), cost, gain))
    return sorted(found, key=lambda line: -line.score)


def heading(name: str, share: float, truth: Truth) -> str:
    """Network, subsets and ceiling: how well one seed's losses rank those of the other."""
    ceiling = "" if len(truth.losses) < 2 else f", one seed by another {spearman(*truth.losses[:2]).mean():.3f}"
    seeds = f"{len(truth.losses)} seed{'s' if len(truth.losses) > 1 else ''}"
    return f"{name}, {share:g} of the rows kept, {len(truth.left)} subsets x {seeds}{ceiling}"


def table(names: list[str], folder: Path, seeds: int, shares: list[float], against: str) -> None:
    """A table for each network and share; at the end the default beside ``against``, the mean over networks."""
    apart: dict[tuple[float, bool], list[np.ndarray]] = {}
    for name in names:
        for share in shares:
            truth = Truth.of(name, folder, share, seeds)
            if truth is None or len(truth.left) < FEWEST:
                continue
            print(f"\n{heading(name, share, truth)}; intervals: over {against}")
            for line in lines(name, truth, against):
                print(line, flush=True)
                if line.method == DEFAULT and line.gain is not None:
                    apart.setdefault((share, name in lds_networks.JUDGE), []).append(line.gain)
    for (share, judged), gains in apart.items():
        print(f"\n{share:g} kept, {over_networks(gains, judged=judged)}")


def over_networks(gains: list[np.ndarray], *, judged: bool) -> str:
    """The mean gain of the default over networks."""
    mean = np.mean(gains, axis=0)
    return f"mean of {len(gains)} networks {'judged' if judged else 'chosen'} on: {mean.mean():+.3f} ({interval(mean)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "score", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", default=",".join(lds_networks.CHOOSE + lds_networks.JUDGE))
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--shares", default="0.5,0.9")
    parser.add_argument("--methods", default="")
    parser.add_argument("--against", default="kronfluence")
    asked = parser.parse_args()
    names, shares = asked.networks.split(","), [float(share) for share in asked.shares.split(",")]
    if asked.part == "train":
        for share in shares:
            for seed in range(asked.seeds):
                for name in names:
                    lds_networks.fill(HOME, asked.folder, name, share, seed, asked.subsets)
    elif asked.part == "score":
        for name in names:
            score(name, asked.folder, asked.methods.split("|") if asked.methods else list(METHODS))
    else:
        table(names, asked.folder, asked.seeds, shares, asked.against)


if __name__ == "__main__":
    main()
