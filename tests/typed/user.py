"""What a user's code that is held to `mypy --strict` may rely on: `.ci/run` checks it, nothing runs it."""

from pathlib import Path
from typing import Any, assert_type

import torch
from torch import Tensor, nn

import curate
from curate import CurateError, Run, engine

data: list[tuple[Tensor, int, str]] = [(torch.zeros(4), 0, "a"), (torch.ones(4), 1, "b")]
network = nn.Linear(4, 2)


def train(dataset: Any, seed: int) -> nn.Module:
    return nn.Linear(4, 2)


run = curate.scan(data, model=network, name="typed", seed=1, noise_rate="5%")
assert_type(run, Run)
assert_type(run.scores, list[dict[str, Any]])
assert_type(run.report.run.dataset, str)
assert_type(run.row("a").row.suspicion, float | None)
assert_type(run.mark(["a", "b"], "keep")[0].verdict, str)
assert_type(run.to_html("page.html"), Path)
assert_type(run.export("new", pictures="link").rows, int)
assert_type(run.compare(Run.open("other.db", dataset="typed")).a.run, int)
assert_type(run.verify(minutes=5, at="head", retrain=train).answer.trust, str)
audited = run.audit(50, width=0.05)
assert_type(audited.result.rate.value if audited.result.rate is not None else None, float | None)
effect = run.compare_cleaned(train, seeds=3)
assert_type((effect.answer, effect.accuracy.low), tuple[str, float])

problem = engine.problem_of(network, torch.zeros(3, 4), torch.zeros(3))
assert_type(engine.influence_of(problem, torch.zeros(2, 4), torch.zeros(2)), Tensor)
assert_type(problem.gradient.flat, Tensor)


class Doubling(engine.Operator):
    """A curvature of one's own."""

    def __matmul__(self, rows: Tensor) -> Tensor:
        return 2 * rows


solution = engine.make_solver("cg").prepare(Doubling(), 0.1).solve(torch.zeros(1, 3))
assert_type(solution.residual, Tensor)

try:
    curate.scan("photos")
except CurateError as error:
    assert_type(error.hint, str)
