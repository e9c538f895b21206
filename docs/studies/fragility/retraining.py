"""Linear datamodeling scores: does influence predict what training again without half, or a tenth, of the rows does?

    python docs/studies/fragility/retraining.py [--quick] [--folder DATA] [--out FOLDER]

Six networks on three data sets (`tests/bench/lds_networks.py`), trained again from the start on random subsets of
their rows, two seeds each; the loss of each of 100 evaluation rows after that, against the sum of what a method
predicts of the rows that were left out, by Spearman's correlation over the subsets; the mean over the evaluation rows
(Ilyas et al. 2022, Park et al. 2023). Shown is what `tests/bench/lds.py train`, `lds_peers.py` and `lds.py score` have
kept in .cache/bench (or CURATE_BENCH_HOME); --folder is the folder of adult and banking77. With --quick a softmax
regression of 500 rows is trained on six halves of them here.
"""

import argparse
import contextlib
import sys
from dataclasses import replace
from pathlib import Path

import common
import lds
import lds_networks

QUICK = ("ekfac, a tenth of each layer's mean", "gradient product", "cosine", "chance")
SHOWN = (lds.DEFAULT, "kronfluence", "probe", "head", "gradient product", "TracInCPFast", "trak", "cosine", "chance")
AGAINST = "kronfluence"
TOLD = (lds.DEFAULT, "probe", "kronfluence at 1e-8")
"""Whose gains are resampled: it takes a second each."""


def quick(study: common.Study, folder: Path) -> None:
    lds.HOME = study.out / "lds"
    few = replace(lds_networks.RECIPES["softmax"], data=lds_networks.pictures(500, flat=True))
    lds_networks.RECIPES["softmax"] = few
    lds_networks.fill(lds.HOME, folder, "softmax", 0.5, 0, 6)
    with contextlib.redirect_stdout(sys.stderr):
        lds.score("softmax", folder, list(QUICK))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=Path("data"), help="of adult and banking77")


def one(study: common.Study, name: str, share: float, folder: Path) -> list[lds.Line]:
    """The table of a network and a share of the rows; empty where nothing was trained."""
    truth = lds.Truth.of(name, folder, share, len(study.seeds))
    if truth is None or len(truth.left) < lds.FEWEST:
        return []
    found = lds.lines(name, truth, AGAINST, TOLD)
    for line in found:
        study.add(
            lds.heading(name, share, truth), method=line.method, score=line.score,
            **{"processor s": line.seconds,
               f"over {AGAINST}, 95 %": "" if line.gain is None else lds.interval(line.gain)},
        )  # fmt: skip
    return found


def main() -> None:
    study = common.Study.of("retraining", __doc__ or "", "0,1", options)
    folder: Path = study.asked.folder
    names = ("softmax",) if study.quick else lds_networks.CHOOSE + lds_networks.JUDGE
    if study.quick:
        quick(study, folder)
    made, axes = common.figure(2)
    for axis, share in zip(axes, lds_networks.SHARES, strict=True):
        found = {name: lines for name in names if (lines := one(study, name, share, folder))}
        for kind in (lds_networks.CHOOSE, lds_networks.JUDGE):
            gains = [line.gain for name in kind for line in found.get(name, []) if line.method == lds.DEFAULT]
            gains = [gain for gain in gains if gain is not None]
            if gains:
                told = lds.over_networks(gains, judged=kind == lds_networks.JUDGE)
                study.add(f"{lds.DEFAULT} over {AGAINST}", **{"rows kept": share, "gain, 95 %": told})
        for method in SHOWN:
            scores = [line.score for lines in found.values() for line in lines if line.method == method]
            if scores and len(scores) == len(found):
                axis.plot(list(found), scores, "o-", markersize=3, linewidth=0.8, label=method)
        axis.set(title=f"{share:g} of the rows kept", ylabel="linear datamodeling score")
        axis.tick_params("x", rotation=20)
    axes[0].legend(fontsize=5)
    study.write(made)


if __name__ == "__main__":
    main()
