"""What the steps of the decomposition of texts are worth: seconds, and average precision of planted wrong labels.

    python tests/bench/texts.py FOLDER/banking77/train.parquet
    python tests/bench/texts.py FOLDER/clinc150/clinc150.parquet

The steps were chosen on the first and judged on the second. 4,000 texts a seed, a tenth of the labels changed; by the
probe left out, and by the votes of the 20 nearest.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import normalize

from curate.engine.probe import probe_inputs
from curate.engine.suspicion.crossfit import Copies, left_out
from curate.models.encoding import COMPONENTS, MOST_TERMS

ROWS, SHARE, VOTERS = 4_000, 0.1, 20
WAYS: dict[str, tuple[dict[str, Any], type, float]] = {
    "7, LU, float64": ({"n_iter": 7}, np.float64, 1.0),
    "7, QR": ({"n_iter": 7, "power_iteration_normalizer": "QR"}, np.float32, 1.0),
    "3, QR": ({"n_iter": 3, "power_iteration_normalizer": "QR"}, np.float32, 1.0),
    "2, QR": ({"n_iter": 2, "power_iteration_normalizer": "QR"}, np.float32, 1.0),
    "1, QR": ({"n_iter": 1, "power_iteration_normalizer": "QR"}, np.float32, 1.0),
    "2, QR, of half": ({"n_iter": 2, "power_iteration_normalizer": "QR"}, np.float32, 0.5),
}


def sample(file: Path, seed: int) -> tuple[list[str], np.ndarray, np.ndarray, int]:
    """Texts, given labels, whether each is wrong, and the number of classes."""
    table = pq.read_table(file).to_pylist()
    table = [row for row in table if row.get("split", "train") == "train"]
    draw = np.random.RandomState(seed)
    rows = [table[place] for place in draw.permutation(len(table))[:ROWS]]
    names, labels = np.unique([row["label"] for row in rows], return_inverse=True)
    wrong = np.zeros(len(rows), bool)
    wrong[draw.permutation(len(rows))[: int(SHARE * len(rows))]] = True
    given = np.where(wrong, (labels + draw.randint(1, len(names), len(rows))) % len(names), labels)
    return [row["text"] for row in rows], given, wrong, len(names)


def precisions(features: np.ndarray, given: np.ndarray, wrong: np.ndarray, classes: int) -> tuple[float, float]:
    """Of the probe left out, and of the votes."""
    rows, labels = torch.tensor(features), torch.tensor(given)
    copies = Copies(torch.arange(len(rows)), torch.ones(len(rows), dtype=torch.long))
    found = left_out(probe_inputs(rows), labels, classes, copies, choose=False).probabilities
    closeness = (rows @ rows.T).fill_diagonal_(-1)
    near, places = closeness.topk(VOTERS)
    weight = near.clamp_min(0).square()
    agree = ((labels[places] == labels[:, None]) * weight).sum(1) / weight.sum(1).clamp_min(1e-9)
    own = found.gather(1, labels[:, None])[:, 0]
    return tuple(float(average_precision_score(wrong, 1 - said.numpy())) for said in (own, agree))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    shared: dict[str, Any] = {"sublinear_tf": True, "min_df": 2, "strip_accents": "unicode", "max_features": MOST_TERMS}
    for seed in range(asked.seeds):
        texts, given, wrong, classes = sample(asked.file, seed)
        words = TfidfVectorizer(ngram_range=(1, 2), **shared).fit_transform(texts)
        parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **shared).fit_transform(texts)
        counts = hstack([words, parts]).tocsr()
        for name, (settings, dtype, share) in WAYS.items():
            started = time.process_time()
            rows = counts.astype(dtype)
            fitted = rows[np.sort(np.random.RandomState(seed).permutation(len(texts))[: int(share * len(texts))])]
            svd = TruncatedSVD(COMPONENTS, random_state=0, **settings).fit(fitted)
            features = normalize(svd.transform(rows)).astype(np.float32)
            seconds = time.process_time() - started
            probe, votes = precisions(features, given, wrong, classes)
            print(f"seed {seed}  {name:16}{seconds:6.1f} s   probe {probe:.4f}   votes {votes:.4f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
