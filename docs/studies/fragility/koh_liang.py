"""Koh & Liang 2017: leave-one-out at a logistic regression and at a CNN, and finding wrong labels by self-influence.

    python docs/studies/fragility/koh_liang.py [--quick] [--seeds 0,1,2] [--out FOLDER]

6,000 rows of Fashion-MNIST, pooled to 12 x 12, in place of MNIST. *Logistic regression* of ten classes, L2 0.01, at its
optimum; the wrongly classified test row of highest loss; the 200 rows of most influence left out one by one, refitted
to the optimum. *CNN* of 1,258 parameters with tanh, L2 0.001; Gauss-Newton and damping 0.01; the 100 rows of most
influence; refits from the checkpoint by 6 % of the training steps, the drift of a refit without change subtracted.
*Inspection*: a tenth of 5,000 labels flipped to another class, a CNN of 49,022 parameters; the share of the flips that
is found among the first rows in the order of a score.
"""

from dataclasses import replace

import common
import numpy as np
import optima
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from curate.engine.curvature.head import HeadCurvature
from curate.engine.influence.head import HeadInfluence
from curate.engine.neighbours import Neighbours
from curate.engine.probe import fit_softmax
from curate.engine.solvers import make_solver
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.heads import fit_heads
from curate.stages.influence import network_self_influence
from curate.stages.prepare import load, read
from curate.stages.suspicion import judge_rows

PUBLISHED = {"logistic": "about 0.99", "cnn": "0.86"}
INSPECTED = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
SILENT = Progress.silent()


