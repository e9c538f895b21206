"""The sets that audits are simulated on: suspicion as a scan gives it, and which labels are wrong.

Made once into ``.cache/bench/audit``; remove the folder to take a newer suspicion. The split was written down before
anything was chosen: strata, draw and priors of ``curate.audit`` were chosen on ``CHOOSE`` and are judged on ``JUDGE``.
What the bounds allow for (``MORE``, ``FEWER``, the tails) was settled after a first look at ``JUDGE``, where 94 of 96
cells held. Optdigits, german and twonorm were added afterwards, to judge on only, before anything had been run on them.
Rates up to 50 %; people's own mistakes are those of CIFAR-10N, at lower rates a random part of them.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import detection
import fashion
import numpy as np
import sets
import torch

HOME = fashion.HOME / "audit"
RATES = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5)
CHOOSE = ("digits", "adult", "banking77", "phoneme", "fashion")
ADDED = ("optdigits", "german", "twonorm")
JUDGE = ("clinc150", "mammography", "breast_cancer", "cifar10n", *ADDED)
HUMAN = ("aggre_label", "random_label1", "worse_label")
ROWS = 6000
"""More are cut to a random sample of so many."""


@dataclass(frozen=True)
class Known:
    """One set: each row's suspicion, its given label, and whether that is wrong."""

    name: str
    suspicion: np.ndarray
    given: np.ndarray
    wrong: np.ndarray

    @property
    def rate(self) -> float:
        return float(self.wrong.mean())


Features = Callable[[], tuple[np.ndarray, np.ndarray]]


def pixels() -> tuple[np.ndarray, np.ndarray]:
    """4,000 images of Fashion-MNIST as 7 x 7 means."""
    images, labels = (part[:4000] for part in fashion.images("train"))
    return images.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49) / 255.0, labels


def sources(folder: Path) -> dict[str, Features]:
    """Features and clean labels by the set's name."""
    return {
        "digits": lambda: detection.encoded("sklearn:digits"),
        "adult": lambda: detection.encoded(folder / "adult/train.parquet", label="income"),
        "banking77": lambda: detection.encoded(folder / "banking77/train.parquet", label="label", input="text"),
        "phoneme": lambda: detection.encoded(folder / "small_tabular/phoneme.csv", label="-1", header=False),
        "fashion": pixels,
        "clinc150": lambda: detection.encoded(folder / "clinc150/clinc150.parquet", label="label", input="text"),
        "mammography": lambda: detection.encoded(folder / "small_tabular/mammography.csv", label="-1", header=False),
        "breast_cancer": lambda: detection.encoded("sklearn:breast_cancer"),
        **{name: lambda name=name: sets.judging(name, folder, detection.encoded) for name in ADDED},
    }


def planted(name: str, make: Features) -> Iterator[tuple[str, Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]]]:
    """A set's name with noise, and what makes its features, given and clean labels."""
    which = (*CHOOSE, *JUDGE).index(name)
    for place, rate in enumerate(RATES):
        kind = "lookalike" if (place + which) % 2 else "uniform"

        def noisy(rate: float = rate, kind: str = kind) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            features, clean = make()
            if len(clean) > ROWS:
                rows = np.random.default_rng(0).permutation(len(clean))[:ROWS]
                features, clean = features[rows], np.unique(clean[rows], return_inverse=True)[1]
            partner = 1 - np.arange(2) if clean.max() == 1 else detection.lookalikes(features, clean)
            return features, detection.noisy(clean, rate, kind, 0, partner), clean

        yield f"{name} {kind} {rate:g}", noisy


def human(folder: Path) -> Iterator[tuple[str, Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]]]:
    """CIFAR-10N at its three levels, and parts of the first and the last of them."""
    stored = np.load(folder / "cifar10n_dev/cifar10n_dev_5k.npz")
    made = lambda: detection.kept("cifar10n", lambda: (detection.pictures(folder), stored["clean_label"].astype(int)))  # noqa: E731
    for level in HUMAN:
        yield f"cifar10n {level}", lambda level=level: (made()[0], stored[level].astype(int), made()[1])
    for rate in RATES[:3]:

        def part(rate: float = rate) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            features, clean = made()
            given = clean.copy()
            wrong = np.flatnonzero(stored["aggre_label"] != clean)
            rows = np.random.default_rng(0).permutation(wrong)[: round(rate * len(clean))]
            given[rows] = stored["aggre_label"][rows]
            return features, given, clean

        yield f"cifar10n human {rate:g}", part


def known(folder: Path, names: tuple[str, ...], wanted: str = "") -> Iterator[Known]:
    """The sets of these names whose whole name has what is wanted, made if they are missing."""
    HOME.mkdir(parents=True, exist_ok=True)
    makers = sources(folder)
    for name in names:
        for title, make in human(folder) if name == "cifar10n" else planted(name, makers[name]):
            file = HOME / f"{title.replace(' ', '-')}.npz"
            if not re.search(wanted, title):
                continue
            if not file.exists():
                features, given, clean = make()
                workload = detection.features_only(f"audit {title}", features, given, clean)
                data, judged, _ = detection.scanned(workload.settings)
                order = np.argsort(data.train.indices)
                np.savez(file, suspicion=judged.train.suspicion[order], given=given, wrong=given != clean)
            stored = np.load(file)
            yield Known(title, stored["suspicion"], stored["given"], stored["wrong"])


if __name__ == "__main__":
    import sys
    import time

    from sklearn.metrics import average_precision_score

    torch.set_num_threads(1)
    started = time.monotonic()
    for one in known(Path(sys.argv[1]), tuple(sys.argv[2:]) or (*CHOOSE, *JUDGE)):
        print(
            f"{one.name}: {len(one.wrong)} rows, {one.rate:.4f} wrong, suspicion sums to {one.suspicion.mean():.4f}, "
            f"average precision {average_precision_score(one.wrong, one.suspicion):.3f}, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
