"""FastIF (Guo et al. 2020): influence of k candidate rows against influence of all rows, k from 10 to n.

    python docs/studies/fragility/fastif.py [--quick] [--seeds 0,1] [--out FOLDER]

A CNN of 49,022 parameters trained on 5,000 rows of Fashion-MNIST, a tenth of the labels flipped; 8 evaluation rows of
highest loss. s = (C + λI)⁻¹ g_t by curate's `lissa`, then g_i · s: of all rows, or of the k candidates of each
evaluation row: its nearest in feature space (FastIF), or those of most influence at the head. Agreement: the share of
the 20 strongest rows (by size) of the full scan that are candidates; the same for the 10 most harmful. Time, of one
evaluation row: processor seconds from the candidates' search to the scores, without the solve, which both need, and
with it. `forward mode` scores all rows by one derivative of their losses along s, as curate does for harm.
"""

import time
from collections.abc import Callable

import common
import numpy as np
import torch
from torch import Tensor

from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.influence.damping import tenth_of_mean
from curate.engine.loss import SOFTMAX
from curate.engine.neighbours import Neighbours
from curate.engine.solvers import make_solver
from curate.engine.solvers.base import Solver
from curate.engine.solvers.lissa import LiSSA
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.deep import deep_objective
from curate.stages.heads import fit_heads, with_ones
from curate.stages.prepare import load, read

SILENT = Progress.silent()
EVALUATION_ROWS, STRONGEST, HARMFUL = 8, 20, 10


class Scan:
    """A trained network, its rows, the solved directions of some evaluation rows."""

    def __init__(self, n: int, epochs: int, seed: int, solver: Solver) -> None:
        import fashion

        folder = fashion.make(n, 1000, 0.1, "uniform", seed, epochs, 5e-3)
        settings = ScanSettings(
            str(folder / "train.npz"), eval=str(folder / "eval.npz"), model=f"{folder / 'model.py'}:factory",
            weights=(str(folder / "weights.safetensors"),), classes=fashion.CLASSES, cache=False,
        )  # fmt: skip
        self.data = read(settings, load(settings, SILENT), SILENT)
        self.train, self.evaluation = self.data.train, self.data.evaluation
        objective, _ = deep_objective(settings, self.data)
        assert objective is not None
        self.objective = objective
        assert self.train.logits is not None
        assert self.evaluation.logits is not None
        self.rests = SOFTMAX.residuals(self.train.logits, self.train.labels)
        losses = torch.nn.functional.cross_entropy(self.evaluation.logits, self.evaluation.labels, reduction="none")
        self.rows = losses.argsort(descending=True)[:EVALUATION_ROWS]
        self.neighbours = Neighbours(self.train.features, seed)
        head = fit_heads(self.data).own_influence
        assert head is not None
        self.head = head
        operator = GaussNewton(objective, self.train.inputs, self.train.logits.softmax(1))
        own = SOFTMAX.residuals(self.evaluation.logits, self.evaluation.labels)[self.rows]
        started = time.process_time()
        rights = objective.row_gradients(self.evaluation.inputs.batch(self.rows), own)
        solution = solver.prepare(operator, tenth_of_mean(operator, seed)).solve(rights)
        self.solved = solution.rows
        self.solve_seconds = (time.process_time() - started) / len(rights)

    def products(self, rows: Tensor, solved: Tensor) -> Tensor:
        """g_i · s of some training rows, ``[b k]``, from one gradient a row."""
        parts = [
            self.objective.row_gradients(self.train.inputs.batch(part), self.rests[part]) @ solved.T
            for part in rows.split(256)
        ]
        return torch.cat(parts)

    def along(self, solved: Tensor) -> Tensor:
        """The same of all rows by forward mode."""
        parts = [
            torch.einsum("kbc,bc->bk", self.objective.tangents(self.train.inputs.batch(part), solved), self.rests[part])
            for part in torch.arange(len(self.train)).split(512)
        ]
        return torch.cat(parts)

    def nearest(self, k: int, rows: Tensor) -> np.ndarray:
        return self.neighbours.nearest(self.evaluation.features[rows], k)[0]

    def at_head(self, k: int, rows: Tensor) -> np.ndarray:
        assert self.data.network is not None
        assert self.evaluation.logits is not None
        x = with_ones(self.evaluation.features[rows], self.data.network.own_head).to(self.head.head.curvature.x)
        rests = SOFTMAX.residuals(self.evaluation.logits[rows].to(x), self.evaluation.labels[rows])
        return self.head.most_influential(x, rests, k)


