"""Harmful rows: planted harm that is found, clean rows that are left alone, and the recall of the candidates.

    python tests/bench/harm.py planted [--seeds 0,1] [--pairs look-alike] [--params head] [--solver lissa] [--retrain 2]
    python tests/bench/harm.py clean FOLDER [--seeds 0,1,2] [--sets fashion] [--solver lissa]
    python tests/bench/harm.py adult FOLDER                    # processor seconds of 32,561 rows on 16,281

FOLDER holds banking77/ (Casanueva et al. 2020) and adult/ (UCI). Each line is a `curate scan` with default parameters.
Planted (the CNN on Fashion-MNIST): 100 rows of one class relabelled to another, harm for the evaluation rows of the
class that lost them; columns: planted rows among the first 100 by harm and among the first 100 by loss within the given
class, `harmful` findings, planted ones among them, the candidates' recall by distance and by head influence (of the 20
strongest rows, all parameters, k = 5 % of the rows). Then, whether these rows do harm: the mean loss of the class's
test rows that no scan saw, by a probe refitted on all rows, without the first 100 by harm, by loss within the given
class, and by planting; with --retrain by the CNN trained again as often, beside the fall that harm predicts.
Clean (the same, banking77 and adult, no label changed): the share of the rows that are `harmful`, and of which
classes.
"""

import argparse
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

import fashion
import numpy as np
import torch
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from curate.engine.probe import fit_probe, probe_inputs
from curate.pipeline.story import scan
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings

HOME = fashion.HOME / "harm"
PLANTED = 100
PAIRS = {"unlike": ("Trouser", "Bag"), "look-alike": ("Shirt", "T-shirt"), "also alike": ("Pullover", "Coat")}
N, N_EVAL = 10_000, 2_000


def workload(pair: tuple[str, str] | None, seed: int, n: int = N, count: int = PLANTED) -> Path:
    """A folder with train.npz, eval.npz, model.py, weights.safetensors and planted.npy; made once."""
    folder = HOME / f"fashion-{'-'.join(pair or ('clean',))}-{seed}{'' if n == N else f'-{n}-{count}'}"
    if (folder / "weights.safetensors").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels = fashion.images("train")
    rows = np.random.default_rng(seed).permutation(len(pixels))[:n]
    given, planted = labels[rows].copy(), np.zeros(n, dtype=bool)
    if pair is not None:
        source, target = (fashion.CLASSES.index(name) for name in pair)
        planted[np.random.default_rng(seed + 1).permutation(np.flatnonzero(given == source))[:count]] = True
        given[planted] = target
    names = np.array(fashion.CLASSES)
    test, test_labels = fashion.images("t10k")
    np.savez(folder / "train.npz", x=pixels[rows], y=names[given])
    np.savez(folder / "eval.npz", x=test[:N_EVAL], y=names[test_labels[:N_EVAL]])
    np.save(folder / "planted.npy", planted)
    (folder / "model.py").write_text(Path(fashion.__file__).read_text())
    x = torch.stack([fashion.transform(image) for image in pixels[rows]])
    model = fashion.train(x, torch.from_numpy(given), epochs=10, weight_decay=5e-3, seed=seed)
    save_file(model.state_dict(), folder / "weights.safetensors")
    return folder


def with_model(folder: Path, **more: object) -> ScanSettings:
    return ScanSettings(
        str(folder / "train.npz"), eval=str(folder / "eval.npz"), model=f"{folder / 'model.py'}:factory",
        weights=(str(folder / "weights.safetensors"),), db=str(folder / "curate.db"), classes=fashion.CLASSES,
        **more,
    )  # fmt: skip


def scanned(settings: ScanSettings) -> tuple[sqlite3.Connection, int, float]:
    """The database, the run in it, and processor seconds."""
    started = time.process_time()
    run = scan(settings, Progress.silent())
    return sqlite3.connect(settings.db), run, time.process_time() - started


