"""Suspicion on the sets to judge on, beside peers whose penalty is tuned over the same ladder.

    python tests/bench/judge.py FOLDER [--sets REGEX] [--seeds 3] [--small-seeds 10] [--choose] [--before CHECKOUT]

A tenth and a fifth of the labels are changed to any other class (`sets.py` says which sets, and that the split stood
first). The baseline: the probe fitted five times on frozen features, its penalty and its scaling of rows or of columns
chosen by held-out log loss, and on these probabilities cleanlab 2's two scores and default flags (Northcutt et al.
2021) and `argmax != label`; the share of other labels among the 15 nearest rows; and, of the first seed, our own pool
with each expert fitted five times in place of left out (`folded`). `--before` scans the tables of FOLDER with the code
of another checkout too, by its command.

Prints a line a case, and paired by set: the mean gain in average precision over cleanlab's better score with its 95 %
interval over cases, the share of sets above it, F1 against the best of cleanlab's flags and argmax, log loss and
reliability (the gap between suspicion and the share of wrong labels, mean over rows in ten bins), and processor seconds
of both.
"""

import argparse
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import detection
import numpy as np
import sets
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from curate.engine.neighbours import Neighbours
from curate.engine.probe import fit_softmax, penalties, probe_inputs
from curate.engine.suspicion.crossfit import LADDER, Copies, likelihood
from curate.engine.suspicion.experts import LAST_WIDTH, Material, find_basis, scaling_of
from curate.engine.suspicion.panel import LAST, panel_for
from curate.plugs import EXPERTS
from curate.process.progress import Progress
from curate.stages.groups import together
from curate.stages.prepare import Data

SHARES = (0.1, 0.2)
SMALL_ROWS = 1_000


def tuned_probes(data: Data) -> np.ndarray:
    """Five-fold probabilities of the scaling and penalty with the best held-out log loss, ``[n C]``."""
    features, labels = data.train.features, data.train.labels
    sizes, group = together(data.train.sha256, data.groups)
    material = Material(
        features, labels, data.classes, Copies(group, sizes), Neighbours(features, 0), False, 0, Progress.silent(), ""
    )
    scaled = scaling_of(material)(features)
    found: list[tuple[float, torch.Tensor]] = []
    for x in (probe_inputs(features), torch.cat([scaled, scaled.new_ones(len(scaled), 1)], dim=1)):
        parts = [torch.zeros(len(labels), data.classes) for _ in LADDER]
        for fit, held in detection.folds(labels.numpy()):
            start = None
            for part, penalty in zip(parts, LADDER, strict=True):
                head = fit_softmax(x[fit], labels[fit], data.classes, penalties(penalty, x), start, tolerance=1e-3)
                part[held], start = head.logits(x[held]).softmax(1), head.weights
        found += [(likelihood(part, labels), part) for part in parts]
    return max(found, key=lambda pair: pair[0])[1].double().numpy()


def folded_pool(data: Data) -> np.ndarray:
    """Suspicion from the same experts, each fitted to four fifths of the rows and asked about the rest."""
    features, labels = data.train.features, data.train.labels
    wide = features.shape[1] > LAST_WIDTH
    if wide:
        features = find_basis(features, 0, LAST_WIDTH)(features)
    said = {name: np.zeros((len(labels), data.classes)) for name in EXPERTS}
    for fit, held in detection.folds(labels.numpy()):
        copies = Copies(torch.arange(len(fit)), torch.ones(len(fit), dtype=torch.long))
        near = Neighbours(features[fit], 0)
        material = Material(
            features[fit], labels[fit], data.classes, copies, near, False, 0, Progress.silent(), "", wide
        )
        for name, expert in EXPERTS.items():
            said[name][held] = expert.load()(material).unseen(features[held])
    panel = panel_for({LAST: said}, labels.numpy(), agrees=None, seed=0)
    return panel.judgement({LAST: said}, labels.numpy()).suspicion


def before(checkout: Path, table: str, rows: int) -> np.ndarray:
    """Suspicion of the rows of ``table``, in its order, by `curate scan` of another checkout."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "curate", "scan", table, "--db", f"{folder}/curate.db"]
        environment = os.environ | {"PYTHONPATH": str(checkout), "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode > 1:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2_000:]}")
        with sqlite3.connect(f"{folder}/curate.db") as database:
            query = "SELECT position, suspicion FROM scores JOIN examples ON example_id = id WHERE split = 'train'"
            found = dict(database.execute(query).fetchall())
    return np.array([found[row] for row in range(rows)])


def neighbours(features: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Share of other labels among the 15 nearest rows."""
    near = NearestNeighbors(n_neighbors=min(16, len(given))).fit(features).kneighbors(return_distance=False)
    return (given[near[:, :15]] != given[:, None]).mean(1)