def timed(work: Callable[[], object]) -> tuple[object, float]:
    started = time.process_time()
    return work(), time.process_time() - started


def one(study: common.Study, seed: int, ks: list[int]) -> dict[tuple[str, int], dict[str, float]]:
    """(order of candidates, k) -> shares and seconds."""
    solver = LiSSA(steps=20, seed=seed) if study.quick else make_solver("lissa", seed)
    scan = Scan(400 if study.quick else 5000, 3 if study.quick else 10, seed, solver)
    n = len(scan.train)
    everyone, first = torch.arange(n), scan.solved[:1]
    scan.products(everyone[:64], first), scan.along(first)  # the first call of a kernel is slow
    full = scan.products(everyone, scan.solved)
    centred = full - full.mean(0)
    strongest = centred.abs().argsort(dim=0, descending=True)[:STRONGEST].T.numpy()
    harmful = centred.argsort(dim=0)[:HARMFUL].T.numpy()
    whole = {"strongest": 1.0, "harmful": 1.0, "solve": scan.solve_seconds}
    found = {
        ("all rows", n): whole | {"seconds": timed(lambda: scan.products(everyone, first))[1]},
        ("all rows, forward mode", n): whole | {"seconds": timed(lambda: scan.along(first))[1]},
    }
    for order, search in (("nearest rows", scan.nearest), ("influence at the head", scan.at_head)):
        search(10, scan.rows[:1])
        for k in ks:
            candidates = search(min(k, n), scan.rows)
            mine, searching = timed(lambda search=search, k=k: search(min(k, n), scan.rows[:1]))
            _, scoring = timed(lambda mine=mine: scan.products(torch.from_numpy(np.asarray(mine)[0]), first))
            found[order, k] = {
                "strongest": share(candidates, strongest), "harmful": share(candidates, harmful),
                "solve": scan.solve_seconds, "seconds": searching + scoring,
            }  # fmt: skip
    return found


def share(candidates: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([np.isin(row, of).mean() for row, of in zip(wanted, candidates, strict=True)]))


def main() -> None:
    study = common.Study.of("fastif", __doc__ or "", "0,1")
    ks = [10, 50, 200] if study.quick else [10, 20, 50, 100, 250, 500, 1000, 2500, 5000]
    runs = [one(study, seed, ks) for seed in study.seeds]
    whole = next(iter(runs[0]))
    for key in runs[0]:
        cells = [run[key] for run in runs]
        pairs = [(run[whole]["seconds"], cell) for run, cell in zip(runs, cells, strict=True)]
        study.add(
            "Prefiltered against full influence", candidates=key[0], k=key[1],
            **{"share of the 20 strongest rows": [cell["strongest"] for cell in cells],
               "of the 10 most harmful": [cell["harmful"] for cell in cells],
               "search and scores, s": [cell["seconds"] for cell in cells],
               "times as fast": [all_rows / cell["seconds"] for all_rows, cell in pairs],
               "with the solve": [(all_rows + c["solve"]) / (c["seconds"] + c["solve"]) for all_rows, c in pairs]},
        )  # fmt: skip
    made, axes = common.figure(2)
    for order in ("nearest rows", "influence at the head"):
        lines = [[run[order, k] for run in runs] for k in ks]
        common.band(axes[0], ks, [[cell["strongest"] for cell in cells] for cells in lines], order)
        fast = [[run[whole]["seconds"] / run[order, k]["seconds"] for run in runs] for k in ks]
        common.band(axes[1], ks, fast, order)
    axes[0].set(xscale="log", xlabel="k", ylabel="share of the 20 strongest rows", title="agreement")
    axes[1].set(
        xscale="log", yscale="log", xlabel="k", ylabel="times as fast as all rows", title="speed, without the solve"
    )
    for axis in axes:
        axis.legend()
    study.write(made)


if __name__ == "__main__":
    main()
