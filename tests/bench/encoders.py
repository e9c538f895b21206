"""Our encoding of tables and texts against skrub's ``TableVectorizer``: a tenth of the labels flipped.

    python tests/bench/encoders.py FOLDER [SET ...]

FOLDER as in ``tables.py``. Needs skrub. Prints for each set and seed, ours before skrub's, the columns, the average
precision of one minus a logistic regression's held-out probability of the given label (of four penalties the one whose
held-out loss is least), and processor seconds of the encoding.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tables
from pyarrow import csv, parquet
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skrub import TableVectorizer

from curate.models.encoding import encode_sources
from curate.sources import open_source

tables.MOST_ROWS = 4000
SETS = ("adult", "german", "abalone", "banking77")


def judged(x: np.ndarray, given: np.ndarray, wrong: np.ndarray) -> float:
    """Average precision of the wrong labels by a probe's held-out probability."""
    found = []
    classes = np.unique(given)
    for penalty in (0.01, 0.1, 1, 10):
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        model = LogisticRegression(C=penalty, max_iter=300)
        p = cross_val_predict(model, x, given, cv=folds, method="predict_proba")
        own = p[np.arange(len(given)), np.searchsorted(classes, given)]
        found.append((-np.log(np.clip(own, 1e-9, 1)).mean(), average_precision_score(wrong, 1 - own)))
    return min(found)[1]


def timed(make: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    begun = time.process_time()
    return make(), time.process_time() - begun


def main(folder: Path, names: list[str]) -> None:
    for name in names or SETS:
        for seed in (0, 1):
            if name == "abalone":  # its first column is the label
                options = csv.ReadOptions(autogenerate_column_names=True)
                table = csv.read_csv(folder / "small_tabular" / "abalone.csv", options)
                given = table, table.column_names[0]
            else:
                given = tables.read(folder, name)
            table, wrong = tables.flipped(*given, seed=seed)
            with TemporaryDirectory() as place:
                parquet.write_table(table, f"{place}/t.parquet")
                source, _ = open_source(f"{place}/t.parquet", label="label", id="row")

            def ours(source: object = source) -> np.ndarray:
                encoded, _ = encode_sources(source, None, 0)
                return np.stack([encoded.read(row).decode() for row in range(len(encoded))])

            def theirs(table: object = table, texts: bool = name == "banking77") -> np.ndarray:
                scaled = [] if texts else [StandardScaler()]
                frame = table.drop_columns(["label", "row"]).to_pandas()
                return np.nan_to_num(
                    np.asarray(make_pipeline(TableVectorizer(), *scaled).fit_transform(frame), np.float32)
                )

            labels = np.array(table["label"].to_pylist())
            told = []
            for make in (ours, theirs):
                x, seconds = timed(make)
                told.append(f"{x.shape[1]} columns, AP {judged(x, labels, wrong):.3f}, {seconds:.2f} s")
            print(f"{name}, seed {seed}: ours {told[0]}; skrub {told[1]}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