def rows_of(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test rows, flat, in float64."""
    x, y = common.fashion_rows(count, seed, 12)
    tests, labels = common.fashion_rows(1000, seed, 12, "t10k")
    return x.flatten(1).double(), y, tests.flatten(1).double(), labels


def hardest(problem: optima.Problem, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The wrongly classified test row of highest loss."""
    with torch.no_grad():
        row = int(problem.losses(problem.flat(), x, y).argmax())
        assert int(problem.logits(problem.flat(), x[row : row + 1]).argmax()) != int(y[row])
    return x[row : row + 1], y[row : row + 1]


def logistic(study: common.Study, seed: int) -> tuple[Tensor, Tensor, dict[str, common.Agreement]]:
    """Predicted and actual change, and how the estimates agree with it."""
    x, y, tests, labels = rows_of(300 if study.quick else 6000, seed)
    x, tests = (torch.cat([part, part.new_ones(len(part), 1)], 1) for part in (x, tests))
    decay = 0.01
    penalty = torch.full((x.shape[1],), decay, dtype=x.dtype)
    head = fit_softmax(x, y, 10, penalty, tolerance=1e-10)
    module = nn.Linear(x.shape[1], 10, bias=False).double()
    module.weight.data.copy_(head.weights)
    problem = optima.Problem(module, x, y, decay)
    test, label = hardest(problem, tests, labels)
    factorised = HeadCurvature(x, head.logits(x).softmax(1), penalty).factorise()
    influence = HeadInfluence(factorised, y, factorised.scores(head.logits(x), y))
    right = problem.row_gradients(test, label)
    solved = influence.solve(right)[0]
    predicted = {
        "exact": influence.on(solved, corrected=False)[:, 0],
        "exact, leverage-corrected": influence.on(solved)[:, 0],
    }
    gradients = problem.row_gradients(x, y)
    damping: dict[str, float] = {}
    for name in () if study.quick else ("lissa", "preconditioned-lissa"):
        solution = make_solver(name, seed).prepare(problem.curvature("ggn"), decay).solve(right)
        damping[name] = solution.damping / decay
        predicted[name] = problem.influence(solution.rows, gradients)[0]
    chosen = predicted["exact"].abs().argsort(descending=True)[: 12 if study.quick else 200]
    start = problem.flat().expand(len(chosen), -1)
    refits = optima.quasi_newton(problem, start, problem.without(chosen), factorised.solve, 1e-8, 40)
    with torch.no_grad():
        before = problem.losses(problem.flat(), test, label)[0]
        after = torch.cat([problem.losses(flat, test, label) for flat in refits.values])
    agreements = {
        f"{name} (λ x {damping[name]:.3g})" if damping.get(name, 1) > 1.01 else name:
        common.Agreement.of(values[chosen], after - before)
        for name, values in predicted.items()
    }  # fmt: skip
    return predicted["exact"][chosen], after - before, agreements


def cnn(study: common.Study, seed: int) -> tuple[Tensor, Tensor, dict[str, common.Agreement], float]:
    """Predicted and actual change, agreement by damping, and the drift as a share of the actual changes' size."""
    x, y, tests, labels = rows_of(200 if study.quick else 6000, seed)
    torch.manual_seed(seed)
    problem = optima.Problem(optima.SmallCNN().double(), x, y, 1e-3)
    recipe = optima.Recipe(10 if study.quick else 60)
    problem.put(optima.train(problem, problem.flat()[None], problem.all_rows(), recipe, seed)[0])
    test, label = hardest(problem, tests, labels)
    right, gradients = problem.row_gradients(test, label), problem.row_gradients(x, y)
    predicted = {}
    for damping in (0.01,) if study.quick else (0.001, 0.01, 0.1):
        solution = make_solver("cg", seed).prepare(problem.curvature("ggn"), damping).solve(right)
        predicted[f"λ = {damping:g}"] = problem.influence(solution.rows, gradients)[0]
    chosen = predicted["λ = 0.01"].abs().argsort(descending=True)[: 5 if study.quick else 100]
    actual, drift = optima.changes(problem, chosen, recipe.refit(), seed, test, label)
    agreements = {name: common.Agreement.of(values[chosen], actual[:, 0]) for name, values in predicted.items()}
    return predicted["λ = 0.01"][chosen], actual[:, 0], agreements, abs(float(drift[0])) / float(actual.abs().mean())


def inspection(study: common.Study, seed: int) -> dict[str, tuple[np.ndarray, float]]:
    """Score -> share of the flips found among the first shares `INSPECTED` of the rows, and average precision."""
    import fashion

    folder = fashion.make(400 if study.quick else 5000, 100 if study.quick else 1000, 0.1, "uniform", seed,
                          5 if study.quick else 10, 5e-3)  # fmt: skip
    settings = ScanSettings(
        str(folder / "train.npz"), model=f"{folder / 'model.py'}:factory", cache=False, classes=fashion.CLASSES,
        weights=(str(folder / "weights.safetensors"),),
    )  # fmt: skip
    data = read(settings, load(settings, SILENT), SILENT)
    heads = fit_heads(data)
    network = network_self_influence(replace(settings, params="all", solver="ekfac"), data, SILENT)
    assert network is not None
    assert heads.own_influence is not None
    given = data.train.labels.numpy()
    scores = {
        "self-influence, all parameters (EK-FAC)": network.values.numpy(),
        "self-influence, head": heads.own_influence.scores.self_influence.numpy(),
        "loss": -np.log(heads.probabilities(data.train)[np.arange(len(given)), given]),
        "random": np.random.default_rng(seed).random(len(given)),
    }
    if not study.quick:  # it takes longer than all the rest
        judged = judge_rows(data, heads, Neighbours(data.train.features, seed), SILENT)
        scores["curate's suspicion"] = judged.train.suspicion
    clean = np.load(folder / "clean.npy")[data.train.indices]
    wrong = clean != np.array(data.train.source.classes)[given]
    found = {}
    for name, values in scores.items():
        order = np.argsort(-values, kind="stable")
        share = [float(wrong[order[: round(part * len(order))]].sum() / wrong.sum()) for part in INSPECTED]
        found[name] = (np.array(share), float(average_precision_score(wrong, values)))
    return found


def add_agreements(study: common.Study, table: str, runs: list[dict[str, common.Agreement]], published: str) -> None:
    for name in dict.fromkeys(key.split(" (λ x")[0] for run in runs for key in run):
        these = [next(value for key, value in run.items() if key.split(" (λ x")[0] == name) for run in runs]
        full = next(key for key in runs[0] if key.split(" (λ x")[0] == name)
        study.add(
            table, estimate=full, R=[one.pearson for one in these], published=published,
            Spearman=[one.spearman for one in these], slope=[one.slope for one in these],
            **{"sign agrees": [one.sign for one in these]},
        )  # fmt: skip


def main() -> None:
    study = common.Study.of("koh_liang", __doc__ or "")
    regressions = [logistic(study, seed) for seed in study.seeds]
    add_agreements(study, "Logistic regression, leave-one-out", [run[2] for run in regressions], PUBLISHED["logistic"])
    networks = [cnn(study, seed) for seed in study.seeds]
    add_agreements(study, "CNN, the 100 rows of most influence", [run[2] for run in networks], PUBLISHED["cnn"])
    study.add("CNN, drift", **{"drift / mean size of an actual change": [run[3] for run in networks]})
    inspections = [inspection(study, seed) for seed in study.seeds]
    for name in inspections[0]:
        shares = [run[name][0] for run in inspections]
        study.add(
            "Flipped labels found among the first rows", order=name,
            **{f"{part:.0%} inspected": [float(share[i]) for share in shares] for i, part in enumerate(INSPECTED)},
            **{"average precision": [run[name][1] for run in inspections]},
        )  # fmt: skip
    made, axes = common.figure(3)
    for axis, runs, title in ((axes[0], regressions, "logistic regression"), (axes[1], networks, "CNN")):
        for seed, run in zip(study.seeds, runs, strict=True):
            r = float(np.corrcoef(run[0], run[1])[0, 1])
            axis.plot(run[0], run[1], ".", markersize=3, label=f"seed {seed}, R = {r:.3f}")
        low, high = axis.get_xlim()
        axis.plot([low, high], [low, high], "k--", linewidth=0.6)
        axis.set(xlabel="predicted change of the test loss, nats", ylabel="actual change", title=title)
        axis.legend()
    for name in inspections[0]:
        lists = list(np.stack([run[name][0] for run in inspections]).T)
        common.band(axes[2], [100 * part for part in INSPECTED], lists, name)
    axes[2].set(xlabel="rows inspected, %", ylabel="share of flips found", title="inspection")
    axes[2].legend(loc="lower right", bbox_to_anchor=(1, 0.18))
    study.write(made)


if __name__ == "__main__":
    main()
