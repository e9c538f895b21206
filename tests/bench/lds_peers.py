"""The peers of `lds.py`, in their own environment: kronfluence's EK-FAC with both of its dampings.

    PYTHON tests/bench/lds_peers.py FOLDER [--networks cnn,...]

PYTHON is that of an environment with torch, torchvision, numpy, pandas, pyarrow and kronfluence (1.0.1 was measured);
curate is not imported. Matrices are kept where `lds.py` keeps its own, networks are those that it trained.
Its heuristic damping is a tenth of each layer's mean eigenvalue; 1e-8 is the default of its arguments.
"""

import argparse
import tempfile
import time
from pathlib import Path

import fashion
import lds_networks
import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

HOME = fashion.HOME / "lds"
DAMPINGS = {"kronfluence": None, "kronfluence at 1e-8": 1e-8}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", default=",".join(lds_networks.CHOOSE + lds_networks.JUDGE))
    asked = parser.parse_args()
    for name in asked.networks.split(","):
        x, y, z, w = lds_networks.data(name, asked.folder)
        for method, damping in DAMPINGS.items():
            file = HOME / name / "scores" / f"{method}.pt"
            if file.exists():
                continue
            module = nn.Sequential(lds_networks.whole(name, asked.folder, HOME))  # it cannot wrap a bare layer
            started = time.process_time()
            task = Classify(module)
            with tempfile.TemporaryDirectory() as folder:
                analyzer = Analyzer(
                    "lds", prepare_model(module, task), task, cpu=True, output_dir=folder, disable_tqdm=True,
                    log_level=40,
                )  # fmt: skip
                train = TensorDataset(x, y)
                analyzer.fit_all_factors("f", train, per_device_batch_size=500,
                                         factor_args=FactorArguments(strategy="ekfac"))  # fmt: skip
                analyzer.compute_pairwise_scores(
                    "s", "f", TensorDataset(z, w), train, per_device_query_batch_size=100,
                    per_device_train_batch_size=500, score_args=ScoreArguments(damping_factor=damping),
                )  # fmt: skip
                found = analyzer.load_pairwise_scores("s")["all_modules"].T.float() / len(y)
            seconds = time.process_time() - started
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"influence": found.contiguous(), "seconds": seconds}, file)
            print(f"{name}: {method}: {seconds:.1f} processor s", flush=True)


if __name__ == "__main__":
    main()
