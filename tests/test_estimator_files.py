"""``--model file.joblib``: a fitted scikit-learn estimator, only if it is trusted."""

from pathlib import Path

import joblib
import numpy as np
import pytest
from command import curate
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


@pytest.fixture
def model(here: Path) -> Path:
    """A pipeline on two columns of t.csv, of which three rows have the other label."""
    pandas = pytest.importorskip("pandas", reason="columns by name need pandas")
    draw = np.random.default_rng(0)
    kind = np.arange(60) % 2
    table = pandas.DataFrame(
        {"city": np.array(["ulm", "bonn"])[kind], "age": (30 + 20 * kind + draw.normal(0, 2, 60)).round(2)}
    )
    given = kind.copy()
    given[[5, 20, 41]] ^= 1
    table["label"] = np.array(["no", "yes"])[given]
    table.to_csv("t.csv", index=False)
    columns = make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(), ["city"]))
    made = make_pipeline(columns, LogisticRegression()).fit(table[["age", "city"]], table["label"])
    joblib.dump(made, here / "m.joblib")
    return here / "m.joblib"


def test_it_is_a_pickle_and_asks_for_trust(model: Path) -> None:
    for command in ("scan", "doctor"):
        said = " ".join(curate(command, "t.csv", "--model", "m.joblib", status=2).output.split())
        assert "m.joblib is a pickle: loading it may run any code." in said
        assert "Pass --trust-checkpoint if you trust its author" in said


def test_its_features_are_compared_and_the_probe_answers(model: Path) -> None:
    said = " ".join(curate("scan", "t.csv", "--model", "m.joblib", "--trust-checkpoint", "-v").output.split())
    assert "model m.joblib" in said
    assert "rows are compared by what LogisticRegression reads of them, and the probe answers: 3 numbers a row" in said
    assert "gives 95.0 % of the training rows the label that they have" in said
    assert "3 of 60 labels are flagged as wrong" in said


@pytest.mark.parametrize(
    ("held", "said"), [({"a": 1}, "holds a dict, no fitted estimator"), (None, "There is no file other.joblib")]
)
def test_what_is_none_is_told(held: object, said: str, model: Path) -> None:
    if held is not None:
        joblib.dump(held, "other.joblib")
    done = curate("scan", "t.csv", "--model", "other.joblib", "--trust-checkpoint", status=2)
    assert said in " ".join(done.output.split())
