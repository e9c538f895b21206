"""What a scan gains on a GPU: one short script for a machine that has one, in under eight minutes.

    python tests/bench/gpu.py [--device cuda] [--minutes 7.5] [--tiny]

It prints a table for docs/explanation/scale.md, a line as soon as it is known: whether a scan there says what one on
the CPU says (features, and a CNN with influence through its parameters); the rows a second that are read through a
ResNet-18 of 10,000 made pictures of 224 pixels, beside a bare torch loop over the same rows (goal: .8 of it), and in
bfloat16; Fashion-MNIST, 60,000 pictures, with a CNN (made pictures of that size where Debian's package
``dataset-fashion-mnist`` is missing); 1,000,000 x 512 features end to end (goal: 60 s). What does not end in the time
that is left is told as such. ``--tiny --device cpu`` shows that the script works.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fashion
import numpy as np
import torch
from ranks import CLOTHES, HERE, compared, drawn, stored
from scale import make
from torch import nn

from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.prepare import load, reading

PICTURES = """
import numpy, torch, torchvision

def transform(image):
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1).float().div(255)

def make():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=10).eval()
"""
LEFT = 20.0
"""Seconds under which nothing is begun."""


@dataclass
class Sizes:
    """Rows of each part."""

    scores: int = 3_000
    fashion: int = 60_000
    pictures: int = 10_000
    side: int = 224
    features: int = 1_000_000


TINY = Sizes(200, 300, 64, 64, 2_000)


class OutOfTime(Exception):
    """The part did not end in the time that was left."""


@dataclass
class Bench:
    """Where things lie, on what is computed, and until when (`time.monotonic`)."""

    folder: Path
    device: str
    sizes: Sizes
    until: float

    def scan(self, arguments: list[str], name: str, device: str | None = None) -> tuple[float, str]:
        """Seconds of `curate scan` as a command, and the line in which it says what took how long."""
        left = self.until - time.monotonic()
        if left < LEFT:
            raise OutOfTime
        asked = [
            *arguments,
            "--device",
            device or self.device,
            "--db",
            f"{name}.db",
            "--no-cache",
            "-f",
            "csv:/dev/null",
        ]
        environ = {**os.environ, "PYTHONPATH": str(HERE)}
        began = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "curate", "scan", *asked],
                cwd=self.folder, env=environ, capture_output=True, text=True, timeout=left, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise OutOfTime(_last(error.stderr)) from error
        if done.returncode:
            raise SystemExit(f"{' '.join(asked)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        line = next((line for line in done.stderr.splitlines() if "scanned" in line), "")
        return time.monotonic() - began, re.sub(r"^.*? in [^:]*: ", "", line)


def _last(written: bytes | str | None) -> str:
    text = written.decode() if isinstance(written, bytes) else written or ""
    return (text.strip().splitlines() or ["nothing was told by then"])[-1]


def row(what: str, found: str) -> None:
    """A line of the table."""
    print(f"| {what} | {found} |", flush=True)


def scores(bench: Bench) -> None:
    """CPU against the device."""
    n = bench.sizes.scores
    sets = {"features": [str(drawn(n, (64,), bench.folder / "features.npz"))]}
    cnn = str(drawn(n // 4, (28, 28, 1), bench.folder / "cnn.npz", n // 20))
    (bench.folder / "clothes.py").write_text(CLOTHES)
    sets["CNN, --params all"] = [cnn, "--model", "clothes.py:make", "--params", "all"]
    for number, (name, arguments) in enumerate(sets.items()):
        bench.scan(arguments, f"{number}.cpu", "cpu")
        bench.scan(arguments, f"{number}.gpu")
        same, told = compared(stored(bench.folder / f"{number}.gpu.db"), stored(bench.folder / f"{number}.cpu.db"))
        rows = "same rows and findings" if same else "differs by more than 1e-5, or in rows or findings"
        row(f"CPU against {bench.device}: {name}", f"{rows}; {told}")


def pictures_of_clothes(bench: Bench) -> None:
    """Fashion-MNIST with a CNN that was trained for two epochs on some of it."""
    n = bench.sizes.fashion
    if fashion.SOURCE.is_dir():
        (x, y), (theirs, right), name = fashion.images("train"), fashion.images("t10k"), "Fashion-MNIST"
    else:
        draw = np.random.default_rng(0)
        y, right, name = draw.integers(0, 10, n), draw.integers(0, 10, 10_000), "made pictures of 28 pixels"
        middles = draw.integers(0, 255, (10, 28, 28))
        x, theirs = ((middles[of] / 2 + draw.integers(0, 128, (len(of), 28, 28))).astype(np.uint8) for of in (y, right))
    x, y, held = x[:n], y[:n], max(50, min(10_000, n // 6))
    given = fashion.flipped(y, 0.1, "uniform", 0)
    arrays = {"x_train": x, "y_train": given, "x_test": theirs[:held], "y_test": right[:held]}
    np.savez(bench.folder / "fashion.npz", **arrays)
    some = torch.stack([fashion.transform(image) for image in x[:10_000]])
    model = fashion.train(some, torch.from_numpy(given[: len(some)]), epochs=2, weight_decay=5e-4, seed=0)
    torch.save(model.state_dict(), bench.folder / "fashion.pt")
    (bench.folder / "clothes.py").write_text(CLOTHES)
    seconds, steps = bench.scan(["fashion.npz", "--model", "clothes.py:make", "--weights", "fashion.pt"], "fashion")
    row(f"{name}, {n:,} rows, CNN of 49,022 parameters", f"{seconds:.0f} s; {steps}")


def resnet(bench: Bench) -> None:
    """Rows a second, beside a loop that any user would write: decode, batch, to the device, features to the CPU."""
    n, side = bench.sizes.pictures, bench.sizes.side
    draw = np.random.default_rng(0)
    x = draw.integers(0, 255, (n, side, side, 3), dtype=np.uint8)
    np.savez(bench.folder / "pictures.npz", x=x, y=draw.integers(0, 10, n))
    (bench.folder / "resnet.py").write_text(PICTURES)
    model, device = f"{bench.folder}/resnet.py:make", torch.device(bench.device)
    for autocast in (False, True) if device.type == "cuda" else (False,):
        settings = ScanSettings(
            str(bench.folder / "pictures.npz"), model=model, device=bench.device, cache=False, autocast=autocast
        )
        how, _ = reading(settings, load(settings, Progress.silent()), Progress.silent())
        assert how.network is not None
        source, module = load(settings, Progress.silent()).train, how.network.module
        bare_loop(module, x[: 2 * how.batch_size], device, how.batch_size, autocast)  # the first batches choose kernels
        bare = n / bare_loop(module, x, device, how.batch_size, autocast)
        ours = n / timed(lambda how=how, source=source: how.through(source, "Reading"))
        said = f"{ours:,.0f} rows/s, {ours / bare:.2f} of a bare loop's {bare:,.0f} (goal .8)"
        row(f"ResNet-18, {n:,} pictures of {side} pixels{', bfloat16' if autocast else ''}", said)


def bare_loop(module: nn.Module, x: np.ndarray, device: torch.device, size: int, autocast: bool) -> float:
    """Seconds of the forward pass over all rows."""

    def run() -> None:
        outputs = []
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            for start in range(0, len(x), size):
                rows = [torch.from_numpy(one).permute(2, 0, 1).float().div(255) for one in x[start : start + size]]
                outputs.append(module(torch.stack(rows).to(device)).float().cpu())
        torch.cat(outputs)

    return timed(run)


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def million(bench: Bench) -> None:
    """Features end to end."""
    n = bench.sizes.features
    make(n, bench.folder / "scale.npz")
    seconds, steps = bench.scan(["scale.npz", "--id", "id"], "scale")
    row(f"{n:,} x 512 features, end to end (goal 60 s)", f"{seconds:.0f} s; {steps}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    name = torch.cuda.get_device_name() if given.device.startswith("cuda") else f"{os.cpu_count()} processors"
    print(f"torch {torch.__version__} on {name}\n\n| what | found |\n|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="curate-gpu-") as folder:
        sizes = TINY if given.tiny else Sizes()
        bench = Bench(Path(folder), given.device, sizes, time.monotonic() + 60 * given.minutes)
        for part in (scores, resnet, pictures_of_clothes, million):
            try:
                part(bench)
            except OutOfTime as error:
                row(part.__name__, f"did not end in the time that was left: {error}")


if __name__ == "__main__":
    main()
