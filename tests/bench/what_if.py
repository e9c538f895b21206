"""What-if against refits: groups of rows left out at the probe, and flagged rows relabelled.

    python tests/bench/what_if.py drop [--seeds 0,1,2]          # Fashion-MNIST, the probe on a CNN's features
    python tests/bench/what_if.py relabel FOLDER [--seeds 0]    # Fashion-MNIST CNN retrained, banking77 probe

FOLDER holds banking77/ (Casanueva et al. 2020).

Drop: 5,000 rows, a tenth of the labels changed; the top 1, 10, 50 and 100 rows by harm, and random groups of these
sizes. Predicted and actual change of the mean loss of 1,000 evaluation rows, Spearman over the groups, and the slope of
actual on predicted over the groups of up to 50 rows.
Relabel: a tenth of the labels changed, uniform and look-alike. Loss of the evaluation rows after training on the noisy
labels, on the noisy ones with the flagged rows given their suggested label, and on the clean ones (the mean of five
trainings of a network); the share of the gap between noisy and clean that is closed.
"""

import argparse
import sys
from pathlib import Path

import detection
import fashion
import numpy as np
import torch
from pyarrow import parquet
from scipy.stats import spearmanr
from torch.nn import functional as F

from curate.engine.neighbours import Neighbours
from curate.engine.probe import fit_probe, probe_inputs
from curate.experiments.verify.refit import Recipe, TrainingSet
from curate.experiments.verify.rows import Selection
from curate.experiments.verify.setting import prepare
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.heads import fit_heads
from curate.stages.prepare import Data, load, read
from curate.stages.suspicion import judge_rows

SILENT = Progress.silent()
SIZES = (1, 10, 50, 100)
TRAININGS = 5
"""Of a network on each set of labels: one alone moves the loss by about as much as some wrong labels do."""


def settings_of(folder: Path) -> ScanSettings:
    return ScanSettings(
        str(folder / "train.npz"), eval=str(folder / "eval.npz"), model=f"{folder / 'model.py'}:factory",
        weights=(str(folder / "weights.safetensors"),), classes=fashion.CLASSES, db=str(folder / "curate.db"),
    )  # fmt: skip


def drop(seeds: list[int]) -> None:
    for seed in seeds:
        settings = settings_of(fashion.make(5_000, 1_000, 0.1, "uniform", seed))
        data = read(settings, load(settings, SILENT), SILENT)
        setting = prepare(settings, data, fit_heads(data), at="probe", recipe=Recipe(), progress=SILENT)
        order = setting.predictor.drop().argsort()  # the most harmful first
        random = torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))
        unchanged = setting.refit(TrainingSet.of(data.train))
        predicted, actual, sizes = [], [], []
        for name, rows in (("top", order), ("random", random)):
            for size in SIZES:
                selection = Selection(rows[:size], None, name)
                predicted.append(setting.predicted(selection).loss)
                actual.append(setting.change(unchanged, setting.refit(setting.changed(selection))).loss)
                sizes.append(size)
                print(
                    f"seed {seed}: {name:6} {size:3}: predicted {predicted[-1]:+.5f}, actual {actual[-1]:+.5f}",
                    flush=True,
                )
        few = np.array(sizes) <= 50
        slope = np.polyfit(np.array(predicted)[few], np.array(actual)[few], 1)[0]
        print(
            f"seed {seed}: Spearman {spearmanr(predicted, actual)[0]:.3f}, slope up to 50 rows {slope:.3f}", flush=True
        )


def suggested(data: Data) -> tuple[np.ndarray, int]:
    """The training labels with the flagged rows relabelled, in the order of the source, and how many these are."""
    judged = judge_rows(data, fit_heads(data), Neighbours(data.train.features, 0), SILENT)
    # As `--what-if relabel` chooses: flagged, and the suggested label likelier than the given one.
    likelier = judged.train.suggested_probability > 1 - judged.train.suspicion
    flagged = (judged.train.suspicion > judged.cut) & likelier
    labels = np.where(flagged, judged.train.suggested, data.train.labels.numpy())
    return labels[np.argsort(data.train.indices)], int(flagged.sum())


def told(name: str, losses: list[float], flagged: int) -> None:
    noisy, mended, clean = losses
    closed = (noisy - mended) / (noisy - clean)
    print(f"{name}: {flagged} relabelled; loss noisy {noisy:.4f}, relabelled {mended:.4f}, clean {clean:.4f}: "
          f"{closed:.0%} of the gap closed", flush=True)  # fmt: skip


def relabel_fashion(kind: str, seed: int) -> None:
    recipe = detection.RECIPES["regularised"]
    folder = fashion.make(5_000, 1_000, 0.1, kind, seed, **recipe)
    settings = settings_of(folder)
    data = read(settings, load(settings, SILENT), SILENT)
    mended, flagged = suggested(data)
    stored, number = np.load(folder / "train.npz"), {name: index for index, name in enumerate(fashion.CLASSES)}
    given, clean = (
        np.array([number[name] for name in names]) for names in (stored["y"], np.load(folder / "clean.npy"))
    )
    x = torch.stack([fashion.transform(image) for image in stored["x"]])
    test = np.load(folder / "eval.npz")
    theirs = torch.stack([fashion.transform(image) for image in test["x"]])
    labels = torch.tensor([number[name] for name in test["y"]])
    losses = []
    for y in (given, mended, clean):
        runs = []
        for start in range(TRAININGS):
            model = fashion.train(x, torch.from_numpy(y), seed=seed + 1000 * start, **recipe)
            with torch.no_grad():
                runs.append(float(F.cross_entropy(model(theirs), labels)))
        losses.append(sum(runs) / len(runs))
    told(f"fashion {kind} seed {seed}", losses, flagged)


def relabel_banking(folder: Path, kind: str, seed: int) -> None:
    train, test = (parquet.read_table(folder / f"banking77/{part}.parquet") for part in ("train", "test"))
    texts = ScanSettings(
        str(folder / "banking77/train.parquet"), eval=str(folder / "banking77/test.parquet"), cache=False
    )
    data = read(texts, load(texts, SILENT), SILENT)
    order = np.argsort(data.train.indices)
    features, clean = data.train.features.numpy()[order], data.train.labels.numpy()[order]
    assert len(clean) == len(train)
    assert len(data.evaluation) == len(test)
    given = detection.noisy(clean, 0.1, kind, seed, detection.lookalikes(features, clean))
    workload = detection.features_only(f"banking77 what-if {kind} {seed}", features, given, clean)
    settings = workload.settings
    mended, flagged = suggested(read(settings, load(settings, SILENT), SILENT))
    theirs = probe_inputs(data.evaluation.features)
    losses = []
    for y in (given, mended, clean):
        head, _ = fit_probe(torch.from_numpy(features), torch.from_numpy(y.astype(np.int64)), data.classes)
        losses.append(float(F.cross_entropy(head.logits(theirs.to(head.weights)), data.evaluation.labels)))
    told(f"banking77 {kind} seed {seed}", losses, flagged)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("drop", "relabel"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    if options.what == "drop":
        drop(seeds)
    elif options.folder is None:
        sys.exit("relabel needs the FOLDER that holds banking77/")
    else:
        for seed in seeds:
            for kind in ("uniform", "lookalike"):
                relabel_fashion(kind, seed)
                relabel_banking(options.folder, kind, seed)
