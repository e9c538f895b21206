"""What an answer by layers is worth, in forward-backward passes over the rows: what a scan goes by, unasked.

    python tests/bench/passes.py [ROWS]

Random rows through the fixture's network, a CNN of 49,022 parameters and a perceptron of 109,386; 32 evaluation rows
one by one and 8 groups. Processor seconds of one thread.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from curate.engine.arrays import ArrayRows
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.deep import Question
from curate.engine.influence.head import SameContent
from curate.engine.influence.layers import influence_by_layers
from curate.engine.influence.problem import Problem
from curate.process.progress import Progress

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "fashion" / "model.py"
EVALUATION, ONE_BY_ONE, GROUPS, TIMES = 500, 32, 8, 3


def fixture() -> nn.Module:
    spec = importlib.util.spec_from_file_location("fixture_model", FIXTURE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built: nn.Module = module.build()
    return built


def convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 28), nn.ReLU(), nn.Linear(28, 10)),
    )


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def measure(make: Callable[[], nn.Module], shape: tuple[int, ...], classes: int, n: int) -> None:
    """Prints a line."""
    torch.manual_seed(0)
    module = make().eval()
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    x, y = torch.randn(n, *shape), torch.randint(0, classes, (n,))
    problem = Problem(objective, ArrayRows.of(objective, x, y))
    evaluation = ArrayRows.of(objective, x[:EVALUATION], y[:EVALUATION])
    same = SameContent([str(row) for row in range(n)], [f"e{row}" for row in range(ONE_BY_ONE)])
    question = Question(evaluation, torch.arange(ONE_BY_ONE), same, torch.arange(len(evaluation.labels)) % GROUPS, 1e9)
    a_pass = float("inf")
    for _ in range(TIMES):
        started = time.process_time()
        for part in problem.parts():
            objective.cotangents(x[part], problem.residuals[part][None])
        a_pass = min(a_pass, time.process_time() - started)
    started = time.process_time()
    influence_by_layers(problem, question, None, 0, Progress.silent())
    took = time.process_time() - started
    told = f"a pass {a_pass:.2f} s, by layers {took:.2f} s: {took / a_pass:.1f} passes"
    print(f"{make.__name__:14}{objective.p:>8,} parameters  {told}", flush=True)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000
    measure(fixture, (1, 28, 28), 5, n)
    measure(convolutional, (1, 28, 28), 10, n)
    measure(perceptron, (784,), 10, n)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