def measure(
    name: str, features: np.ndarray, clean: np.ndarray, share: float, seed: int, checkout: Path | None
) -> dict[str, float]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    given = detection.noisy(clean, share, "uniform", 1_000 + seed, np.zeros(int(clean.max()) + 1, dtype=int))
    workload = detection.features_only(f"judge {name} {share:g} {seed}", features, given, clean)
    data, judged, seconds = detection.scanned(workload.settings)
    order = np.array(data.train.indices)
    earlier = None if checkout is None else before(checkout, workload.settings.train, len(clean))[order]
    Path(workload.settings.train).unlink()
    wrong, labels = (given != clean)[order], data.train.labels.numpy()
    started = time.process_time()
    p = tuned_probes(data)
    peer_seconds = time.process_time() - started
    scores = [-get_label_quality_scores(labels, p, method=m) for m in ("self_confidence", "normalized_margin")]
    suspicion = judged.train.suspicion
    return {
        "rows": len(labels),
        "ap": average_precision_score(wrong, suspicion),
        "cleanlab": max(average_precision_score(wrong, score) for score in scores),
        "nearest": average_precision_score(wrong, neighbours(data.train.features.numpy(), labels)),
        "folded": average_precision_score(wrong, folded_pool(data)) if seed == 0 else np.nan,
        "before": np.nan if earlier is None else average_precision_score(wrong, earlier),
        "f1": detection.f1(suspicion > judged.cut, wrong),
        "cleanlab_f1": detection.f1(find_label_issues(labels, p), wrong),
        "argmax_f1": detection.f1(p.argmax(1) != labels, wrong),
        "sum": float(suspicion.sum() / wrong.sum()),
        "log_loss": detection.log_loss(suspicion, wrong),
        "reliability": detection.reliability(suspicion, wrong),
        "seconds": seconds,
        "peer_seconds": peer_seconds,
    }


def summary(cases: dict[str, list[dict[str, float]]]) -> None:
    gains = {name: np.array([case["ap"] - case["cleanlab"] for case in own]) for name, own in cases.items()}
    flags = {
        name: np.mean([case["f1"] - max(case["cleanlab_f1"], case["argmax_f1"]) for case in own])
        for name, own in cases.items()
    }
    mean = {name: float(own.mean()) for name, own in gains.items()}
    half = {name: 1.96 * float(own.std(ddof=1)) / len(own) ** 0.5 if len(own) > 1 else np.inf
            for name, own in gains.items()}  # fmt: skip
    below = [name for name in cases if mean[name] + half[name] < -0.02]
    first = [case for own in cases.values() for case in own if not np.isnan(case["folded"])]
    every = [case for own in cases.values() for case in own]
    print(
        f"\n{len(cases)} sets, {len(every)} cases: gain in average precision over cleanlab's better score "
        f"{np.mean(list(mean.values())):+.3f} on the mean of the sets, above it on "
        f"{np.mean([value > 0 for value in mean.values()]):.0%}; wholly below -0.02: {', '.join(below) or 'none'}; "
        f"F1 above cleanlab's and argmax's on {np.mean([value > 0 for value in flags.values()]):.0%} of the sets; "
        f"sum of suspicion over the truth {np.exp(np.mean([np.log(case['sum']) for case in every])):.2f}; log loss "
        f"{np.mean([case['log_loss'] for case in every]):.3f}; reliability "
        f"{np.mean([case['reliability'] for case in every]):.3f}; processor seconds "
        f"{sum(case['seconds'] for case in every):.0f}, peer {sum(case['peer_seconds'] for case in every):.0f}; "
        f"of the first seed {np.mean([case['ap'] for case in first]):.3f}, our pool in five folds "
        f"{np.mean([case['folded'] for case in first]):.3f}"
    )
    for name, own in cases.items():
        against = np.array([case["ap"] - case["before"] for case in own])
        if not np.isnan(against).any():
            half_width = 1.96 * against.std(ddof=1) / len(against) ** 0.5 if len(against) > 1 else np.inf
            print(f"{name}: {against.mean():+.3f} ± {half_width:.3f} against the other checkout")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", default=".", help="regular expression over the sets' names")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--small-seeds", type=int, default=10, help=f"seeds of sets under {SMALL_ROWS:,} rows")
    parser.add_argument("--before", type=Path, help="another checkout, scanned by its command for comparison")
    parser.add_argument("--choose", action="store_true", help="the sets to choose on instead")
    asked = parser.parse_args()
    cases: dict[str, list[dict[str, float]]] = {}
    for name in sets.CHOOSE if asked.choose else sets.JUDGE:
        if not re.search(asked.sets, name):
            continue
        features, clean = sets.judging(name, asked.folder, detection.encoded)
        for share in SHARES:
            for seed in range(asked.small_seeds if len(clean) < SMALL_ROWS else asked.seeds):
                case = measure(name, features, clean, share, seed, asked.before if name in sets.JUDGE_DATA else None)
                if not cases:
                    print("\t".join(["set", "share", "seed", *case]))
                cases.setdefault(name, []).append(case)
                told = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in case.values()]
                print("\t".join([name, f"{share:g}", str(seed), *told]), flush=True)
    summary(cases)


if __name__ == "__main__":
    sys.exit(main())
