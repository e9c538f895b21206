"""What suspicion costs where there is no network, beside five-fold probes whose penalty is tuned over the same ladder.

    python tests/bench/cost.py FOLDER [--sets REGEX]

A tenth of the labels is changed. Processor seconds of what `curate scan` computes up to suspicion once the data are
read, and of `judge.tuned_probes`: five folds, two scalings, three penalties, warm-started along the ladder, by our own
solver. FOLDER is that of `judge.py`; more rows than a set has are not asked for.
"""

import argparse
import re
import sys
import time
from pathlib import Path

import detection
import judge
import numpy as np

CASES = {
    "adult": (2_000, 5_000, 10_000, 20_000, 30_000),
    "mammography": (2_000, 5_000, 10_000),
    "banking77": (2_000, 5_000, 10_000),
    "cifar10n": (2_000, 5_000),
}


def rows_of(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All rows of a set as curate encodes them, and their class numbers."""
    if name == "mammography":
        return detection.encoded(folder / "small_tabular/mammography.csv", label="-1", header=False)
    if name == "cifar10n":
        labels = np.load(folder / "cifar10n_dev/cifar10n_dev_5k.npz")["clean_label"].astype(np.int64)
        return detection.kept("cifar10n", lambda: (detection.pictures(folder), labels))
    return detection.encoded(folder / f"{name}/train.parquet", label="income" if name == "adult" else "label")


def measured(name: str, features: np.ndarray, clean: np.ndarray) -> tuple[float, float]:
    """Processor seconds of our stage and of the peer."""
    given = detection.noisy(clean, 0.1, "uniform", 1_000, np.zeros(int(clean.max()) + 1, dtype=int))
    workload = detection.features_only(f"cost {name} {len(clean)}", features, given, clean)
    data, _, ours = detection.scanned(workload.settings)
    Path(workload.settings.train).unlink()
    started = time.process_time()
    judge.tuned_probes(data)
    return ours, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", default=".", help="regular expression over the sets' names")
    asked = parser.parse_args()
    print("| set | rows | columns | classes | seconds | five folds | ratio |\n|---|---|---|---|---|---|---|")
    for name, sizes in CASES.items():
        if not re.search(asked.sets, name):
            continue
        features, labels = rows_of(name, asked.folder)
        order = np.random.default_rng(7).permutation(len(labels))
        for size in sizes:
            rows = np.sort(order[:size])
            ours, peer = measured(name, features[rows], np.unique(labels[rows], return_inverse=True)[1])
            shape = f"{len(rows):,} | {features.shape[1]:,} | {len(np.unique(labels[rows]))}"
            print(f"| {name} | {shape} | {ours:.1f} | {peer:.1f} | {ours / peer:.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
