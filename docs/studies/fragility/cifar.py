"""Basu, Pope & Feizi 2021, CIFAR-10: VGG and ResNet blocks, with and without weight decay, hardest and median test row.

    python docs/studies/fragility/cifar.py [--quick] [--seeds 0,1,2] [--folder DATA] [--download] [--out FOLDER]

500 training pictures of CIFAR-10 pooled to 16 x 16, 500 others are the test rows. A VGG of six convolutions and a
ResNet of three blocks, both with batch norms, widths 8, 16 and 32; 30 epochs of SGD with momentum, weight decay 0.005
or none. The rest is as in deep.py: the highest and the median loss, for each the 20 rows of most influence left out one
by one, refits from the checkpoint by 6 % of the steps, the drift subtracted. --folder holds CIFAR-10 as torchvision
keeps it (--download fetches it there), or 5,000 of its pictures in cifar10n_dev/cifar10n_dev_5k.npz. With --quick
made-up pictures, few and small, and one width.
"""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import common
import deep
import numpy as np
import optima
import torch
from torch import Tensor, nn
from torch.nn import functional as F

DECAYS = (0.005, 0.0)
WIDTHS = (8, 16, 32)
CLASSES, SIDE, ROWS = 10, 16, 500


def normed(inside: int, outside: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution and its batch norm."""
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside))


def vgg(widths: Sequence[int]) -> nn.Module:
    """Two convolutions and a pooling at each width (Simonyan & Zisserman 2015), one linear layer."""
    layers: list[nn.Module] = []
    inside = 3
    for width in widths:
        layers += [normed(inside, width), nn.ReLU(), normed(width, width), nn.ReLU(), nn.MaxPool2d(2)]
        inside = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * inside, CLASSES))


class Block(nn.Module):
    """ResNet's basic block (He et al. 2016)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        stride = 1 if inside == outside else 2
        self.first, self.second = normed(inside, outside, stride=stride), normed(outside, outside)
        self.past = nn.Identity() if inside == outside else normed(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.past(x) + self.second(F.relu(self.first(x))))


def resnet(widths: Sequence[int]) -> nn.Module:
    """A convolution, a block at each width, the mean over the picture, one linear layer."""
    blocks = [Block(inside, outside) for inside, outside in pairwise((widths[0], *widths))]
    return nn.Sequential(
        normed(3, widths[0]), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES)
    )


NETWORKS = {"vgg": vgg, "resnet": resnet}


def pictures(asked: argparse.Namespace, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training rows ``[n 3 side side]`` and labels, test rows and labels."""
    if asked.quick:
        x, y = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(seed)), torch.arange(60) % CLASSES
        return x[:40], y[:40], x[40:], y[40:]
    sample = asked.folder / "cifar10n_dev" / "cifar10n_dev_5k.npz"
    if sample.exists():
        with np.load(sample) as file:
            order = np.random.default_rng(seed).permutation(len(file["clean_label"]))[: 2 * ROWS]
            images, y = torch.from_numpy(file["images"][order]), torch.from_numpy(file["clean_label"][order]).long()
        x = (images.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.25
    else:
        x, y = deep.rows("torchvision:CIFAR10", "train", 2 * ROWS, seed, asked)
    x = F.adaptive_avg_pool2d(x, SIDE)
    return x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:]


def one(study: common.Study, name: str, decay: float, seed: int) -> list[dict[str, object]]:
    """For each test point what `deep.agreements` has of it."""
    x, y, tests, labels = pictures(study.asked, seed)
    torch.manual_seed(seed)
    fresh = deep.Trained(
        NETWORKS[name](WIDTHS[: 1 if study.quick else None]), x, y, optima.Recipe(2 if study.quick else 30, 0.02), decay
    )
    return deep.agreements(fresh, tests, labels, 3 if study.quick else 20, seed)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=Path("data"), help="with CIFAR-10")
    parser.add_argument("--download", action="store_true", help="let torchvision fetch the data")


def main() -> None:
    study = common.Study.of("cifar", __doc__ or "", "0,1,2", options)
    made, axes = common.figure(4)
    for name in NETWORKS:
        for decay in DECAYS[:: 2 if study.quick else 1]:
            runs = [one(study, name, decay, seed) for seed in study.seeds]
            deep.add(study, runs, axes, network=name, **{"weight decay": decay})
    for axis in axes:
        axis.tick_params("x", labelsize=5, labelrotation=90)
    study.write(made)


if __name__ == "__main__":
    main()