def columns(connection: sqlite3.Connection, run: int) -> dict[str, np.ndarray]:
    """Harm, loss, given label and whether it is `harmful`, of the training rows in the order of the source."""
    rows = connection.execute(
        "SELECT s.harm, s.loss, e.label, f.rule IS NOT NULL FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
        "LEFT JOIN findings AS f ON f.run_id = s.run_id AND f.example_id = s.example_id AND f.rule = 'harmful' "
        "WHERE s.run_id = ? AND e.split = 'train' ORDER BY e.position",
        [run],
    ).fetchall()
    return {
        name: np.array(column)
        for name, column in zip(("harm", "loss", "label", "harmful"), zip(*rows, strict=True), strict=True)
    }


def planted(kinds: list[str], seeds: list[int], params: str, solver: str, starts: int) -> None:
    for kind in kinds:
        pair = PAIRS[kind]
        for seed in seeds:
            folder = workload(pair, seed)
            settings = with_model(folder, slice=f"label={pair[0]}", params=params, solver=solver)
            connection, run, seconds = scanned(settings)
            found, truth = columns(connection, run), np.load(folder / "planted.npy")
            by_harm = np.argsort(-found["harm"], kind="stable")[:PLANTED]
            within = np.where(found["label"] == pair[1], found["loss"], -np.inf)
            by_loss = np.argsort(-within, kind="stable")[:PLANTED]
            flagged = found["harmful"].astype(bool)
            (recall,) = connection.execute(
                "SELECT json_extract(detail, '$.recall_by_order_of_candidates') FROM receipts "
                "WHERE run_id = ? AND quantity = 'evaluation influence'",
                [run],
            ).fetchone()  # None at the head, which is scanned whole
            print(
                f"{kind:10} {pair[0]} -> {pair[1]} seed {seed}: by harm {truth[by_harm].sum()}, by loss within the "
                f"class {truth[by_loss].sum()}; harmful {flagged.sum()}, planted {truth[flagged].sum()}; "
                f"recall {recall}; {seconds:.0f} s",
                flush=True,
            )
            groups = {"harm": by_harm, "loss within the class": by_loss, "planting": np.flatnonzero(truth)}
            losses = refitted(folder, pair[0], groups)
            said = ", ".join(f"without those by {name} {loss:.4f}" for name, loss in losses.items() if name)
            print(f"{'':10} loss of {pair[0]}: {losses['']:.4f}, {said}", flush=True)
            if starts:
                fall = found["harm"][by_harm].sum()
                losses = retrained(folder, pair[0], groups, starts)
                said = ", ".join(f"without those by {name} {loss:.4f}" for name, loss in losses.items() if name)
                print(f"{'':10} the CNN trained again {starts} times: {losses['']:.4f}, {said}; "
                      f"predicted fall without those by harm {fall:.3f}", flush=True)  # fmt: skip


def retrained(folder: Path, name: str, groups: dict[str, np.ndarray], starts: int) -> dict[str, float]:
    """As `refitted`, by the mean over CNNs that are trained on the other rows from this many starts."""
    train, (test, labels) = np.load(folder / "train.npz"), fashion.images("t10k")
    x = torch.stack([fashion.transform(image) for image in train["x"]])
    y = torch.tensor([fashion.CLASSES.index(given) for given in train["y"]])
    asked = np.flatnonzero(labels[N_EVAL:] == fashion.CLASSES.index(name)) + N_EVAL
    judged, theirs = torch.stack([fashion.transform(image) for image in test[asked]]), torch.from_numpy(labels[asked])
    found = {}
    for without, rows in ({"": np.empty(0, dtype=int)} | groups).items():
        kept = torch.from_numpy(np.setdiff1d(np.arange(len(y)), rows))
        each = [fashion.train(x[kept], y[kept], epochs=10, weight_decay=5e-3, seed=seed) for seed in range(starts)]
        with torch.no_grad():
            found[without] = float(np.mean([F.cross_entropy(model.eval()(judged), theirs).item() for model in each]))
    return found


