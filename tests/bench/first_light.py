"""LiSSA on all parameters of a 49,022-parameter CNN: time, memory, receipt, and its ranks against converged CG.

    python tests/bench/first_light.py            # the scan and its receipt, about two minutes
    python tests/bench/first_light.py --truth    # and the Spearman figures: CG at the used and the asked damping, hours

Truth is conjugate gradients on all 10,000 rows, preconditioned by the exact inverse of a 6,000-row sample's curvature.
The scan runs as a user runs it, in a process of its own; the solve is then repeated here, seed for seed.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import fashion
import numpy as np
import torch
from scipy.stats import spearmanr

from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.damping import tenth_of_mean
from curate.engine.influence.problem import Problem, right_hand_sides
from curate.engine.loss import SOFTMAX
from curate.engine.solvers.cg import ConjugateGradients
from curate.engine.solvers.dual import WoodburyInverse
from curate.engine.solvers.lissa import LiSSA
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.prepare import load, read

PRECONDITIONER_ROWS = 6_000


def scan(folder: Path, database: Path) -> dict[str, float]:
    """Runs the command; seconds and peak memory as the operating system counted them."""
    command = [str(Path(sys.executable).with_name("curate")), "scan", str(folder / "train.npz")]
    command += ["--eval", str(folder / "eval.npz"), "--model", f"{folder / 'model.py'}:factory"]
    command += ["--weights", str(folder / "weights.safetensors"), "--params", "all", "--solver", "lissa", "--no-cache"]
    command += ["--db", str(database), "-f", f"text:{folder / 'report.txt'}"]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the scan failed: {' '.join(command)}")
    return {"seconds": time.monotonic() - started, "peak GB": usage.ru_maxrss / 2**20}


def receipt(database: Path) -> dict[str, object]:
    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        row = connection.execute("SELECT * FROM receipts WHERE quantity = 'evaluation influence'").fetchone()
        detail = json.loads(row["detail"])
    names = (
        "damping_asked",
        "damping",
        "residual",
        "score_error",
        "steps",
        "seconds",
        "recall",
        "recall_low",
        "recall_high",
    )
    return {**{name: row[name] for name in names}, "largest_eigenvalue": detail["largest_eigenvalue"]}


def spearman(found: torch.Tensor, true: torch.Tensor) -> tuple[float, float]:
    """Mean and least Spearman over the evaluation rows, columns of ``[n T]``."""
    values = [float(spearmanr(found[:, k], true[:, k])[0]) for k in range(true.shape[1])]
    return float(np.mean(values)), float(np.min(values))


def largest_eigenvalue(operator: GaussNewton, steps: int = 20) -> float:
    """By power iteration on all rows."""
    row = torch.randn(1, operator.p, generator=torch.Generator().manual_seed(5))
    size = 0.0
    for _ in range(steps):
        product = operator @ (row / row.norm())
        row, size = product, float(product.norm())
    return size


class Counted(GaussNewton):
    """Tells how far a long solve is."""

    def __matmul__(self, rows: torch.Tensor) -> torch.Tensor:
        started = time.monotonic()
        product = super().__matmul__(rows)
        print(f"  a pass over all rows: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return product


def truth(folder: Path, tolerance: float, steps: int) -> None:
    settings = ScanSettings(
        train=str(folder / "train.npz"), eval=str(folder / "eval.npz"), model=f"{folder / 'model.py'}:factory",
        weights=(str(folder / "weights.safetensors"),), params="all", solver="lissa", cache=False,
    )  # fmt: skip
    quiet = Progress.silent()
    data = read(settings, load(settings, quiet), quiet)
    train, evaluation, network = data.train, data.evaluation, data.network
    assert network is not None
    assert train.logits is not None
    assert evaluation.logits is not None
    objective = Objective(network.module, choose_parameters(network.module, "all"), network.logits_of)
    losses = torch.nn.functional.cross_entropy(evaluation.logits.double(), evaluation.labels, reduction="none")
    chosen = torch.argsort(losses, descending=True, stable=True)[: settings.eval_rows].sort().values
    operator = Counted(objective, train.inputs, train.logits.softmax(1))
    plain_operator = GaussNewton(objective, train.inputs, train.logits.softmax(1))
    print(f"largest eigenvalue of the curvature: {largest_eigenvalue(plain_operator):.2f}", flush=True)
    asked = tenth_of_mean(operator, settings.seed)
    rights = right_hand_sides(Problem(objective, evaluation), chosen, quiet).together
    lissa = LiSSA(seed=settings.seed).prepare(operator, asked).solve(rights)
    rests = SOFTMAX.residuals(train.logits, train.labels)

    def scores(solved: torch.Tensor) -> torch.Tensor:
        parts = [
            objective.row_gradients(train.inputs.batch(part), rests[part]) @ solved[1:].T
            for part in torch.arange(len(train)).split(512)
        ]
        products = torch.cat(parts)
        return (products - products.mean(0)) / len(train)

    generator = torch.Generator().manual_seed(99)
    sample = operator.factor(torch.randperm(operator.n, generator=generator)[:PRECONDITIONER_ROWS], generator)
    ours = scores(lissa.rows)
    plain = scores(rights)
    for name, damping in (("used", lissa.damping), ("asked", asked)):
        solver = ConjugateGradients(tolerance, steps, WoodburyInverse(sample, damping))
        exact = solver.prepare(operator, damping).solve(rights)
        true = scores(exact.rows)
        error = ((ours - true).norm(dim=0) / true.norm(dim=0)).mean()
        print(
            f"CG at the {name} damping {damping:.3g}: {exact.steps} steps, residual {float(exact.residual.max()):.1e}"
        )
        print(f"  Spearman of LiSSA's scores, mean and least of the rows: {spearman(ours, true)}")
        print(f"  Spearman of the plain gradient product:                 {spearman(plain, true)}")
        print(f"  relative error of LiSSA's scores: {float(error):.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--no-scan", action="store_true")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    workload = fashion.make()
    if not options.no_scan:
        database = workload / "curate.db"
        database.unlink(missing_ok=True)
        print({**scan(workload, database), **receipt(database)})
    if options.truth:
        truth(workload, options.tolerance, options.steps)
