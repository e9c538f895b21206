"""Whether influence goes through the network: its parameters, who answers, and what that is worth in passes.

Asked for by an option it goes there at any price. By itself a scan goes there only if that is cheap beside training:
under `MOST_PASSES` forward and backward passes over the rows, by counts and never by a clock, so that two scans decide
alike. Leaves the answer to `influence`.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.curvature.operator import WRITTEN_FLOATS, Explicit
from curate.engine.influence.problem import Problem
from curate.engine.solvers.dual import Exact
from curate.settings.merge import ScanSettings
from curate.stages.prepare import Data

MOST_DEEP_PARAMETERS = 5_000_000
LEAST_KNOWN = 0.5
"""Share of the parameters in layers with a formula, from which EK-FAC stands for the network."""
WIDEST = 4_097
"""Inputs of a layer, with its bias, up to which eigenvectors of their covariance take half a minute at most."""

MOST_PASSES = 10.0
FEW_PRODUCTS = 2e11
"""Products and sums that are not worth a question: four to eight seconds of one core."""
LAYER_PASSES = 8.0
"""Passes there and back over all rows that an answer by layers takes: 5 to 9 through convolutions
(`tests/bench/passes.py`)."""
SOLVE_PASSES = 170.0
"""The same of a solve: LiSSA's seven hundred batches, or some fifty products of CG."""
WRITTEN_PASSES = 60.0
"""The same of a solve with a factor that is written down, beside its inner products."""
EIGENVECTORS = 20.0
"""Products and sums, in cubes of its side, that the eigenvectors of a matrix take."""


@dataclass(frozen=True)
class Price:
    """Of evaluation influence through the network."""

    named: str
    """Its parameters, as a receipt names them."""
    parameters: int
    a_pass: float
    """Products and sums of a pass there and back over the training rows."""
    through: float
    """Passes that it takes."""
    beside: float
    """Products and sums of matrices beside them."""

    @property
    def products(self) -> float:
        """In all."""
        return self.through * self.a_pass + self.beside

    @property
    def passes(self) -> float:
        """Those that it is worth in all."""
        return self.products / self.a_pass

    @property
    def dear(self) -> bool:
        """Too much to be done unasked."""
        return self.passes >= MOST_PASSES and self.products > FEW_PRODUCTS

    def __str__(self) -> str:
        return (
            f"through the network's {self.parameters:,} parameters it would take about {self.passes:,.0f} passes there "
            "and back over the rows: --params all asks for it, and says what the layers before the head owe to a row"
        )


def deep_objective(settings: ScanSettings, data: Data) -> tuple[Objective | None, str]:
    """The objective on the parameters asked for; None if influence is taken at the head in closed form."""
    network, asked = data.network, settings.params
    if network is None or not network.own_classes:
        return None, "probe"
    if (asked == "head" and settings.asks_network is None) or not network.differentiable:
        return None, "head"
    within = f"{re.escape(network.head_name)}[.]" if network.head_name else ""  # a module may be its own head
    pattern = {"auto": "all", "head": f"^{within}(weight|bias)$"}.get(asked, asked)
    names = choose_parameters(network.module, pattern)
    objective = Objective(network.module, names, network.logits_of, loss=data.loss, passes=data.passes)
    if settings.asks_network is None and objective.p > MOST_DEEP_PARAMETERS:
        return None, "head"
    described = f"{asked if asked != 'auto' else 'all'}: {objective.p:,} parameters"
    return objective, described


def deep_problem(settings: ScanSettings, data: Data, rows: int | None = None) -> tuple[Problem | None, Price | None]:
    """What influence through the network is solved for, None if it is taken at the head; and its price, if it has one.

    ``rows``: of the whole data set, if ``data`` are some of them.
    """
    objective, named = deep_objective(settings, data)
    if objective is None:
        return None, None
    problem = Problem(objective, data.train, settings.curvature)
    price = price_of(settings, problem, named, len(data.train) if rows is None else rows)
    return None if price.dear and settings.asks_network is None else problem, price


def answered_by_layers(settings: ScanSettings, problem: Problem) -> bool:
    """Whether EK-FAC answers layer by layer: nobody asked for a damping or another solver.

    At a minimum with a known penalty influence is the derivative of a refit, and is solved for; so it is where most
    parameters lie in layers that EK-FAC has no formula for, or a layer is too wide for its eigenvectors.
    """
    if settings.solver not in ("auto", "ekfac") or settings.damping is not None or settings.curvature != "ggn":
        return False
    if settings.solver == "ekfac":
        return True
    layers = problem.layers
    named = layers.known_share() > LEAST_KNOWN and max(layers.sides(), default=0) <= WIDEST
    return named and problem.gradient.known_penalty == 0


def price_of(settings: ScanSettings, problem: Problem, named: str, rows: int) -> Price:
    """By counts; ``rows`` are those of the whole data set."""
    objective, operator = problem.objective, problem.operator
    a_pass = 3.0 * rows * products_of_a_row(problem)  # a backward pass is two forward ones
    columns = operator.factor_rows // operator.n if isinstance(operator, Explicit) else 0
    if answered_by_layers(settings, problem):
        through, beside = LAYER_PASSES, EIGENVECTORS * sum(side**3 for side in problem.layers.sides())
    elif columns and settings.solver in ("auto", "exact") and Exact.fits(rows * columns, objective.p):
        through, beside = float(columns), float(rows * columns) ** 2 * objective.p
    elif 0 < rows * columns * objective.p <= WRITTEN_FLOATS:
        through, beside = WRITTEN_PASSES, float(rows * columns) ** 2 * objective.p / 2
    else:
        through, beside = SOLVE_PASSES, 0.0
    return Price(named, objective.p, a_pass, through, beside)


@torch.no_grad()
def products_of_a_row(problem: Problem) -> float:
    """Products and sums of a row's way through the network: what its matrices take, as often as they are used."""
    counts: list[float] = [float(problem.objective.p)]  # parameters that no matrix holds are used once

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        counts.append(weight[0].numel() * output.numel() - weight.numel())

    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [
        layer.register_forward_hook(count)
        for layer in problem.objective.module.modules()
        if isinstance(layer, layers) and isinstance(layer.weight, Tensor)
    ]
    try:
        problem.objective.forward(problem.rows.inputs.batch(torch.arange(1, device=problem.residuals.device)))
    finally:
        for hook in hooks:
            hook.remove()
    return max(sum(counts), 1.0)
