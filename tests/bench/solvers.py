"""Every solver against the exact one: relative errors of s = (C + λ I)⁻¹ v on five trained networks.

    python tests/bench/solvers.py [--networks softmax,mlp,...] [--solvers cg,lissa,...] [--seeds 5] [--limit 600]

The networks (`networks.py`: 5,000 to 50,000 parameters, 1,000 rows) are trained to convergence once, into
``.cache/bench/solvers`` (or ``CURATE_BENCH_HOME``), and the exact dual answers kept there. v are the gradients of
8 evaluation rows. λ runs from 1e-5 to 1 times the largest eigenvalue of C. A cell is the mean over v, and over the
seeds of a stochastic solver, of |s - s*| / |s*|, s* being exact *at the λ that was used*; `raised` says how often that
is more than was asked. `receipt` is the score error that a receipt would carry, `true` the one it should: of g_i · s
over all training rows. No solver gets an option but the damping. A seed that takes over ``--limit`` processor
seconds is given up, and its cell says so.
"""

import argparse
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fashion
import networks
import torch

from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.loss import SOFTMAX
from curate.engine.solvers import make_solver
from curate.engine.solvers.base import relative_size
from curate.engine.solvers.dual import WoodburyInverse

RATIOS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
STOCHASTIC = ("lissa", "lissa-tight", "preconditioned-lissa")


class Rows:
    """Rows in memory."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x, self.device = x, x.device

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: torch.Tensor) -> torch.Tensor:
        return self.x[indices]


class Problem:
    """A trained network, its curvature, right-hand sides, and the exact answer at any damping."""

    def __init__(self, name: str, folder: Path) -> None:
        module = networks.trained(name, folder)
        x, y, tests, labels = networks.data()
        self.objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
        with torch.no_grad():
            logits = module(x)
            self.accuracy = float((logits.argmax(1) == y).float().mean())
            self.rights = self.objective.row_gradients(tests, SOFTMAX.residuals(module(tests), labels))
            self.gradients = self.objective.row_gradients(x, SOFTMAX.residuals(logits, y)).double()
        self.operator = GaussNewton(self.objective, Rows(x), logits.softmax(1))
        self.folder, self.name = folder, name
        file = folder / f"{name}-gram64.pt"
        self.factor = self.operator.precise().whole_factor()  # of float32 gradients it would be another C at a tiny λ
        if not file.exists():
            inverse = WoodburyInverse(self.factor, 1.0)
            torch.save((inverse._gram, inverse.largest_eigenvalue()), file)
        gram, self.top = torch.load(file, weights_only=True)
        self.inverse = WoodburyInverse.__new__(WoodburyInverse)
        self.inverse.factor, self.inverse._gram, self.inverse._precise = self.factor, gram, True

    def exact(self, damping: float) -> torch.Tensor:
        file = self.folder / f"{self.name}-{damping:.6e}-64.pt"
        if not file.exists():
            torch.save(self.inverse.damped(damping)(self.rights.double()), file)
        found: torch.Tensor = torch.load(file, weights_only=True)
        return found


def relative(found: torch.Tensor, true: torch.Tensor) -> float:
    return float(((found.double() - true).norm(dim=1) / true.norm(dim=1)).mean())


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` after so many processor seconds."""

    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def measure(problem: Problem, solver: str, ratio: float, seeds: int, limit: float) -> dict[str, float]:
    """Means over seeds of what a table shows."""
    cells: list[dict[str, float]] = []
    asked = problem.top * ratio
    for seed in range(seeds if solver in STOCHASTIC else 1):
        started = time.process_time()
        with at_most(limit):
            solution = make_solver(solver, seed).prepare(problem.operator, asked).solve(problem.rights)
        seconds = time.process_time() - started
        true = problem.exact(solution.damping)
        scores, found = true @ problem.gradients.T, solution.rows.double() @ problem.gradients.T
        lacking = tuple(part.double() @ problem.gradients.T for part in solution.missing)
        cells.append(
            {
                "error": relative(solution.rows, true),
                "raised": solution.damping / asked,
                "receipt": relative_size(lacking, found),
                "true": relative_size((scores - found,), scores),
                "residual": float(solution.residual.mean()),
                "steps": solution.steps,
                "seconds": seconds,
            }
        )
    return {key: sum(cell[key] for cell in cells) / len(cells) for key in cells[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(networks.NETWORKS))
    parser.add_argument("--solvers", default="cg,lissa,lissa-tight,preconditioned-lissa")
    parser.add_argument("--ratios", default=",".join(map(str, RATIOS)))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=600.0)
    asked = parser.parse_args()
    folder = fashion.HOME / "solvers"
    for name in asked.networks.split(","):
        problem = Problem(name, folder)
        operator = problem.operator
        print(
            f"\n### {name}: {operator.p:,} parameters, {operator.n:,} rows, accuracy {problem.accuracy:.3f}, "
            f"largest eigenvalue {problem.top:.3g}\n"
        )
        print("| solver | λ / λ_max | error | receipt / true score error | raised | residual | steps | cpu s |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for solver in asked.solvers.split(","):
            for ratio in map(float, asked.ratios.split(",")):
                try:
                    m = measure(problem, solver, ratio, asked.seeds, asked.limit)
                except TimeoutError:
                    print(f"| {solver} | {ratio:.0e} | over {asked.limit:.0f} cpu s | | | | | |", flush=True)
                    continue
                times = m["receipt"] / m["true"] if m["true"] > 0 else float("nan")
                print(
                    f"| {solver} | {ratio:.0e} | {m['error']:.2e} | "
                    f"{m['receipt']:.1e} / {m['true']:.1e} = {times:.2f} | "
                    f"x {m['raised']:.3g} | {m['residual']:.1e} | {m['steps']:.0f} | {m['seconds']:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
