"""The peers of `lds.py`, in their own environment: kronfluence's EK-FAC with both dampings, captum's TracInCPFast.

    PYTHON tests/bench/lds_peers.py FOLDER [--networks cnn,...]

PYTHON is that of an environment with torch, torchvision, numpy, pandas, pyarrow, kronfluence (1.0.1 was measured) and
captum (0.9.0); curate is not imported. Matrices are kept where `lds.py` keeps its own, networks are those that it
trained. kronfluence's heuristic damping is a tenth of each layer's mean eigenvalue; 1e-8 is the default of its
arguments. TracInCPFast reads the last layer at the last checkpoint, and at five of the training, each weighted by its
rate, as its paper has it (Pruthi et al. 2020); a network that was brought to its optimum has one.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fashion
import lds_networks
import torch
from captum.influence import TracInCPFast
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

HOME = fashion.HOME / "lds"


class Classify(Task):
    """Cross-entropy, labels sampled from the model for the curvature; the layers that kronfluence knows."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.known = [name for name, layer in module.named_modules() if type(layer) in (nn.Linear, nn.Conv2d)]

    def get_influence_tracked_modules(self) -> list[str]:
        return self.known

    def compute_train_loss(self, batch: list[Tensor], model: nn.Module, sample: bool = False) -> Tensor:
        x, y = batch
        logits = model(x)
        if sample:
            with torch.no_grad():
                y = torch.multinomial(logits.detach().softmax(1), 1).flatten()
        return F.cross_entropy(logits, y, reduction="sum")

    def compute_measurement(self, batch: list[Tensor], model: nn.Module) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x), y, reduction="sum")


def by_kronfluence(name: str, folder: Path, damping: float | None) -> Tensor:
    """Influence of all training rows on all evaluation rows, ``[n T]``."""
    x, y, z, w = lds_networks.data(name, folder)
    module = nn.Sequential(lds_networks.whole(name, folder, HOME))  # it cannot wrap a bare layer
    task = Classify(module)
    with tempfile.TemporaryDirectory() as output:
        analyzer = Analyzer(
            "lds", prepare_model(module, task), task, cpu=True, output_dir=output, disable_tqdm=True, log_level=40
        )
        train = TensorDataset(x, y)
        analyzer.fit_all_factors("f", train, per_device_batch_size=500, factor_args=FactorArguments(strategy="ekfac"))
        analyzer.compute_pairwise_scores(
            "s", "f", TensorDataset(z, w), train, per_device_query_batch_size=100, per_device_train_batch_size=500,
            score_args=ScoreArguments(damping_factor=damping),
        )  # fmt: skip
        return analyzer.load_pairwise_scores("s")["all_modules"].T / len(y)


def by_captum(name: str, folder: Path, checkpoints: list[tuple[dict[str, Tensor], float]]) -> Tensor:
    """The same by the last layer's gradients at checkpoints, each with the rate that was taken there."""
    x, y, z, w = lds_networks.data(name, folder)
    module = nn.Sequential(lds_networks.whole(name, folder, HOME))

    def load(module: nn.Module, checkpoint: tuple[dict[str, Tensor], float]) -> float:
        module[0].load_state_dict(checkpoint[0])
        return checkpoint[1]

    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    tracin = TracInCPFast(
        module, last, TensorDataset(x, y), checkpoints, load, loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=500,
    )  # fmt: skip
    return tracin.influence((z, w)).T / len(y)


def along_the_way(name: str, folder: Path) -> list[tuple[dict[str, Tensor], float]]:
    """Five checkpoints of the training of the whole, evenly apart."""
    epochs = lds_networks.RECIPES[name].epochs
    kept = []

    def after(module: nn.Module, epoch: int, rate: float) -> None:
        if epoch in {round(epochs * part / 5) for part in range(1, 6)}:
            kept.append((copy.deepcopy(module.state_dict()), rate))

    rows = torch.arange(len(lds_networks.data(name, folder)[1]))
    lds_networks.train(name, folder, rows, 0, after)
    return kept


def methods(name: str, folder: Path) -> dict[str, Callable[[], Tensor]]:
    last = [(lds_networks.whole(name, folder, HOME).state_dict(), 1.0)]
    found = {
        "kronfluence": lambda: by_kronfluence(name, folder, None),
        "kronfluence at 1e-8": lambda: by_kronfluence(name, folder, 1e-8),
        "TracInCPFast": lambda: by_captum(name, folder, last),
    }
    if lds_networks.RECIPES[name].epochs:
        way = along_the_way(name, folder)
        found["TracInCPFast, five checkpoints"] = lambda: by_captum(name, folder, way)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", default=",".join(lds_networks.CHOOSE + lds_networks.JUDGE))
    asked = parser.parse_args()
    for name in asked.networks.split(","):
        for method, answer in methods(name, asked.folder).items():
            file = HOME / name / "scores" / f"{method}.pt"
            if file.exists():
                continue
            started = time.process_time()
            found = answer().detach().float().contiguous()
            seconds = time.process_time() - started
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"influence": found, "seconds": seconds}, file)
            print(f"{name}: {method}: {seconds:.1f} processor s", flush=True)


if __name__ == "__main__":
    main()
