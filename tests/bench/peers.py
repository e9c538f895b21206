"""curate beside its peers on one small workload, each in an environment of its own: the table that README shows.

    python tests/bench/peers.py [--home FOLDER] [--only NAME,...]

Makes two environments (the peers', and pyDVL's, whose versions differ), 2,000 rows of Fashion-MNIST at 14 x 14 pixels
with a tenth of the labels changed, a small CNN, and a softmax regression at its optimum. *Labels*: average precision on
the changed labels, from the one trained CNN; cleanlab trains it five times more, pyDVL has Shapley values of nearest
neighbours on its features. *Influence*: at the softmax regression, Spearman of the predicted with the refitted change
of the loss of 100 rows, each of 100 rows left out in turn (Newton steps to a gradient under 1e-10), mean over the
rows asked about. Every peer has the penalty that the model was trained with as its damping. Processor seconds of
one thread, from the trained model to scores, and the largest memory of the process. Fashion-MNIST is Debian's
dataset-fashion-mnist; the environments are made by pip and need an index.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fashion
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

ROWS, ASKED, LEFT_OUT, SHARE, PENALTY = 2_000, 100, 100, 0.1, 1e-2
LIMIT = 600
"""Processor seconds after which a method is stopped."""
NEEDS = {
    "peers": ["captum==0.9.0", "kronfluence==1.0.1", "dattri==0.3.0", "cleanlab==2.9.0"],
    "pydvl": ["pyDVL[influence]==0.10.0", "torch"],
}
LABELS, INFLUENCE = "labels", "influence"
Answer = np.ndarray
METHODS: dict[tuple[str, str], tuple[str | None, Callable[["Workload"], Answer]]] = {}


class Workload:
    """Rows ``[n 1 14 14]`` with their given and true labels, the rows asked about, and the two trained models."""

    def __init__(self, home: Path) -> None:
        kept = torch.load(home / "workload.pt", weights_only=True)
        self.x, self.y, self.clean, self.z, self.w = (kept[name] for name in ("x", "y", "clean", "z", "w"))
        self.home, self.cnn, self.softmax = home, network(), regression()
        self.cnn.load_state_dict(kept["cnn"])
        self.softmax.load_state_dict(kept["softmax"])

    @property
    def train(self) -> TensorDataset:
        return TensorDataset(self.x, self.y)

    @property
    def asked(self) -> TensorDataset:
        return TensorDataset(self.z, self.w)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def regression() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(196, 10))


def of(task: str, name: str, environment: str | None = "peers") -> Callable[..., Any]:
    """Enters a function that gives a score a row (labels: high is suspect) or ``[rows asked]`` (high: it helps)."""

    def enter(function: Callable[[Workload], Answer]) -> Callable[[Workload], Answer]:
        METHODS[name, task] = environment, function
        return function

    return enter


def fitted(module: nn.Sequential, x: Tensor, y: Tensor, seed: int = 0) -> nn.Sequential:
    """Fifteen epochs of Adam with decay."""
    draw = torch.Generator().manual_seed(seed)
    steps = torch.optim.AdamW(module.parameters(), 2e-3, weight_decay=1e-3)
    for _ in range(15):
        for rows in torch.randperm(len(y), generator=draw).split(50):
            steps.zero_grad()
            F.cross_entropy(module(x[rows]), y[rows]).backward()
            steps.step()
    return module


@of(LABELS, "curate", None)
def _(given: Workload) -> Answer:
    import curate

    numbered = list(zip(given.x.numpy(), given.y.tolist(), map(str, range(ROWS)), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        run = curate.scan(numbered, model=given.cnn, db=Path(folder) / "curate.db")
        rows = {row["key"]: row["suspicion"] for row in run.scores}
    return np.array([rows[str(row)] for row in range(ROWS)])


@of(INFLUENCE, "curate", None)
def _(given: Workload) -> Answer:
    from curate import engine

    problem = engine.problem_of(given.softmax, given.x, given.y)
    return engine.influence_of(problem, given.z, given.w, solver="cg", damping=PENALTY).numpy()


@of(LABELS, "cleanlab")
def _(given: Workload) -> Answer:
    from cleanlab.rank import get_label_quality_scores

    probabilities = torch.empty(ROWS, 10)
    for fold in range(5):
        held = torch.arange(ROWS) % 5 == fold
        torch.manual_seed(fold)
        module = fitted(network(), given.x[~held], given.y[~held], fold)
        with torch.no_grad():
            probabilities[held] = module(given.x[held]).softmax(1)
    return -get_label_quality_scores(given.y.numpy(), probabilities.numpy())


def _tracin(given: Workload, module: nn.Sequential) -> Any:
    from captum.influence import TracInCPFast

    file = given.home / "checkpoint.pt"
    torch.save(module.state_dict(), file)

    def load(to: nn.Module, path: str) -> float:
        to.load_state_dict(torch.load(path, weights_only=True))
        return 1.0

    loss = nn.CrossEntropyLoss(reduction="sum")
    return TracInCPFast(module, module[-1], given.train, [str(file)], load, loss_fn=loss, batch_size=500)


@of(LABELS, "captum")
def _(given: Workload) -> Answer:
    return np.asarray(_tracin(given, given.cnn).self_influence().numpy())


@of(INFLUENCE, "captum")
def _(given: Workload) -> Answer:
    return np.asarray(_tracin(given, given.softmax).influence((given.z, given.w)).T.numpy())


def _kronfluence(given: Workload, module: nn.Sequential, own: bool) -> Answer:
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Classify(Task):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            logits = model(batch[0])
            drawn = torch.multinomial(logits.detach().softmax(1), 1).flatten() if sample else batch[1]
            return F.cross_entropy(logits, drawn, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    task = Classify()
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "peers", prepare_model(module, task), task, cpu=True, output_dir=folder, disable_tqdm=True, log_level=40
        )
        analyzer.fit_all_factors("f", given.train, 500, factor_args=FactorArguments(strategy="ekfac"))
        asked = ScoreArguments(damping_factor=None if own else PENALTY)  # None: a tenth of each layer's mean eigenvalue
        if own:
            analyzer.compute_self_scores("s", "f", given.train, per_device_train_batch_size=500, score_args=asked)
            return np.asarray(analyzer.load_self_scores("s")["all_modules"].numpy())
        analyzer.compute_pairwise_scores("s", "f", given.asked, given.train, 100, 500, score_args=asked)
        return np.asarray(analyzer.load_pairwise_scores("s")["all_modules"].T.float().numpy())


@of(LABELS, "kronfluence")
def _(given: Workload) -> Answer:
    return _kronfluence(given, given.cnn, own=True)


@of(INFLUENCE, "kronfluence")
def _(given: Workload) -> Answer:
    return _kronfluence(given, given.softmax, own=False)


def _dattri(module: nn.Sequential) -> Any:
    from dattri.task import AttributionTask

    def loss(parameters: dict[str, Tensor], row: tuple[Tensor, Tensor]) -> Tensor:
        x, y = row
        x = x if x.dim() == 4 else x[None]
        return F.cross_entropy(torch.func.functional_call(module, parameters, (x,)), y.reshape(-1))

    return AttributionTask(loss_func=loss, model=module, checkpoints=module.state_dict())


@of(LABELS, "dattri")
def _(given: Workload) -> Answer:
    from dattri.algorithm.tracin import TracInAttributor

    attributor = TracInAttributor(_dattri(given.cnn), torch.ones(1), normalized_grad=False)
    return np.asarray(attributor.self_attribute(DataLoader(given.train, 500)).flatten().detach().numpy())


@of(INFLUENCE, "dattri")
def _(given: Workload) -> Answer:
    from dattri.algorithm.influence_function import IFAttributorExplicit

    attributor = IFAttributorExplicit(_dattri(given.softmax), regularization=PENALTY)
    rows = DataLoader(given.train, ROWS)  # its batches' inverses are added up, so there is one
    attributor.cache(rows)
    return np.asarray(attributor.attribute(rows, DataLoader(given.asked, ASKED)).detach().numpy())


@of(LABELS, "pyDVL", "pydvl")
def _(given: Workload) -> Answer:
    from pydvl.valuation.dataset import Dataset
    from pydvl.valuation.methods.knn_shapley import KNNShapleyValuation
    from sklearn.neighbors import KNeighborsClassifier

    with torch.no_grad():
        features, held = (given.cnn[:-1](part).numpy() for part in (given.x, given.z))
    train, asked = Dataset(features, given.y.numpy()), Dataset(held, given.w.numpy())
    valued = KNNShapleyValuation(KNeighborsClassifier(10), asked, progress=False).fit(train)
    values = np.empty(ROWS)
    values[valued.result.indices] = valued.result.values
    return -values


@of(INFLUENCE, "pyDVL", "pydvl")
def _(given: Workload) -> Answer:
    from pydvl.influence.torch import CgInfluence

    model = CgInfluence(given.softmax, F.cross_entropy, regularization=PENALTY, solve_simultaneously=True)
    model = model.fit(DataLoader(given.train, 500))
    return np.asarray(model.influences(given.z, given.w, given.x, given.y).T.detach().numpy())


def prepare(home: Path) -> None:
    """The workload and the truth, once."""
    if (home / "truth.npy").exists():
        return
    torch.manual_seed(0)
    images, clean = fashion.images("train")
    held, w = fashion.images("t10k")

    def small(pictures: np.ndarray, count: int) -> Tensor:
        return F.avg_pool2d(torch.from_numpy(pictures[:count].astype(np.float32)) / 255, 2)[:, None]

    x, y = small(images, ROWS), torch.from_numpy(fashion.flipped(clean[:ROWS], SHARE, "uniform", 0))
    z, asked = small(held, ASKED), torch.from_numpy(w[:ASKED])
    cnn, softmax = fitted(network(), x, y), regression()
    optimum, truth = refits(x, y, z, asked)
    softmax.load_state_dict({"1.weight": optimum[:, :-1].float(), "1.bias": optimum[:, -1].float()})
    kept = {"x": x, "y": y, "clean": torch.from_numpy(clean[:ROWS]), "z": z, "w": asked}
    torch.save({**kept, "cnn": cnn.state_dict(), "softmax": softmax.state_dict()}, home / "workload.pt")
    np.save(home / "truth.npy", truth)


def refits(x: Tensor, y: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Answer]:
    """The softmax regression at its optimum ``[10 197]``, and the change of each asked row's loss ``[left-out asked]``
    where the first rows are left out one at a time; all in float64, by Newton steps with one factor."""
    inputs, asked = (torch.cat([part.flatten(1).double(), torch.ones(len(part), 1)], 1) for part in (x, z))

    def gradient(weights: Tensor, rows: Tensor) -> Tensor:
        rest = (inputs[rows] @ weights.T).softmax(1) - F.one_hot(y[rows], 10)
        return rest.T @ inputs[rows] / len(rows) + PENALTY * weights

    def factor(weights: Tensor) -> Tensor:
        p = (inputs @ weights.T).softmax(1)
        blocks = torch.einsum("nc,ce->nce", p, torch.eye(10).double()) - p[:, :, None] * p[:, None, :]
        hessian = torch.einsum("nce,ni,nj->ciej", blocks, inputs, inputs) / len(y)
        size = weights.numel()
        return torch.linalg.cholesky(hessian.reshape(size, size) + PENALTY * torch.eye(size))

    def settle(weights: Tensor, rows: Tensor, lower: Tensor | None) -> Tensor:
        for _ in range(100):
            step = gradient(weights, rows)
            if step.norm() < 1e-10:
                break
            used = factor(weights) if lower is None else lower
            weights = weights - torch.cholesky_solve(step.reshape(-1, 1), used).reshape(weights.shape)
        return weights

    every = torch.arange(len(y))
    optimum = settle(torch.zeros(10, 197).double(), every, None)
    lower = factor(optimum)

    def losses(weights: Tensor) -> Tensor:
        return F.cross_entropy(asked @ weights.T, w, reduction="none")

    changes = [losses(settle(optimum, every[every != row], lower)) - losses(optimum) for row in range(LEFT_OUT)]
    return optimum, torch.stack(changes).numpy()


def environment(home: Path, name: str) -> Path:
    """The Python of an environment with these peers, made by pip if it is not there."""
    folder = home / name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "torchvision", *NEEDS[name]], check=True)
    return python


def one(home: Path, name: str, task: str) -> None:
    """Runs a method in this process and writes its scores and costs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    given = Workload(home)
    begun = time.process_time()
    scores = METHODS[name, task][1](given)
    seconds = time.process_time() - begun
    np.save(home / f"{name}-{task}.npy", scores)
    costs = {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    (home / f"{name}-{task}.json").write_text(json.dumps(costs))


def judged(home: Path, name: str, task: str) -> str:
    """A cell of the table: how good, processor seconds, memory; a dash if it has not run."""
    if not (home / f"{name}-{task}.json").exists():
        return "-"
    from scipy.stats import spearmanr
    from sklearn.metrics import average_precision_score

    scores = np.load(home / f"{name}-{task}.npy")
    costs = json.loads((home / f"{name}-{task}.json").read_text())
    if task == LABELS:
        kept = torch.load(home / "workload.pt", weights_only=True)
        good = float(average_precision_score((kept["y"] != kept["clean"]).numpy(), scores))
    else:
        truth = np.load(home / "truth.npy")
        good = float(np.mean([spearmanr(scores[:LEFT_OUT, k], truth[:, k]).statistic for k in range(ASKED)]))
    return f"{good:.3f}, {costs['seconds']:.1f} s, {costs['memory']:.1f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=fashion.HOME / "peers")
    parser.add_argument("--only", help="these alone")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "TASK"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.home.mkdir(parents=True, exist_ok=True)
    if asked.one:
        one(asked.home, *asked.one)
        return
    prepare(asked.home)
    failed: dict[tuple[str, str], str] = {}
    for (name, task), (where, _) in METHODS.items():
        if asked.only and name not in asked.only.split(","):
            continue
        python = sys.executable if where is None else environment(asked.home, where)
        command = [str(python), __file__, "--home", str(asked.home), "--one", name, task]
        done = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            failed[name, task] = f"stopped after {LIMIT} s" if done.returncode < 0 else done.stderr.splitlines()[-1]
    print("| | wrong labels from one trained CNN (AP) | influence against refits (Spearman) |\n|---|---|---|")
    for name in dict.fromkeys(name for name, _ in METHODS):
        cells = [
            failed.get((name, task), judged(asked.home, name, task) if (name, task) in METHODS else "-")
            for task in (LABELS, INFLUENCE)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
