"""Networks that know their labels by heart, and clean ones that must not be accused.

    python tests/bench/memory.py [known] [alike] [clean] [tables]

*known*: five recipes of a CNN trained until it repeats at least half of the planted wrong labels; whether that is
said, average precision and F1 beside cleanlab 2 on five retrainings of the same recipe, and the sum of suspicion over
the number of wrong labels, its log loss and its reliability. *alike*: the same with flips between look-alike classes,
of which inputs and early features are not sure. *clean*: five regularised networks on labels as they are; whether they
are accused. *tables*: a perceptron on optdigits (KEEL), regularised on clean labels and with both kinds of flips known
by heart. Fashion-MNIST comes from Debian's dataset-fashion-mnist, digits from scikit-learn.

That a network that is sure of a row and changes its mind half way to the nearest other row knows labels by heart, and
from which share of such rows on (`BRITTLE`), was chosen on 2,000 rows of Fashion-MNIST (seed 0), on its trousers,
T-shirts, sneakers and bags, and on penbased and letter; all that is named above is to judge on, and nothing of the rule
was run on it before the rule stood.
"""

import sys
from pathlib import Path

import detection
import fashion
import numpy as np
import perceptron
import sets
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from curate.settings.merge import ScanSettings
from curate.stages.suspicion import Judged

HOME = fashion.HOME / "memory"
MEMORISING = {"epochs": 80, "weight_decay": 0.0}
REGULARISED = {"epochs": 15, "weight_decay": 5e-3}
KNOWN = (("fashion", 500), ("fashion", 1_000), ("fashion", 2_000), ("fashion", 5_000), ("digits", 1_500))
EASY = (1, 5, 8, 9)
"""Trousers, sandals, bags and ankle boots: classes that a small network tells apart on 98 % of unseen rows."""
LOOKALIKE_DIGITS = (6, 8, 1, 9, 9, 6, 5, 9, 1, 7)
"""Of each digit the one that it is most taken for."""
TABLE_ROWS = 1_500
TABLE_MEMORISING = {"epochs": 150, "weight_decay": 0.0, "width": 512}
TABLE_REGULARISED = {"epochs": 20, "weight_decay": 0.1, "width": 512}
CLEAN = (("digits", 0), ("digits", 1), ("easy", 0), ("easy", 1), ("easy", 2))


