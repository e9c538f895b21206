"""Did cleaning help? Both trainings, who judges them, and what the intervals promise."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import curate as command
from group import by_ranks
from sklearn.linear_model import LogisticRegression
from torch import nn

import curate
from curate.engine.processes import Ranks
from curate.errors import ModelError, UsageError
from curate.experiments.cleaned import Retraining, compare_cleaned, mean_difference, share_difference
from curate.experiments.training import Training
from curate.process.progress import Progress
from curate.reports.json import plain
from curate.settings.merge import ScanSettings
from curate.stages.prepare import load, read

ROWS, CLASSES, WRONG = 150, 3, 45
TRAINING = """
from sklearn.linear_model import LogisticRegression
def fit(dataset, seed):
    return LogisticRegression(C=100).fit(*dataset.arrays())
def text(dataset, seed):
    return "no model"
"""


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, CLASSES, rows)
    return (draw.normal(size=(rows, 5)) + 2 * np.eye(5)[truth]).astype(np.float32), truth


X, TRUTH = drawn(ROWS, 0)
HELD, HELD_TRUTH = drawn(60, 1)
GIVEN = TRUTH.copy()
GIVEN[:WRONG] = (GIVEN[:WRONG] + 1) % CLASSES


def logistic(dataset: Any, seed: int) -> LogisticRegression:
    return LogisticRegression(C=100).fit(*dataset.arrays())


def confirm(run: curate.Run, split: str, truth: np.ndarray) -> None:
    """A word on every row of the split: what it really is."""
    rows = [(row, str(truth[row["position"]])) for row in run.scores if row["split"] == split]
    run.mark([row["key"] for row, right in rows if row["given_label"] == right], "keep")
    for name in map(str, range(CLASSES)):
        wrong = [row["key"] for row, right in rows if row["given_label"] != right == name]
        if wrong:
            run.mark(wrong, "relabel", name)


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> curate.Run:
    made = curate.scan((X, GIVEN), (HELD, HELD_TRUTH), name="rows", db=tmp_path_factory.mktemp("confirmed") / "run.db")
    confirm(made, "train", TRUTH)
    return made


@pytest.fixture
def run(here: Path, confirmed: curate.Run) -> curate.Run:
    """A third of the labels is wrong, and a person has corrected all of them."""
    Path(".curate").mkdir()
    shutil.copy(confirmed.path, ".curate/curate.db")
    return curate.Run(Path(".curate/curate.db"), confirmed.id, held=confirmed.held)


def test_cleaning_that_helps_is_said_to_help_on_confirmed_evaluation_rows(run: curate.Run) -> None:
    confirm(run, "eval", HELD_TRUTH)
    asked: list[tuple[int, int]] = []

    def train(dataset: Any, seed: int) -> LogisticRegression:
        asked.append((len(dataset), seed))
        return logistic(dataset, seed)

    found = run.compare_cleaned(train)
    assert asked == [(ROWS, 0)] * 2  # twice, and on all rows
    assert (found.answer, found.rows, found.relabelled, found.dropped, found.learned) == ("helped", 60, WRONG, 0, WRONG)
    models = [LogisticRegression(C=100).fit(X, labels) for labels in (GIVEN, TRUTH)]
    expected = [float((model.predict(HELD) == HELD_TRUTH).mean()) for model in models]
    assert [found.accuracy_given, found.accuracy_cleaned] == pytest.approx(expected)
    assert found.accuracy.value == pytest.approx(expected[1] - expected[0])
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high
    assert found.loss.high < 0
    page = str(found)
    assert page.startswith("Did cleaning help? HELPED\n")
    assert f"cleaned: {WRONG} labels changed, 0 rows left out" in page


def test_nobody_is_judged_on_rows_that_were_trained_on(run: curate.Run) -> None:
    judged: list[np.ndarray] = []
    trained: list[set[bytes]] = []

    class Watched(LogisticRegression):
        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            judged.append(x)
            assert not {row.tobytes() for row in x} & trained[-1]
            return super().predict_proba(x)

    def train(dataset: Any, seed: int) -> Watched:
        trained.append({row.tobytes() for row in dataset.arrays()[0]})
        return Watched().fit(*dataset.arrays())

    found = run.compare_cleaned(train, parts=3, seeds=2)
    assert (found.rows, found.trainings, len(trained)) == (ROWS, 12, 12)
    assert sum(map(len, judged)) == 4 * ROWS  # each row once a seed, by both trainings
    assert found.learned == pytest.approx(2 / 3 * WRONG)


def test_a_network_and_dropped_rows(run: curate.Run) -> None:
    confirm(run, "eval", HELD_TRUTH)
    dropped = [row["key"] for row in run.scores if row["split"] == "train"][:5]
    run.mark(dropped, "drop")
    sizes = []

    def train(dataset: Any, seed: int) -> nn.Module:
        sizes.append(len(dataset))
        torch.manual_seed(seed)
        net = nn.Linear(5, CLASSES)
        steps = torch.optim.LBFGS(net.parameters(), max_iter=20)
        x, y = map(torch.from_numpy, dataset.arrays())

        def closure() -> torch.Tensor:
            steps.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y) + 1e-3 * net.weight.square().sum()
            loss.backward()
            return loss

        steps.step(closure)
        return net

    found = run.compare_cleaned(train)
    assert sizes == [ROWS, ROWS - 5]
    assert (found.dropped, found.relabelled, found.answer) == (5, WRONG - 5, "helped")


def test_the_command(run: curate.Run) -> None:
    confirm(run, "eval", HELD_TRUTH)
    np.savez("rows.npz", x=X, y=GIVEN)
    np.savez("held.npz", x=HELD, y=HELD_TRUTH)
    Path("training.py").write_text(TRAINING)
    asked = ["retrain-check", "rows.npz", "--eval", "held.npz", "--name", "rows", "--retrain", "training.py:fit"]
    told = json.loads(command(*asked, "-f", "json").stdout)

    def dealt(ranks: Ranks) -> dict[str, Any]:
        settings, silent = ScanSettings("rows.npz", eval="held.npz", name="rows"), Progress.silent()
        data = read(settings, load(settings, silent, passes=ranks), silent)
        training = Training.of("training.py:fit")
        return plain(compare_cleaned(run.path, data, training, Retraining(), seed=0, progress=silent))

    for found in by_ranks(2, dealt, Path.cwd()):
        assert {**found, "seconds": told["seconds"], "schema_version": told["schema_version"]} == told
    assert told["accuracy"]["value"] == pytest.approx(run.compare_cleaned(logistic).accuracy.value)
    assert command(*asked).stdout.startswith("Did cleaning help? HELPED")
    refused = command(*asked[:-1], "training.py:text", status=2).output
    assert "--retrain training.py:text returned str, no torch.nn.Module and no estimator" in refused


def test_what_cannot_be_compared(here: Path) -> None:
    run = curate.scan((X, GIVEN), name="rows")
    with pytest.raises(UsageError, match="No verdict changes a training row"):
        run.compare_cleaned(logistic)
    with pytest.raises(UsageError, match="0 rows that could judge"):
        run.compare_cleaned(logistic, apply_suggestions=True)
    run.mark([row["key"] for row in run.scores[WRONG : WRONG + 8]], "keep")
    assert run.compare_cleaned(logistic, apply_suggestions=True).rows == 8
    with pytest.raises(ModelError, match="training function is a int"):
        run.compare_cleaned(3)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="returned int, no torch"):
        run.compare_cleaned(lambda dataset, seed: seed, apply_suggestions=True)


@pytest.mark.parametrize(
    ("rows", "right", "wrong"), [(20, 0.0, 0.0), (20, 0.1, 0.1), (50, 0.2, 0.05), (200, 0.03, 0.03)]
)
def test_the_interval_of_a_paired_share_holds_the_truth(rows: int, right: float, wrong: float) -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(1_000):
        turned = draw.choice([1.0, -1.0, 0.0], size=(1, rows), p=[right, wrong, 1 - right - wrong])
        found = share_difference(turned)
        held += found.low <= right - wrong <= found.high
        assert found.low <= found.value <= found.high
    assert held >= 940


def test_the_interval_of_a_mean_holds_the_truth_and_seeds_widen_it() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(1_000):
        found = mean_difference(draw.normal(0.3, 1.0, size=(1, 15)))
        held += found.low <= 0.3 <= found.high
    assert 930 <= held <= 970
    alone = together = 0
    for _ in range(1_000):  # whole trainings differ as well
        turned = draw.normal(size=(5, 40)) + 0.5 * draw.normal(size=(5, 1))
        alone += mean_difference(turned[:1]).low <= 0 <= mean_difference(turned[:1]).high
        together += mean_difference(turned).low <= 0 <= mean_difference(turned).high
    assert alone < 800  # what the page warns of
    assert together >= 930
