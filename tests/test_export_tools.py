"""`curate export -f`: what cleanlab, FiftyOne and Label Studio take in."""

import csv
import json
import sqlite3
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from stored import CLASSES, HOSTILE, fill

from curate.cli import main
from curate.cli.export import FORMATS
from curate.export.tools import TOOLS
from curate.files.label_studio import NO_CLASS
from curate.store import ExampleRecord, Store


@pytest.fixture(autouse=True)
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten training rows, two of them flagged; the first is judged, and one that nobody flagged."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".curate" / "curate.db"
    fill(path)
    with Store.open(path) as store:
        store.mark("cat/00.png", "keep", reviewer="ada")
        store.mark("cat/02.png", "relabel", "dog", reviewer="ada")
    return path


def export(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["export", *arguments])
    assert result.exit_code == status, result.output
    return result


def test_the_names_are_those_that_are_offered() -> None:
    assert tuple(TOOLS) == FORMATS


def test_cleanlab_takes_the_frame() -> None:
    assert "wrote i.csv" in export("-f", "cleanlab:i.csv").stdout
    with Path("i.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert len(rows) == 10  # training rows only
    assert rows["cat/00.png"]["is_label_issue"] == "False"  # kept by a person
    assert rows["cat/02.png"]["is_label_issue"] == "True"
    assert (rows["cat/02.png"]["given_label"], rows["cat/02.png"]["predicted_label"]) == ("0", "1")
    assert float(rows["cat/02.png"]["label_quality"]) == pytest.approx(0.25)
    assert rows[HOSTILE]["is_label_issue"] == "True"
    assert rows["cat/04.png"]["predicted_class"] == "cat"
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    cleanlab = pytest.importorskip("cleanlab.classification", reason="cleanlab is not installed")
    from sklearn.linear_model import LogisticRegression

    frame = pandas.read_csv("i.csv", index_col="position")
    x = np.array([[row, row % 2] for row in range(10)], float)
    learner = cleanlab.CleanLearning(LogisticRegression())
    learner.fit(x, frame["given_label"], label_issues=frame)
    assert learner.get_label_issues()["is_label_issue"].sum() == 2
    assert learner.clf.n_features_in_ == 2


def test_fiftyone_reads_the_folder() -> None:
    """As ``FiftyOneImageClassificationDatasetImporter`` does: names without endings, class numbers, attributes."""
    export("-f", "fiftyone:fo")
    files = json.loads(Path("fo/data.json").read_text())
    told = json.loads(Path("fo/labels.json").read_text())
    assert told["classes"] == CLASSES
    assert set(files) == set(told["labels"])
    assert len(files) == 13  # evaluation rows too, though a training row has the name of one
    assert all(Path(path).is_absolute() for path in files.values())
    assert all("." not in name and "/" not in name for name in files)
    labels = {label["attributes"]["key"]: label for label in told["labels"].values()}
    assert told["classes"][labels["cat/02.png"]["label"]] == "cat"
    assert labels["cat/02.png"]["attributes"]["new_label"] == "dog"
    assert labels["eval:cat/00.png"]["attributes"]["split"] == "eval"
    fo = pytest.importorskip("fiftyone", reason="fiftyone is not installed")
    dataset = fo.Dataset.from_dir(
        dataset_type=fo.types.FiftyOneImageClassificationDataset, data_path="fo/data.json",
        labels_path="fo/labels.json",
    )  # fmt: skip
    assert len(dataset) == 13


def test_label_studio_takes_tasks_and_configuration() -> None:
    export("-f", "label-studio:t.json")
    tasks = json.loads(Path("t.json").read_text("utf-8"))
    config = Path("t.xml").read_text("utf-8")
    by_key = {task["data"]["key"]: task for task in tasks}
    assert set(by_key) == {"cat/00.png", "cat/02.png", HOSTILE, "cat/01.png"}  # flagged or judged
    choices = [choice.get("value") for choice in ElementTree.fromstring(config).iter("Choice")]
    assert choices == [*CLASSES, NO_CLASS]
    assert by_key["cat/02.png"]["annotations"][0]["result"][0]["value"] == {"choices": ["dog"]}
    assert by_key["cat/00.png"]["annotations"][0]["result"][0]["value"] == {"choices": ["cat"]}
    assert "annotations" not in by_key[HOSTILE]
    assert by_key["cat/02.png"]["data"]["image"] == "/data/local-files/?d=pets/train/cat/02.png"
    assert "%1B" in by_key[HOSTILE]["data"]["image"]
    interface = pytest.importorskip(
        "label_studio_sdk.label_interface", reason="label-studio-sdk is not installed"
    ).LabelInterface(config)
    interface.validate()
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        assert all(interface.validate_prediction(each) for each in task.get("predictions", []))
        assert all(interface.validate_annotation(each) for each in task.get("annotations", []))


def test_rows_that_a_program_cannot_show(filled: Path) -> None:
    with Store.open(filled, create=True) as store:
        dataset = store.dataset("numbers", "numbers.npz", "arrays")
        run = store.begin_run(dataset, settings={}, seed=0, versions={})
        (example,) = store.add_examples(dataset, [ExampleRecord("train", "k", 0, "0" * 64, "=cmd()")])
        store.add_scores(run, [{"example_id": example, "suspicion": 0.1, "rank": 1}])
        store.finish_run(run, counts={})
    which = ("--dataset", "numbers")
    assert "no pictures" in export("-f", "fiftyone:fo", *which, status=2).stderr
    assert "neither pictures nor texts" in export("-f", "label-studio:t.json", *which, status=2).stderr
    export("-f", "cleanlab:i.csv", *which)
    assert "'=cmd()" in Path("i.csv").read_text()
    assert not Path("fo").exists()


@pytest.mark.parametrize(("given", "told"), [("excel:x", "no format is called 'excel'"), ("cleanlab", "no file is")])
def test_a_format_that_is_none(given: str, told: str) -> None:
    assert told in export("-f", given, status=2).stderr


# Scores as Parquet


def test_scores_pairs_and_findings_as_parquet_are_those_of_the_database(filled: Path) -> None:
    with sqlite3.connect(filled) as connection:
        run = connection.execute("SELECT max(id) FROM runs").fetchone()
        query = "SELECT key, suspicion, harm FROM scores JOIN examples ON id = example_id WHERE run_id = ?"
        stored = connection.execute(query, run).fetchall()
        counts = {
            name: connection.execute(f"SELECT count(*) FROM {table} WHERE run_id = ?", run).fetchone()[0]
            for name, table in (("scores", "scores"), ("pairs", "influences"), ("findings", "findings"))
        }
    told = export("--scores", "out").stdout
    assert told.startswith("wrote out: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    assert {file.stem: pq.read_metadata(file).num_rows for file in Path("out").iterdir()} == counts
    rows = pq.read_table("out/scores.parquet").to_pylist()
    assert sorted((row["key"], row["suspicion"], row["harm"]) for row in rows) == sorted(stored)
    assert json.loads(pq.read_schema("out/pairs.parquet").metadata[b"curate"])["run"] == run[0]
    assert "out is there already" in export("--scores", "out", status=2).stderr
