"""LiSSA's recursion against its theory, at a softmax regression whose curvature is known exactly.

    python docs/studies/fragility/lissa.py [--quick] [--seeds 0,1,2] [--out FOLDER]

u ← u - η((C + λ)u - v) from 0, η = 1/(λ_max + λ), J steps, f = ηλJ. In directions that C does not bend, the last
iterate lacks the share e^-f of the answer, and the average of the last half b(f) = (e^-f/2 - e^-f)/(f/2). Measured with
all rows in each step. With batches there is variance: measured over repeated runs against the size of the batch. Then
Koh & Liang's settings: the fixed point of their recursion has the damping damp · scale. Last, curate's stochastic
solvers: the error that they report against the error that they have.
"""

import math

import common
import optima
import torch
from sklearn.datasets import load_digits

from curate.engine.probe import fit_softmax
from curate.engine.solvers import make_solver
from curate.engine.solvers.lissa import flat_bias

DEPTHS = (0.5, 1.0, 2.0, 3.2, 4.2, 6.7, 10.0)
BATCHES = (16, 32, 64, 128, 256, 512)
RATIO = 1 / 50
"""λ / λ_max."""


class Digits:
    """Softmax regression on scikit-learn's digits at its optimum: C = FᵀF / m, its eigenvectors, gradients."""

    def __init__(self, seed: int, rows: int) -> None:
        pixels, labels = load_digits(return_X_y=True)
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))[: rows + 8]
        x = torch.from_numpy(pixels / 16.0)[order]
        x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
        y = torch.from_numpy(labels)[order]
        x, tests, y, test_labels = x[:rows], x[rows:], y[:rows], y[rows:]
        head = fit_softmax(x, y, 10, torch.full((65,), 1e-3, dtype=x.dtype))
        module = torch.nn.Linear(65, 10, bias=False).double()
        module.weight.data.copy_(head.weights)
        self.problem = optima.Problem(module, x, y, 1e-3)
        self.operator = self.problem.curvature("ggn")
        self.factor = self.operator.whole_factor()
        self.matrix = self.factor.T @ self.factor / len(self.factor)
        self.eigenvalues, self.vectors = torch.linalg.eigh(self.matrix)
        self.top = float(self.eigenvalues[-1])
        self.gradients = self.problem.row_gradients(x, y)
        self.rights = self.problem.row_gradients(tests, test_labels)

    def exact(self, damping: float, rows: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve(self.matrix + damping * torch.eye(len(self.matrix)).double(), rows.T).T


def recursion(
    digits: Digits, rows: torch.Tensor, damping: float, f: float, batch: int, seed: int
) -> list[torch.Tensor]:
    """The last iterate and the average of the last half; all rows in each step where ``batch`` is 0."""
    eta = 1 / (digits.top + damping)
    steps = 2 * math.ceil(f / (eta * damping) / 2 - 1e-9)  # rounding must not add two steps
    generator = torch.Generator().manual_seed(seed)
    matrix, u, late = digits.matrix, torch.zeros_like(rows), torch.zeros_like(rows)
    for step in range(steps):
        if batch:
            # Drawn with replacement: the theory of the variance is about independent batches.
            part = digits.factor[torch.randint(0, len(digits.factor), (batch,), generator=generator)]
            product = (u @ part.T) @ part / batch
        else:
            product = u @ matrix
        u = u - eta * (product + damping * u - rows)
        if step >= steps // 2:
            late += u
    return [u, late / (steps // 2)]


def bias(study: common.Study, digits: list[Digits]) -> list[tuple[float, list[float], list[float]]]:
    """What is lacking in the directions that C does not bend."""
    found = []
    for f in DEPTHS:
        last, half = [], []
        for seed, problem in zip(study.seeds, digits, strict=True):
            damping = problem.top * RATIO
            flat = problem.vectors[:, problem.eigenvalues < 1e-6 * damping]
            right = torch.randn(4, len(problem.matrix), generator=torch.Generator().manual_seed(seed)).double()
            exact = problem.exact(damping, right) @ flat
            for into, u in zip((last, half), recursion(problem, right, damping, f, 0, 0), strict=True):
                into.append(float((exact - u @ flat).norm() / exact.norm()))
        study.add(
            "What the recursion lacks in flat directions, all rows in each step",
            **{"f = ηλJ": f, "last iterate": last, "theory e^-f": math.exp(-f), "average of the last half": half,
               "theory b(f)": flat_bias(f)},
        )  # fmt: skip
        found.append((f, last, half))
    return found


def variance(study: common.Study, digits: list[Digits]) -> list[tuple[int, list[float], list[float]]]:
    """Noise of the answer over repeated runs with other batches, as a share of its length."""
    found = []
    repeats = 4 if study.quick else 20
    batches = BATCHES[2:4] if study.quick else BATCHES
    for batch in batches:
        noise: tuple[list[float], list[float]] = ([], [])
        for problem in digits:
            damping = problem.top * RATIO
            runs = [recursion(problem, problem.rights, damping, 4.2, batch, seed) for seed in range(repeats)]
            for into, which in zip(noise, (0, 1), strict=True):
                answers = torch.stack([run[which] for run in runs])
                spread = answers.var(0).sum(1).sqrt() / answers.mean(0).norm(dim=1)
                into.append(float(spread.mean()))
        study.add(
            "Noise of the answer (standard deviation over runs / length), f = 4.2",
            batch=batch, **{"batch x λ_max / trace": [batch * one.top / float(one.eigenvalues.sum()) for one in digits],
                            "last iterate": noise[0], "average of the last half": noise[1],
                            "average x √batch": [value * batch**0.5 for value in noise[1]]},
        )  # fmt: skip
        found.append((batch, *noise))
    return found


def koh(study: common.Study, digits: list[Digits]) -> None:
    """damp and scale in Koh & Liang's recursion: which damping does the answer belong to?"""
    settings = ((0.01, 10.0, 500), (0.01, 25.0, 500), (0.003, 25.0, 2000))
    for damp, scale, steps in settings[: 2 if study.quick else 3]:
        as_read, as_solved = [], []
        for seed, problem in zip(study.seeds, digits, strict=True):
            factor = problem.factor
            found = optima.koh_recursion(
                lambda rows, h, f=factor: (h @ f[rows].T) @ f[rows] / len(rows), len(factor), problem.rights, damp,
                scale, steps, 256, seed,
            )  # fmt: skip
            for into, damping in ((as_read, damp), (as_solved, damp * scale)):
                exact = problem.exact(damping, problem.rights)
                into.append(float(((found - exact).norm(dim=1) / exact.norm(dim=1)).mean()))
        study.add(
            "Koh & Liang's recursion, batches of 256: relative error, by what its damping is taken for",
            damp=damp, scale=scale, steps=steps,
            **{"error at λ = damp": as_read, "error at λ = damp · scale": as_solved},
        )  # fmt: skip


def solver(study: common.Study, digits: list[Digits]) -> None:
    """curate's solvers: what they report of their error against what it is."""
    for name in ("lissa", "lissa-tight", "preconditioned-lissa"):
        for ratio in (1e-1, 1e-2, 1e-4):
            raised, told, true, scores = [], [], [], []
            for seed, problem in zip(study.seeds, digits, strict=True):
                asked = problem.top * ratio
                solution = make_solver(name, seed).prepare(problem.operator, asked).solve(problem.rights)
                exact = problem.exact(solution.damping, problem.rights)
                raised.append(solution.damping / asked)
                told.append(solution.error())
                true.append(float(((solution.rows - exact).norm(dim=1) / exact.norm(dim=1)).mean()))
                mine = problem.problem.influence(solution.rows, problem.gradients)
                theirs = problem.problem.influence(problem.exact(asked, problem.rights), problem.gradients)
                scores.append(common.Agreement.of(mine.flatten(), theirs.flatten()).spearman)
            study.add(
                "curate's stochastic solvers, no option given",
                solver=name, **{"λ asked / λ_max": ratio, "λ used / asked": raised, "error reported": told,
                                "error": true, "Spearman of influence with the exact answer at the λ asked": scores},
            )  # fmt: skip


def main() -> None:
    study = common.Study.of("lissa", __doc__ or "")
    digits = [Digits(seed, 300 if study.quick else 1000) for seed in study.seeds]
    biases = bias(study, digits)
    noises = variance(study, digits)
    koh(study, digits)
    if not study.quick:
        solver(study, digits)
    made, (left, right) = common.figure(2)
    fs = [f for f, _, _ in biases]
    fine = [0.25 * i for i in range(1, 41)]
    left.plot(fine, [math.exp(-f) for f in fine], "k--", linewidth=0.8, label="theory")
    left.plot(fine, [flat_bias(f) for f in fine], "k--", linewidth=0.8)
    common.band(left, fs, [last for _, last, _ in biases], "last iterate", linestyle="")
    common.band(left, fs, [half for _, _, half in biases], "average of the last half", linestyle="")
    left.set(xlabel="f = ηλJ", ylabel="share lacking in flat directions", yscale="log", title="bias")
    left.legend()
    batches = [batch for batch, _, _ in noises]
    common.band(right, batches, [last for _, last, _ in noises], "last iterate")
    common.band(right, batches, [half for _, _, half in noises], "average of the last half")
    largest = noises[-1][2][0] * batches[-1] ** 0.5
    right.plot(batches, [largest / b**0.5 for b in batches], "k--", linewidth=0.8, label="∝ 1/√batch")
    right.set(xlabel="rows of a batch", ylabel="noise / length", xscale="log", yscale="log", title="variance, f = 4.2")
    right.set_xticks(batches, list(map(str, batches)), minor=False)
    right.minorticks_off()
    right.legend()
    study.write(made)


if __name__ == "__main__":
    main()
