"""Rows that a network never saw: suspicion of an evaluation set beside cleanlab on the network's own probabilities.

    python tests/bench/unseen.py FOLDER [SET ...]

*fashion*: Fashion-MNIST's 10,000 test rows, judged by a CNN trained on 10,000 clean rows; that labels change alike on
such rows (`panel_on_unseen`) was chosen on draws of it. It is judged on the others, on which nothing was chosen:
*optdigits* (KEEL), *adult* and *banking77* by TF-IDF (FOLDER), a regularised perceptron trained on one half of the
rows and asked about the other; *cifar10n*: the same on frozen image features, whose other half has the labels that
people gave as well, at three levels. 0.2 (ten draws), 1 and 10 % (three draws each) of the labels are changed to any
other class; labels that were wrong before count as right. Prints average precision beside cleanlab's better score.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import detection
import fashion
import memory
import numpy as np
import perceptron
import sets
import torch
from sklearn.metrics import average_precision_score

from curate.engine.neighbours import Neighbours
from curate.engine.suspicion.panel import HEAD, panel_on_unseen
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.heads import fit_heads
from curate.stages.prepare import load, read
from curate.stages.suspicion import depths_of, readings_of

HOME = fashion.HOME / "unseen"
RECIPE = {"epochs": 20, "weight_decay": 0.1, "width": 64}
SHARES = ((0.002, 10), (0.01, 3), (0.1, 3))
"""Of labels changed, and in how many draws."""
LEVELS = ("aggre_label", "random_label1", "worse_label")


def pictures() -> ScanSettings:
    """Fashion-MNIST: its training rows, and its test rows as the evaluation set."""
    images, labels, test, theirs = memory.rows_of("fashion", 10_000, 0)
    model = fashion.train(memory.tensors(images), torch.from_numpy(labels), seed=0, **memory.REGULARISED)
    asked = memory.settings("unseen", images, labels, model)
    file = memory.HOME / "unseen" / "eval.npz"
    np.savez(file, x=test, y=np.array([f"c{label}" for label in theirs]))
    return replace(asked, eval=str(file))


def halves(name: str, features: np.ndarray, labels: np.ndarray) -> ScanSettings:
    """A perceptron trained on the first half of the rows; the other half is the evaluation set."""
    cut, x = len(labels) // 2, perceptron.standardised(features, len(labels) // 2)
    parts = {"train": (x[:cut], labels[:cut]), "eval": (x[cut:], labels[cut:])}
    return perceptron.workload(HOME / name, parts, int(labels.max()) + 1, RECIPE)[0]


def shuffled(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows in a fixed random order, and that order."""
    order = np.random.default_rng(0).permutation(len(labels))
    return features[order], labels[order], order


def changed(truth: np.ndarray, classes: int) -> Iterator[tuple[str, np.ndarray]]:
    """Labels with a share changed to any other class, and what to call the draw."""
    for share, draws in SHARES:
        for draw in range(draws):
            noisy = detection.noisy(truth, share, "uniform", 100 + draw, np.zeros(classes, dtype=int))
            yield f"{share:g}", noisy


def asked(settings: ScanSettings) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Suspicion of the evaluation rows by their given labels; the network's own probabilities, the rows' true labels
    and their places in the source."""
    silent = Progress.silent()
    data = read(settings, load(settings, silent), silent)
    heads, near = fit_heads(data), Neighbours(data.train.features, 0)
    readings = readings_of(data, depths_of(data, near, 0, silent))
    experts = {name: reading.experts for name, reading in readings.items()}
    own = heads.probabilities(data.evaluation)
    experts[HEAD] = {"head": own}

    def suspicion(given: np.ndarray) -> np.ndarray:
        return panel_on_unseen(experts, given, 0).judgement(experts, given).suspicion

    return suspicion, own, data.evaluation.labels.numpy(), np.array(data.evaluation.indices)


def compared(name: str, settings: ScanSettings, human: dict[str, np.ndarray] | None = None) -> None:
    """``human``: labels that people gave the evaluation rows, in the order of the source."""
    from cleanlab.rank import get_label_quality_scores

    suspicion, own, truth, places = asked(settings)
    print(f"{name}: {len(truth):,} rows, the network is right on {(own.argmax(1) == truth).mean():.1%}", flush=True)
    cases = list(changed(truth, own.shape[1]))
    cases += [(level, given[places]) for level, given in (human or {}).items()]
    found: dict[str, list[tuple[float, float]]] = {}
    for case, given in cases:
        wrong = given != truth
        scores = [-get_label_quality_scores(given, own, method=m) for m in ("self_confidence", "normalized_margin")]
        peer = max(average_precision_score(wrong, score) for score in scores)
        found.setdefault(case, []).append((average_precision_score(wrong, suspicion(given)), peer))
    for case, pairs in found.items():
        ours, theirs = np.mean(pairs, axis=0)
        print(f"| {name} | {case} | {len(pairs)} | {ours:.3f} | {theirs:.3f} | {ours - theirs:+.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="*", default=("fashion", "optdigits", "adult", "banking77", "cifar10n"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.sets:
        if name == "fashion":
            compared(name, pictures())
        elif name == "cifar10n":
            stored = np.load(options.folder / "cifar10n_dev/cifar10n_dev_5k.npz")
            clean = stored["clean_label"].astype(np.int64)
            made = detection.kept("cifar10n", lambda: (detection.pictures(options.folder), clean))  # noqa: B023
            features, labels, order = shuffled(*made)
            people = {level: stored[level].astype(np.int64)[order][len(labels) // 2 :] for level in LEVELS}
            compared(name, halves(name, features, labels), people)
        else:
            features, labels, _ = shuffled(*sets.judging(name, options.folder, detection.encoded))
            compared(name, halves(name, features, labels))


if __name__ == "__main__":
    main()
