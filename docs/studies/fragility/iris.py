"""Basu, Pope & Feizi 2021, Iris: exact against stochastic, weight decay, depth and width of small networks.

    python docs/studies/fragility/iris.py [--quick] [--seeds 0,1] [--activation tanh|relu] [--out FOLDER]

120 rows of scikit-learn's iris train fully connected networks, 30 test. Every training row is left out once. What a
refit is: *optimum*: the network is brought to its optimum by Newton's method in float64, and every refit to its own
from there (only with weight decay, 0.001 or 0.01: without it the loss falls for ever as the weights grow). *6 %*: 1,000
full-batch steps of SGD with momentum, refits from there by 6 % of the steps, the drift of a refit without change
subtracted. *same start*: 1,000 steps from the same random weights; full batches, so nothing else differs. Predicted:
(1/n) g_t · (C + λI)⁻¹(gᵢ - ḡ) with λ the decay, or 0.001 without. Agreement is over all 120 rows, at the test row of
highest loss.

Exact: a dense inverse of curate's operator, Hessian or Gauss-Newton. Stochastic: curate's `lissa` on Gauss-Newton, and
the recursion as Koh & Liang run it on the Hessian (one row a step, 2,000 steps, scale 10, or 100 or 1,000 where it
diverges). *λ = 1 / reach*: the damping that a refit by that many steps amounts to (see mnist.py), the decay added.
*Gradient product*: g_t · gᵢ, no curvature at all, as a control.
"""

import argparse
from dataclasses import dataclass, replace
from itertools import pairwise

import common
import numpy as np
import optima
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.func import grad, jacfwd, vmap

from curate.engine.solvers import make_solver

DECAY = 0.001
"""Weight decay, and the damping where there is none."""
STRONG = 0.01
DEPTHS, WIDTHS = (1, 2, 5, 10), (8, 20, 50)
MOST_NEWTON = 200
"""Parameters up to which a Hessian for each refit is cheap."""
PUBLISHED = {8: "0.82", 50: "0.56"}
REACH = "Gauss-Newton, λ = 1 / reach"
KOH = "Koh & Liang's recursion"
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def network(width: int, depth: int, activation: str) -> nn.Module:
    """``depth`` hidden layers; weights as Glorot & Bengio (2010) draw them, so that deep networks train."""
    sizes = [4, *[width] * depth]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    made = nn.Sequential(*layers, nn.Linear(width, 3)).double()
    for layer in made:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight, nn.init.calculate_gain(activation))
    return made


@dataclass(frozen=True)
class Outcome:
    """Of one network."""

    agreement: dict[str, common.Agreement]
    """Of each estimator, at the test row of highest loss."""
    everywhere: float
    """Mean Spearman of the exact Hessian over the test rows."""
    largest: float
    """Eigenvalue of the Hessian of the mean loss, without the decay."""
    lowest: float
    gradient: float
    """|∇| of the mean loss with decay where influence is taken."""
    refit_gradient: float
    """The same of the refits, the largest."""
    accuracy: float