def refitted(folder: Path, name: str, groups: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean loss, nats, of the unseen test rows of class ``name`` without each group of training rows; '': with all."""
    model = fashion.factory().eval()
    model.load_state_dict(load_file(str(folder / "weights.safetensors")))
    assert isinstance(model, torch.nn.Sequential)

    @torch.no_grad()
    def features(images: np.ndarray) -> torch.Tensor:
        return model[:-1](torch.stack([fashion.transform(image) for image in images])).double()

    train, (test, labels) = np.load(folder / "train.npz"), fashion.images("t10k")
    x, y = features(train["x"]), torch.tensor([fashion.CLASSES.index(given) for given in train["y"]])
    asked = np.flatnonzero(labels[N_EVAL:] == fashion.CLASSES.index(name)) + N_EVAL
    judged, theirs = features(test[asked]), torch.from_numpy(labels[asked])
    return {
        without: loss_without(rows, x, y, judged, theirs)
        for without, rows in ({"": np.empty(0, dtype=int)} | groups).items()
    }


def loss_without(
    rows: np.ndarray, x: torch.Tensor, y: torch.Tensor, judged: torch.Tensor, labels: torch.Tensor
) -> float:
    """Mean loss, nats, of judged rows by a probe refitted to features and labels without some training rows."""
    kept = torch.from_numpy(np.setdiff1d(np.arange(len(y)), rows))
    head, _ = fit_probe(x[kept], y[kept], len(fashion.CLASSES))
    return float(F.cross_entropy(head.logits(probe_inputs(judged).to(head.weights)), labels))


def part(file: Path, seed: int, rows: int) -> Path:
    """A random part of a parquet file, as a file."""
    table = parquet.read_table(file)
    HOME.mkdir(parents=True, exist_ok=True)
    out = HOME / f"{file.parent.name}-{seed}.parquet"
    parquet.write_table(table.take(np.sort(np.random.default_rng(seed).permutation(len(table))[:rows])), out)
    return out


CLEAN = ("banking77", "adult", "fashion")


def clean_set(name: str, data: Path, seed: int, solver: str) -> ScanSettings:
    if name == "fashion":
        return with_model(workload(None, seed), solver=solver)
    rows = part(data / name / "train.parquet", seed, 5_000 if name == "banking77" else 10_000)
    evaluation, label = str(data / name / "test.parquet"), {"label": "income"} if name == "adult" else {}
    return ScanSettings(str(rows), eval=evaluation, db=str(HOME / f"{name}-{seed}.db"), **label)


def clean(names: list[str], data: Path, seeds: list[int], solver: str) -> None:
    for seed in seeds:
        for name in names:
            connection, run, seconds = scanned(clean_set(name, data, seed, solver))
            found = columns(connection, run)
            flagged = found["harmful"].astype(bool)
            share = f"{flagged.sum()} of {len(flagged):,} rows, {flagged.mean():.2%}"
            classes = ", ".join(f"{label} {n}" for label, n in Counter(found["label"][flagged]).most_common(6))
            print(f"{name:10} seed {seed}: {share} ({classes}); {seconds:.0f} s", flush=True)


def adult(data: Path) -> None:
    settings = ScanSettings(
        str(data / "adult/train.parquet"), eval=str(data / "adult/test.parquet"), label="income", cache=False,
        db=str(HOME / "adult.db"),
    )  # fmt: skip
    HOME.mkdir(parents=True, exist_ok=True)
    connection, run, seconds = scanned(settings)
    flagged = columns(connection, run)["harmful"].astype(bool)
    (influence,) = connection.execute(
        "SELECT seconds FROM receipts WHERE run_id = ? AND quantity = 'evaluation influence'", [run]
    ).fetchone()
    print(
        f"adult: {seconds:.0f} processor seconds, {influence:.0f} s of it head influence; {flagged.mean():.2%} harmful"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("planted", "clean", "adult"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--pairs", default=",".join(PAIRS), help="for planted")
    parser.add_argument("--sets", default=",".join(CLEAN), help="for clean")
    parser.add_argument("--params", default="auto", help="for planted")
    parser.add_argument("--solver", default="auto", help="for the networks")
    parser.add_argument("--retrain", type=int, default=0, help="for planted: trainings of each CNN")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    if options.what == "planted":
        planted(options.pairs.split(","), seeds, options.params, options.solver, options.retrain)
    elif options.folder is None:
        sys.exit(f"{options.what} needs the FOLDER that holds banking77/ and adult/")
    elif options.what == "clean":
        clean(options.sets.split(","), options.folder, seeds, options.solver)
    else:
        adult(options.folder)
