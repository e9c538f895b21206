"""The Fashion-MNIST workload of the benchmarks: noisy training rows, evaluation rows, a small CNN.

Knows how to make the data and to train the network once, into ``.cache/bench`` (or ``CURATE_BENCH_HOME``).
Needs Debian's package ``dataset-fashion-mnist``. Run it to see what it made:

    python tests/bench/fashion.py
"""

import gzip
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SOURCE = Path("/usr/share/datasets/fashion-mnist")
HOME = Path(os.environ.get("CURATE_BENCH_HOME", ".cache/bench"))
CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot")
LOOKALIKE = {0: 6, 6: 0, 2: 4, 4: 2, 3: 0, 1: 3, 5: 7, 7: 9, 9: 7, 8: 6}


def transform(image: np.ndarray) -> torch.Tensor:
    """A grey 28 x 28 image, uint8, as the network reads it: [1, 28, 28], standardised."""
    return (torch.from_numpy(np.asarray(image, dtype=np.float32)) / 255 - 0.286).div(0.353)[None]


def factory() -> nn.Module:
    """A CNN of 49,022 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 28), nn.ReLU(), nn.Linear(28, 10),
    )  # fmt: skip


@cache
def images(part: str) -> tuple[np.ndarray, np.ndarray]:
    """``train`` or ``t10k``: images [n 28 28] uint8 and labels [n]."""
    if not SOURCE.is_dir():
        sys.exit("Fashion-MNIST is missing: apt-get install dataset-fashion-mnist")
    pixels = np.frombuffer(gzip.decompress((SOURCE / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((SOURCE / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return pixels.reshape(-1, 28, 28), labels.astype(np.int64)


def flipped(clean: np.ndarray, share: float, kind: str, seed: int) -> np.ndarray:
    """``clean`` with a share of labels changed, to any other class (``uniform``) or to the look-alike one."""
    draw = np.random.default_rng(seed)
    labels = clean.copy()
    rows = draw.permutation(len(clean))[: round(share * len(clean))]
    if kind == "uniform":
        labels[rows] = (clean[rows] + draw.integers(1, 10, len(rows))) % 10
    else:
        labels[rows] = [LOOKALIKE[int(y)] for y in clean[rows]]
    return labels


def train(x: torch.Tensor, y: torch.Tensor, *, epochs: int, weight_decay: float, seed: int,
          after: Callable[[int, nn.Module], None] = lambda epoch, model: None) -> nn.Module:  # fmt: skip
    """SGD with momentum and a cosine schedule; ``weight_decay`` 0 and many epochs memorise the labels."""
    torch.manual_seed(seed)
    model = factory()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    order = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for rows in torch.randperm(len(x), generator=order).split(64):
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
        schedule.step()
        after(epoch + 1, model)
    return model.eval()


def make(n: int = 10_000, n_eval: int = 1_000, share: float = 0.1, kind: str = "uniform", seed: int = 0,
         epochs: int = 10, weight_decay: float = 5e-3) -> Path:  # fmt: skip
    """A folder with train.npz, eval.npz, model.py, weights.safetensors and clean.npy; made once."""
    folder = HOME / f"fashion-{n}-{share:g}-{kind}-{epochs}-{weight_decay:g}-{seed}"
    if (folder / "weights.safetensors").exists():
        return folder
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels = images("train")
    rows = np.random.default_rng(seed).permutation(len(pixels))[:n]
    noisy = flipped(labels[rows], share, kind, seed)
    test, test_labels = images("t10k")
    names = np.array(CLASSES)
    np.savez(folder / "train.npz", x=pixels[rows], y=names[noisy])
    np.savez(folder / "eval.npz", x=test[:n_eval], y=names[test_labels[:n_eval]])
    np.save(folder / "clean.npy", names[labels[rows]])
    (folder / "model.py").write_text(Path(__file__).read_text())
    x = torch.stack([transform(image) for image in pixels[rows]])
    model = train(x, torch.from_numpy(noisy), epochs=epochs, weight_decay=weight_decay, seed=seed)
    with torch.no_grad():
        x_test = torch.stack([transform(image) for image in test])
        guess = model(x_test).argmax(1).numpy()
        fitted = torch.cat([model(part) for part in x.split(1000)]).argmax(1).numpy()
    test_accuracy, given_accuracy = np.mean(guess == test_labels), np.mean(fitted == noisy)
    print(f"{folder}: test accuracy {test_accuracy:.4f}, on the given labels {given_accuracy:.4f}", file=sys.stderr)
    save_file(model.state_dict(), folder / "weights.safetensors")
    return folder


if __name__ == "__main__":
    print(make())