def rows_of(kind: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pictures [n 28 28] uint8 and labels to train on, and others to test on."""
    if kind == "digits":
        found = load_digits()
        pictures = np.zeros((len(found.images), 28, 28), dtype=np.uint8)
        pictures[:, 2:26, 2:26] = np.kron(found.images, np.ones((3, 3))) * (255 / 16)
        order = np.random.default_rng(seed).permutation(len(pictures))
        cut = min(n, len(order) - 200)
        return pictures[order[:cut]], found.target[order[:cut]], pictures[order[cut:]], found.target[order[cut:]]
    pixels, labels = fashion.images("train")
    test, theirs = fashion.images("t10k")
    if kind == "easy":
        pixels, labels = pixels[np.isin(labels, EASY)], labels[np.isin(labels, EASY)]
        test, theirs = test[np.isin(theirs, EASY)], theirs[np.isin(theirs, EASY)]
    rows = np.random.default_rng(seed).permutation(len(pixels))[:n]
    return pixels[rows], labels[rows], test, theirs


def tensors(pictures: np.ndarray) -> torch.Tensor:
    return torch.stack([fashion.transform(picture) for picture in pictures])


def settings(name: str, pictures: np.ndarray, given: np.ndarray, model: torch.nn.Module) -> ScanSettings:
    folder = HOME / name
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "train.npz", x=pictures, y=np.array([f"c{label}" for label in given]))
    (folder / "model.py").write_text(Path(fashion.__file__).read_text())
    save_file(model.state_dict(), folder / "weights.safetensors")
    return ScanSettings(
        str(folder / "train.npz"),
        model=f"{folder / 'model.py'}:factory",
        weights=(str(folder / "weights.safetensors"),),
        cache=False,
        classes=tuple(f"c{label}" for label in range(10)),
    )


def right(model: torch.nn.Module, x: torch.Tensor, labels: np.ndarray) -> float:
    with torch.no_grad():
        guesses = torch.cat([model(part).argmax(1) for part in x.split(1000)]).numpy()
    return float((guesses == labels).mean())


def lookalike(kind: str, clean: np.ndarray) -> np.ndarray:
    """A tenth of the labels changed to that of the class that looks most alike."""
    if kind == "fashion":
        return fashion.flipped(clean, 0.1, "lookalike", 31)
    return detection.noisy(clean, 0.1, "lookalike", 31, np.array(LOOKALIKE_DIGITS))


def known() -> None:
    told("uniform")


def alike() -> None:
    told("lookalike")


def told(flips: str) -> None:
    """A line for each recipe of `KNOWN`, with flips of this kind."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    print("set\trows\trepeated\tsaid\tevidence\twavering\tap\tf1\tcleanlab\tcleanlab_f1\tsum\tlog_loss\treliability")
    for kind, n in KNOWN:
        pictures, clean, _, _ = rows_of(kind, n, 0)
        given = fashion.flipped(clean, 0.1, "uniform", 31) if flips == "uniform" else lookalike(kind, clean)
        x = tensors(pictures)
        model = fashion.train(x, torch.from_numpy(given), seed=0, **MEMORISING)
        wrong = given != clean
        repeated = right(model, x[torch.from_numpy(wrong)], given[wrong])
        data, judged, _ = detection.scanned(settings(f"known-{flips}-{kind}-{n}", pictures, given, model))
        order = np.array(data.train.indices)
        p = detection.networks(MEMORISING, x, given, 0)
        scores = [-get_label_quality_scores(given, p, method=m) for m in ("self_confidence", "normalized_margin")]
        suspicion = judged.train.suspicion
        numbers = [
            average_precision_score(wrong[order], suspicion),
            detection.f1(suspicion > judged.cut, wrong[order]),
            max(average_precision_score(wrong, score) for score in scores),
            detection.f1(find_label_issues(given, p), wrong),
            float(suspicion.sum() / wrong.sum()),
            detection.log_loss(suspicion, wrong[order]),
            detection.reliability(suspicion, wrong[order]),
        ]
        row = [kind, str(n), f"{repeated:.2f}", *accused(judged), *(f"{value:.3f}" for value in numbers)]
        print("\t".join(row), flush=True)


def accused(judged: Judged) -> list[str]:
    """Whether the network is said to know its labels by heart, the evidence, and the share of wavering rows."""
    memory = judged.panel.memory
    if memory is None:
        return ["not asked", "-", "-"]
    wavering = "-" if memory.wavering is None else f"{memory.wavering:.3f}"
    return ["by heart" if memory.by_heart else "no", f"{memory.evidence:.2f}", wavering]


def clean() -> None:
    print("set\tseed\ttrain\ttest\taccused\tevidence\twavering\tflagged")
    for kind, seed in CLEAN:
        pictures, labels, test, theirs = rows_of(kind, 2_000, seed)
        x = tensors(pictures)
        model = fashion.train(x, torch.from_numpy(labels), seed=seed, **REGULARISED)
        _, judged, _ = detection.scanned(settings(f"clean-{kind}-{seed}", pictures, labels, model))
        accuracies = [f"{right(model, x, labels):.3f}", f"{right(model, tensors(test), theirs):.3f}"]
        flagged = f"{(judged.train.suspicion > judged.cut).mean():.3f}"
        print("\t".join([kind, str(seed), *accuracies, *accused(judged), flagged]), flush=True)


def tables() -> None:
    """Optdigits: 1,500 rows to train a perceptron on, the others to test it on."""
    features, labels = sets.judging("optdigits", Path(), detection.encoded)
    order = np.random.default_rng(0).permutation(len(labels))
    x, labels = perceptron.standardised(features[order], TABLE_ROWS), labels[order]
    clean, classes = labels[:TABLE_ROWS], int(labels.max()) + 1
    partner = detection.lookalikes(x[:TABLE_ROWS], clean)
    print("labels\ttrain\ttest\trepeated\taccused\tevidence\twavering\tap\tf1")
    for flips, recipe in (("clean", TABLE_REGULARISED), ("uniform", TABLE_MEMORISING), ("lookalike", TABLE_MEMORISING)):
        given = clean if flips == "clean" else detection.noisy(clean, 0.1, flips, 31, partner)
        parts = {"train": (x[:TABLE_ROWS], given)}
        asked, model = perceptron.workload(HOME / f"optdigits-{flips}", parts, classes, recipe)
        data, judged, _ = detection.scanned(asked)
        rows, wrong = np.array(data.train.indices), given != clean
        with torch.no_grad():
            fitted, test = np.split(model(torch.from_numpy(x)).argmax(1).numpy(), [TABLE_ROWS])
        found = [float((fitted == given).mean()), float((test == labels[TABLE_ROWS:]).mean())]
        suspicion, measured = judged.train.suspicion, ["-", "-"]
        if wrong.any():
            found.append(float((fitted == given)[wrong].mean()))
            flags = detection.f1(suspicion > judged.cut, wrong[rows])
            measured = [f"{average_precision_score(wrong[rows], suspicion):.3f}", f"{flags:.3f}"]
        accuracies = [f"{value:.3f}" for value in found] + ["-"] * (3 - len(found))
        print("\t".join([flips, *accuracies, *accused(judged), *measured]), flush=True)


if __name__ == "__main__":
    for part in sys.argv[1:] or ["known", "alike", "clean", "tables"]:
        {"known": known, "alike": alike, "clean": clean, "tables": tables}[part]()