def rows(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    train, test, labels, test_labels = train_test_split(x, y, test_size=30, stratify=y, random_state=seed)
    return tuple(map(torch.from_numpy, (train, labels, test, test_labels)))  # type: ignore[return-value]


def fitted(
    problem: optima.Problem, truth: str, recipe: optima.Recipe, left_out: Tensor, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """θ, what refits are compared with, and the refits ``[m p]``, of the weights ``left_out`` ``[m n]`` of the rows."""
    everyone, count = problem.all_rows(), len(left_out)
    start = problem.flat()
    if truth == "same start":
        both = optima.train(problem, start.expand(1 + count, -1), torch.cat([everyone, left_out]), recipe, seed)
        return both[0], both[0], both[1:]
    if truth == "optimum":
        recipe = replace(recipe, epochs=min(recipe.epochs, 300))  # Newton's method does the rest
    theta = optima.train(problem, start[None], everyone, recipe, seed)
    if truth == "6 %":
        begin = theta.expand(1 + count, -1)
        both = optima.train(problem, begin, torch.cat([everyone, left_out]), recipe.refit(), seed)
        return theta[0], both[0], both[1:]
    optimum = optima.minimise(problem, theta, everyone, steps=300 if problem.p <= MOST_NEWTON else 40)
    values, vectors = torch.linalg.eigh(problem.hessians(optimum.values, everyone)[0])
    values = values.abs().clamp_min(problem.decay / 2)
    start = optimum.values.expand(count, -1)

    def inverse(slope: Tensor) -> Tensor:
        return (slope @ vectors / values) @ vectors.T

    refits = optima.quasi_newton(problem, start, left_out, inverse, 1e-7, 50)
    if problem.p <= MOST_NEWTON:  # the few rows that move the network far need Hessians of their own
        refits = optima.minimise(problem, refits.values, left_out, 1e-7, 15)
    return optimum.values[0], optimum.values[0], refits.values


def study_network(width: int, depth: int, decay: float, truth: str, seed: int, study: common.Study) -> Outcome:
    torch.manual_seed(seed)
    x, y, tests, labels = rows(seed)
    problem = optima.Problem(network(width, depth, study.asked.activation), x, y, decay)
    recipe = optima.Recipe(200 if study.quick else 1000, 0.1, batch=problem.n)
    without = torch.arange(0, problem.n, 4 if study.quick else 1)
    weights = problem.without(without)
    theta, unchanged, refits = fitted(problem, truth, recipe, weights, seed)
    problem.put(theta)
    with torch.no_grad():
        losses = problem.losses(theta, tests, labels)
        before = problem.losses(unchanged, tests, labels)
        actual = torch.stack([problem.losses(flat, tests, labels) for flat in refits]) - before
        accuracy = float((problem.logits(theta, tests).argmax(1) == labels).double().mean())
    hardest = int(losses.argmax())
    reached = None if truth == "optimum" else 1 / (recipe.refit() if truth == "6 %" else recipe).reach(problem.n)
    predicted, eigenvalues = estimates(problem, tests, labels, hardest, reached, seed, study.quick)
    predicted = {name: values[:, without] for name, values in predicted.items()}
    everywhere = [
        common.Agreement.of(p, a).spearman for p, a in zip(predicted["exact, Hessian"], actual.T, strict=True)
    ]
    return Outcome(
        {name: common.Agreement.of(values[min(hardest, len(values) - 1)], actual[:, hardest])
         for name, values in predicted.items()},
        float(np.mean(everywhere)), float(eigenvalues[-1]), float(eigenvalues[0]),
        float(problem.gradients(theta[None], problem.all_rows()).norm()),
        float(problem.gradients(refits, weights).norm(dim=1).max()), accuracy,
    )  # fmt: skip


def estimates(
    problem: optima.Problem, tests: Tensor, labels: Tensor, hardest: int, reached: float | None, seed: int, quick: bool
) -> tuple[dict[str, Tensor], Tensor]:
    """Influence ``[t n]`` by estimator (of Koh & Liang's on the hardest row only), the Hessian's eigenvalues."""
    rights, gradients = problem.row_gradients(tests, labels), problem.row_gradients(problem.x, problem.y)
    damping = problem.decay or DECAY
    identity = torch.eye(problem.p, dtype=rights.dtype)
    hessian, gauss_newton = problem.curvature("hessian"), problem.curvature("ggn")
    dense = {"exact, Hessian": hessian @ identity, "exact, Gauss-Newton": gauss_newton @ identity}
    solved = {name: torch.linalg.solve(matrix + damping * identity, rights.T).T for name, matrix in dense.items()}
    if reached is not None:
        matrix = dense["exact, Gauss-Newton"] + (reached + problem.decay) * identity
        solved[REACH] = torch.linalg.solve(matrix, rights.T).T
    solved["gradient product"] = rights
    solved["lissa"] = make_solver("lissa", seed).prepare(gauss_newton, damping).solve(rights).rows
    right, flat = rights[hardest : hardest + 1], problem.flat()
    of_one = jacfwd(grad(lambda theta, x, y: problem.losses(theta, x[None], y[None])[0]))
    of_rows = vmap(of_one, in_dims=(None, 0, 0), chunk_size=20)(flat, problem.x, problem.y)
    for scale in (10.0, 100.0, 1000.0):
        found = optima.koh_recursion(
            lambda of, h: h @ of_rows[of[0]], problem.n, right, damping / scale, scale, 500 if quick else 2000, 1, seed
        )
        # As a user of that recursion does: a larger scale where it diverged.
        if bool(torch.isfinite(found).all()) and float(found.norm()) < 10 * float(right.norm()) / damping:
            solved[KOH] = found
            break
    eigenvalues = torch.linalg.eigvalsh(dense["exact, Hessian"])
    return {name: problem.influence(s, gradients) for name, s in solved.items()}, eigenvalues


def many(study: common.Study, width: int, depth: int, decay: float, truth: str) -> list[Outcome]:
    return [study_network(width, depth, decay, truth, seed, study) for seed in study.seeds]


def cells(outcomes: list[Outcome], estimator: str) -> list[float]:
    return [one.agreement[estimator].spearman for one in outcomes if estimator in one.agreement]


def add(study: common.Study, table: str, outcomes: list[Outcome], **first: object) -> None:
    names = list(dict.fromkeys(name for one in outcomes for name in one.agreement))
    study.add(
        table, **first, **{f"Spearman: {name}": cells(outcomes, name) for name in names},
        **{"exact Hessian, Pearson": [one.agreement["exact, Hessian"].pearson for one in outcomes],
           "exact Hessian, mean Spearman of all test rows": [one.everywhere for one in outcomes],
           "largest eigenvalue": [one.largest for one in outcomes], "lowest": [one.lowest for one in outcomes],
           "gradient left": [one.gradient for one in outcomes],
           "in refits": [one.refit_gradient for one in outcomes], "test accuracy": [one.accuracy for one in outcomes]},
    )  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--activation", choices=ACTIVATIONS, default="tanh")


def main() -> None:
    study = common.Study.of("iris", __doc__ or "", "0,1", options)
    compared = [(STRONG, "optimum"), (DECAY, "6 %"), (0.0, "6 %")]
    if not study.quick:
        compared[1:1] = [(DECAY, "optimum")]
        compared += [(DECAY, "same start"), (0.0, "same start")]
    small = STRONG if study.quick else DECAY  # Newton's method is soon at its end with more of it
    base = {pair: many(study, 8, 1, *pair) for pair in compared}
    for (decay, truth), outcomes in base.items():
        add(study, "Weight decay and what a refit is (width 8, one hidden layer)", outcomes,
            **{"weight decay": decay, "refit": truth})  # fmt: skip
    by_width, by_depth = {}, {}
    for truth in ("optimum",) if study.quick else ("optimum", "6 %"):
        one = {8: base[small, truth]}
        widths = () if study.quick else WIDTHS[1:] if truth == "optimum" else WIDTHS[-1:]
        by_width[truth] = one | {width: many(study, width, 1, DECAY, truth) for width in widths}
        depths = (2,) if study.quick else DEPTHS[1:] if truth == "optimum" else DEPTHS[-1:]
        by_depth[truth] = {1: base[small, truth]} | {depth: many(study, 8, depth, small, truth) for depth in depths}
        for width, outcomes in by_width[truth].items():
            add(study, "Width (one hidden layer, weight decay)", outcomes,
                **{"refit": truth, "width": width, "published": PUBLISHED.get(width, "")})  # fmt: skip
        for depth, outcomes in by_depth[truth].items():
            add(study, "Depth (width 8, weight decay)", outcomes, refit=truth, depth=depth)
    draw(study, by_width, by_depth)


Found = dict[str, dict[int, list[Outcome]]]


def draw(study: common.Study, by_width: Found, by_depth: Found) -> None:
    made, axes = common.figure(3)
    for axis, found, label in ((axes[0], by_width, "width"), (axes[1], by_depth, "depth")):
        for truth, several in found.items():
            for name in ("exact, Hessian", "lissa") if truth == "optimum" else ("exact, Hessian", REACH):
                style = "-" if truth == "optimum" else ":"
                lists = [cells(outcomes, name) for outcomes in several.values()]
                common.band(axis, list(several), lists, f"{name}, {truth}", linestyle=style)
        axis.set(xlabel=label, ylabel="Spearman with refits", title=f"{label}, weight decay {DECAY}")
    axes[0].plot(list(PUBLISHED), [float(value) for value in PUBLISHED.values()], "kx", label="published")
    axes[0].legend(fontsize=6)
    optimum = by_depth["optimum"]
    common.band(axes[2], list(optimum), [[one.largest for one in several] for several in optimum.values()], "Hessian")
    axes[2].set(xlabel="depth", ylabel="largest eigenvalue", title="curvature and depth, at the optimum")
    study.write(made)


if __name__ == "__main__":
    main()
