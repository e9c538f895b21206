"""Basu, Pope & Feizi 2021, a small CNN: how much the agreement with refits differs between test points.

    python docs/studies/fragility/mnist.py [--quick] [--seeds 0,1] [--out FOLDER]

A CNN of 1,258 parameters on a tenth of Fashion-MNIST (6,000 rows, pooled to 12 x 12), weight decay 0.001, 60 epochs.
Test points from the highest loss to the median. For each the 100 rows of most influence (by size) and 100 around the
30th percentile; refits without each of them from the checkpoint by 6 % of the training steps, the drift of a refit
without change subtracted. Gauss-Newton; λ = 0.01, and 1 / reach, where the reach is the step sizes of a refit added up,
momentum counted (here 8.5): what a refit that short can solve. Gradient descent of length T on a quadratic stops about
where the damping 1/T would put it. The plain gradient product g_t · gᵢ, with no curvature at all, is the control.
"""

import common
import optima
import torch
from torch import Tensor

from curate.engine.solvers import make_solver

QUANTILES = {"highest loss": 1.0, "99 %": 0.99, "90 %": 0.9, "median loss": 0.5}
PUBLISHED = "0.92 to 0.38"


def around(order: Tensor, share: float, count: int) -> Tensor:
    """``count`` rows of ``order`` around a share of its length."""
    first = max(0, round(share * len(order)) - count // 2)
    return order[first : first + count]


def one_network(study: common.Study, seed: int) -> list[dict[str, object]]:
    """For each test point: its name, loss, and agreement by set of rows and damping."""
    n, each = (300, 8) if study.quick else (6000, 100)
    x, y = common.fashion_rows(n, seed, 12)
    tests, labels = common.fashion_rows(1000, seed, 12, "t10k")
    x, tests = x.flatten(1), tests.flatten(1)
    torch.manual_seed(seed)
    problem = optima.Problem(optima.SmallCNN(), x, y, 1e-3)
    recipe = optima.Recipe(30 if study.quick else 60)
    problem.put(optima.train(problem, problem.flat()[None], problem.all_rows(), recipe, seed)[0])
    with torch.no_grad():
        losses = problem.losses(problem.flat(), tests, labels)
    order = losses.argsort()
    points = torch.stack([order[round(q * (len(order) - 1))] for q in QUANTILES.values()])
    rights, gradients = problem.row_gradients(tests[points], labels[points]), problem.row_gradients(x, y)
    reached = 1 / recipe.refit().reach(n)
    predicted = {}
    for name, damping in (("λ = 0.01", 0.01), ("λ = 1 / reach", reached)):
        solution = make_solver("cg", seed).prepare(problem.curvature("ggn"), damping).solve(rights)
        predicted[name] = problem.influence(solution.rows, gradients)
    predicted["gradient product"] = problem.influence(rights, gradients)
    sets = []
    for values in predicted["λ = 0.01"]:
        by_size = values.abs().argsort(descending=True)
        sets.append((by_size[:each], around(by_size.flip(0), 0.3, each)))
    union = torch.cat([rows for both in sets for rows in both]).unique()
    actual, drift = optima.changes(problem, union, recipe.refit(), seed, tests[points], labels[points])
    found = []
    for t, (point, both) in enumerate(zip(QUANTILES, sets, strict=True)):
        line: dict[str, object] = {"point": point, "loss": float(losses[points[t]]), "drift": abs(float(drift[t]))}
        for which, rows in zip(("top", "30th"), both, strict=True):
            places = torch.searchsorted(union, rows)
            line[f"size {which}"] = float(actual[places, t].abs().mean())
            for name, values in predicted.items():
                line[f"{which}, {name}"] = common.Agreement.of(values[t, rows], actual[places, t])
        pooled = torch.cat(both)
        theirs = actual[torch.searchsorted(union, pooled), t]
        line["both, λ = 0.01"] = common.Agreement.of(predicted["λ = 0.01"][t, pooled], theirs)
        found.append(line)
    return found


def main() -> None:
    study = common.Study.of("mnist", __doc__ or "", "0,1")
    runs = [one_network(study, seed) for seed in study.seeds]
    names = [key for key, value in runs[0][0].items() if isinstance(value, common.Agreement)]
    for statistic in ("pearson", "spearman"):
        for t, point in enumerate(QUANTILES):
            lines = [run[t] for run in runs]
            study.add(
                f"{statistic.title()} between predicted and actual change, by test point",
                **{"test point": point, "its loss, nats": [line["loss"] for line in lines]},
                **({"published": PUBLISHED} if statistic == "pearson" else {}),
                **{name: [getattr(line[name], statistic) for line in lines] for name in names},
            )  # fmt: skip
    for t, point in enumerate(QUANTILES):
        lines = [run[t] for run in runs]
        study.add(
            "Size of what is measured, nats", **{"test point": point,
            "mean actual change, top rows": [line["size top"] for line in lines],
            "mean actual change, 30th percentile": [line["size 30th"] for line in lines],
            "drift": [line["drift"] for line in lines],
            "slope, top rows, λ = 0.01": [line["top, λ = 0.01"].slope for line in lines],
            "slope, top rows, λ = 1 / reach": [line["top, λ = 1 / reach"].slope for line in lines]},
        )  # fmt: skip
    made, (axis,) = common.figure(1)
    for name in names:
        lists = [[run[t][name].pearson for run in runs] for t in range(len(QUANTILES))]
        common.band(axis, range(len(QUANTILES)), lists, name)
    axis.axhspan(0.38, 0.92, color="k", alpha=0.06, label="published range")
    axis.set(xticks=range(len(QUANTILES)), xlabel="test point", ylabel="Pearson with refits", title="small CNN")
    axis.set_xticklabels(QUANTILES, rotation=20)
    axis.legend(fontsize=6)
    study.write(made)


if __name__ == "__main__":
    main()
