"""``curate.scan``: what is in memory gives the command line's numbers, and leaves the caller's things as they were."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pyarrow
import pytest
import torch
from command import curate as command
from pyarrow import parquet
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

import curate
from curate.errors import CurateError, DataError, ModelError, NothingScanned, StoreError, UsageError
from curate.process import progress

ROWS, HELD_OUT, CLASSES = 120, 40, 3
NET = """
import torch
from torch import nn
def make():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
"""


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three classes that lie apart, a tenth of them under another's label."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, rows)
    x = rng.normal(size=(rows, 6)) + 3 * np.eye(6)[y]
    y[: rows // 10] = (y[: rows // 10] + 1) % CLASSES
    return x.astype(np.float32), y


def trained(x: np.ndarray, y: np.ndarray) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    steps = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=0.01)
    for _ in range(80):
        steps.zero_grad()
        nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        steps.step()
    return net


X, Y = drawn(ROWS, 0)
X_HELD, Y_HELD = drawn(HELD_OUT, 1)
NETWORK = trained(X, Y)


@pytest.fixture(autouse=True)
def folder(here: Path) -> Path:
    return here


def numbers(run: curate.Run) -> list[dict[str, Any]]:
    """Every row that was scored, with every number and finding."""
    return sorted(run.scores, key=lambda row: (row["split"], row["key"]))


def by_command(*arguments: object) -> list[dict[str, Any]]:
    file = f"{len(list(Path().glob('command*.db')))}.db"
    command("scan", *arguments, "--db", f"command{file}")
    return numbers(curate.Run.open(f"command{file}"))


def npz(name: str = "rows.npz", x: np.ndarray = X, y: np.ndarray = Y) -> str:
    np.savez(name, x=x, y=y)
    return name


def frame(x: np.ndarray = X, y: np.ndarray = Y) -> pyarrow.Table:
    columns = {f"c{i}": x[:, i].astype(float) for i in range(5)}
    columns["kind"] = np.where(x[:, 5] > 0, "high", "low")
    return pyarrow.table({**columns, "grade": np.array(["a", "b", "c"])[y]})


def beyond_all_types() -> Any:
    """A frame of pandas with a whole number that no column of Arrow's holds."""
    pandas = pytest.importorskip("pandas")
    return frame().to_pandas().assign(more=pandas.Series([10**400] * ROWS, dtype=object))


class TestTheSameScoresAsTheCommandLine:
    def test_a_path(self) -> None:
        npz()
        assert numbers(curate.scan(Path("rows.npz"))) == by_command("rows.npz")

    @pytest.mark.parametrize("made", [lambda x: x, torch.from_numpy, np.ndarray.tolist], ids=["numpy", "torch", "list"])
    def test_arrays_and_an_evaluation_set(self, made: Callable[[np.ndarray], Any]) -> None:
        wanted = np.float64 if made is np.ndarray.tolist else np.float32
        asked = [npz(x=X.astype(wanted)), "--eval", npz("held.npz", X_HELD.astype(wanted), Y_HELD)]
        run = curate.scan((made(X), made(Y)), (made(X_HELD), made(Y_HELD)))
        assert numbers(run) == by_command(*asked)
        assert {row["split"] for row in run.scores} == {"train", "eval"}

    def test_a_map_style_data_set_with_keys(self) -> None:
        Path("data.py").write_text(
            "import numpy as np\nfile = np.load('rows.npz')\n"
            "rows = [(x, int(y), f'row {i}') for i, (x, y) in enumerate(zip(file['x'], file['y']))]\n"
        )
        npz()
        run = curate.scan([(x, int(y), f"row {i}") for i, (x, y) in enumerate(zip(X, Y, strict=True))])
        assert numbers(run) == by_command("python:data.py:rows")
        assert [row["key"] for row in run.scores] == [f"row {i}" for i in range(ROWS)]

    def test_a_pair_of_data_sets_and_a_loader(self) -> None:
        asked = [npz(), "--eval", npz("held.npz", X_HELD, Y_HELD)]
        train, held = (
            torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
            for x, y in ((X, Y), (X_HELD, Y_HELD))
        )
        wanted = by_command(*asked)
        assert numbers(curate.scan((train, held))) == wanted
        assert numbers(curate.scan(torch.utils.data.DataLoader(train, shuffle=True), held)) == wanted

    def test_tables(self) -> None:
        pandas = pytest.importorskip("pandas")
        parquet.write_table(frame(), "rows.parquet")
        parquet.write_table(frame(X_HELD, Y_HELD), "held.parquet")
        wanted = by_command("rows.parquet", "--label", "grade", "--eval", "held.parquet")
        held = frame(X_HELD, Y_HELD)
        assert numbers(curate.scan(frame(), held, label="grade")) == wanted
        assert numbers(curate.scan(frame().to_pandas(), held.to_pandas(), label="grade")) == wanted
        shuffled = frame().to_pandas().sample(frac=1, random_state=0)  # its index is no column
        assert {row["key"]: row["suspicion"] for row in curate.scan(shuffled, held, label="grade").scores} == {
            row["key"]: row["suspicion"] for row in wanted
        }
        frame().to_pandas().to_csv("rows.csv", index=False)
        older = int(pandas.__version__.split(".")[0]) < 3  # there the last bit may be another, unless asked
        exact = pandas.read_csv("rows.csv", **({"float_precision": "round_trip"} if older else {}))
        found = numbers(curate.scan(exact, label="grade"))
        wanted = by_command("rows.csv", "--label", "grade")
        assert [row | {"text": ""} for row in found] == [row | {"text": ""} for row in wanted]  # as the file spells it

    def test_labels_with_features_are_a_file_of_features(self) -> None:
        wanted = by_command(npz(), "--eval", npz("held.npz", X_HELD, Y_HELD))
        for train, evaluation in (((None, Y), (None, Y_HELD)), (Y, Y_HELD), (Y.tolist(), Y_HELD.tolist())):
            assert numbers(curate.scan(train, evaluation, features=(X, X_HELD))) == wanted

    def test_a_network_in_memory_is_one_of_code_and_weights(self) -> None:
        Path("net.py").write_text(NET)
        torch.save(NETWORK.state_dict(), "net.pt")
        wanted = by_command(npz(), "--model", "net.py:make", "--weights", "net.pt", "--params", "all")
        assert numbers(curate.scan((X, Y), model=NETWORK, params="all")) == wanted
        fresh = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        assert numbers(curate.scan((X, Y), model=fresh, weights=Path("net.pt"), params="all")) == wanted
        assert numbers(curate.scan("rows.npz", model="net.py:make", weights=["net.pt"], params="all")) == wanted

    def test_several_checkpoints(self) -> None:
        Path("net.py").write_text(NET)
        torch.save(NETWORK.state_dict(), "last.pt")
        torch.save({name: value * 0.9 for name, value in NETWORK.state_dict().items()}, "first.pt")
        files = ["first.pt", "last.pt"]
        wanted = by_command(npz(), "--model", "net.py:make", *(part for file in files for part in ("--weights", file)))
        assert numbers(curate.scan((X, Y), model=NETWORK, weights=files)) == wanted

    def test_probabilities_of_ones_own(self) -> None:
        probabilities = np.full((ROWS, CLASSES), 0.1)
        probabilities[np.arange(ROWS), Y] = 0.8
        np.save("probs.npy", probabilities)
        wanted = by_command(npz(), "--pred-probs", "probs.npy")
        run = curate.scan((X, Y), pred_probs=torch.from_numpy(probabilities))
        assert numbers(run) == wanted
        assert numbers(curate.scan(Y, features=X, pred_probs=probabilities)) == wanted  # as cleanlab takes them
        (suspicion,) = [receipt for receipt in run.receipts if receipt["quantity"] == "suspicion"]
        assert "pred_probs" in str(suspicion["detail"]["experts"])


class TestWhatIsTheCallers:
    def test_the_module_is_as_before(self) -> None:
        net = trained(X, Y).train()
        net[2].eval()
        net[0].weight.requires_grad_(False)
        called: list[int] = []
        net.register_forward_hook(lambda *_: called.append(1))
        before = {name: value.clone() for name, value in net.state_dict().items()}
        facts = [(id(p), p._version, p.device, p.dtype, p.requires_grad, p.grad) for p in net.parameters()]
        modes, hooks = [part.training for part in net.modules()], [len(part._forward_hooks) for part in net.modules()]
        run = curate.scan((X, Y), model=net, params="all")
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert [(id(p), p._version, p.device, p.dtype, p.requires_grad, p.grad) for p in net.parameters()] == facts
        assert [part.training for part in net.modules()] == modes
        assert [len(part._forward_hooks) for part in net.modules()] == hooks
        assert run.report.run.model == "memory:Sequential"

    def test_the_identity_of_a_module_is_its_state(self) -> None:
        first = curate.scan((X, Y), model=NETWORK).report.run.weights_sha256
        other = trained(X, Y)
        with torch.no_grad():
            other[0].bias += 1
        assert curate.scan((X, Y), model=trained(X, Y)).report.run.weights_sha256 == first
        assert curate.scan((X, Y), model=other).report.run.weights_sha256 != first

    def test_other_code_with_the_same_state_is_another_network(self) -> None:
        """Nothing of a module in memory is cached: its state does not tell its code."""

        class Net(nn.Module):
            def __init__(self, sign: float) -> None:
                super().__init__()
                self.sign, self.head = sign, nn.Linear(6, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.head(self.sign * x)

        one, other = Net(1.0), Net(-1.0)
        other.load_state_dict(one.state_dict())
        losses = [[row["loss"] for row in curate.scan((X, Y), model=net).scores] for net in (one, other)]
        assert losses[0] != losses[1]
        assert [path.name for path in Path(".curate").iterdir()] == ["curate.db"]

    def test_arrays_signals_and_stdout(self, capfd: pytest.CaptureFixture[str]) -> None:
        x, y = X.copy(), Y.copy()
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        drawn_before = torch.get_rng_state()
        curate.scan((x, y), model=NETWORK)
        assert np.array_equal(x, X)
        assert np.array_equal(y, Y)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert torch.equal(torch.get_rng_state(), drawn_before)
        assert capfd.readouterr() == ("", "")
        curate.scan((x, y), progress=True)
        told = capfd.readouterr()
        assert (told.out, "curate: scanned " in told.err) == ("", True)

    def test_what_the_caller_has_set_of_torch_changes_nothing(self) -> None:
        wanted = numbers(curate.scan((X, Y), model=NETWORK, params="all"))
        with torch.no_grad():
            assert numbers(curate.scan((X, Y), model=NETWORK, params="all")) == wanted
        with torch.inference_mode():
            assert numbers(curate.scan((X, Y), model=NETWORK, params="all")) == wanted
        torch.set_default_device("meta")
        try:
            assert numbers(curate.scan((X, Y), model=NETWORK, params="all")) == wanted
            assert torch.get_default_device().type == "meta"
        finally:
            torch.set_default_device(None)

    def test_a_transform_of_ones_own(self) -> None:
        double = curate.scan((X, Y), model=NETWORK, transform=lambda row: torch.from_numpy(2 * row))
        assert numbers(double) == numbers(curate.scan((X, Y), model=NETWORK, transform=lambda row: 2 * row))
        plain = curate.scan((X, Y), model=NETWORK)
        assert [row["loss"] for row in double.scores] != [row["loss"] for row in plain.scores]

    def test_files_of_settings_are_of_data_in_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("curate.toml").write_text('model = "no.py:net"\nlabel = "none"\ndb = "kept.db"\n')
        monkeypatch.setenv("CURATE_NOISE_RATE", "5%")
        run = curate.scan((X, Y))
        assert (run.path, run.report.run.settings["noise_rate"]) == (Path("kept.db"), None)
        assert curate.scan((X, Y), db=Path("other.db"), seed=3, name="mine").report.run.dataset == "mine"
        Path("curate.toml").write_text('db = "kept.db"\nseed = 7\n')
        assert curate.scan(npz()).report.run.settings["seed"] == 7

    def test_table_and_features(self) -> None:
        """Keys, texts and labels are the table's, the numbers are the caller's."""
        texts = pyarrow.table({"text": [f"number {i} of many" for i in range(ROWS)], "label": Y})
        run = curate.scan(texts, features=X)
        assert [row["text"] for row in run.scores] == texts["text"].to_pylist()
        plain = {row["position"]: row["loss"] for row in curate.scan((X, Y)).scores}
        assert [row["loss"] for row in run.scores] == pytest.approx([plain[i] for i in range(ROWS)], rel=1e-4)
        assert any("features were given: 6 numbers a row" in note for note in run.report.notes)

    def test_rows_in_memory_cannot_be_read_again(self) -> None:
        run = curate.scan((X, Y))
        run.mark(run.findings[0]["key"], "drop")
        told = command("export", "new", status=2).output
        assert "These rows were given in Python and lie in no file" in told
        with pytest.raises(DataError, match="given in Python"):
            curate.scan("memory:train")


def pipeline() -> Any:
    return make_pipeline(StandardScaler(), PCA(4), LogisticRegression()).fit(X, Y)


class TestAnEstimator:
    """Of scikit-learn, fitted: rows are compared by what its last step reads."""

    def test_what_the_last_step_of_a_pipeline_reads(self) -> None:
        model = pipeline()
        state = joblib.hash(model)
        run = curate.scan((X, Y), (X_HELD, Y_HELD), model=model)
        made = model[:-1].transform
        assert numbers(run) == numbers(curate.scan((X, Y), (X_HELD, Y_HELD), features=(made(X), made(X_HELD))))
        assert joblib.hash(model) == state
        told = run.report
        assert (told.run.model, told.accuracy_head) == ("memory:Pipeline", None)
        assert any(
            "by what LogisticRegression reads of them, and the probe answers: 4 numbers" in n for n in told.notes
        )
        agreed = float((model.predict(X) == Y).mean())
        assert any(f"Pipeline gives {100 * agreed:.1f} % of the training rows" in note for note in told.notes)
        other = make_pipeline(StandardScaler(), PCA(4), LogisticRegression(C=0.1)).fit(X, Y)
        hashes = [curate.scan((X, Y), model=one).report.run.weights_sha256 for one in (pipeline(), other)]
        assert hashes[0] == told.run.weights_sha256 != hashes[1]

    def test_a_transformer_and_a_classifier_of_numbers(self) -> None:
        reduced = PCA(3).fit(X)
        by_it = numbers(curate.scan((X, Y), model=reduced))
        assert by_it == numbers(curate.scan((X, Y), features=reduced.transform(X)))
        forest = RandomForestClassifier(5, random_state=0).fit(X, Y)
        assert numbers(curate.scan((X, Y), model=forest)) == numbers(curate.scan((X, Y)))

    def test_columns_go_by_the_names_that_it_was_fitted_to(self) -> None:
        pytest.importorskip("pandas")
        table = frame().to_pandas()
        names = [f"c{i}" for i in range(5)]
        encoder = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), names))
        model = make_pipeline(encoder, LogisticRegression()).fit(table[["kind", *names]], table["grade"])
        run = curate.scan(table, label="grade", model=model)
        wanted = curate.scan(table, label="grade", features=model[:-1].transform(table))
        assert numbers(run) == numbers(wanted)
        assert numbers(curate.scan(frame(), label="grade", model=model)) == numbers(wanted)  # a table of Arrow
        with pytest.raises(DataError, match="fitted to a column 'c0'"):
            curate.scan(table.drop(columns="c0"), label="grade", model=model)

    def test_texts_and_probabilities(self) -> None:
        words = ["refund of order", "cannot log in", "where is my card"]
        texts = [f"{words[label]} number {i}" for i, label in enumerate(Y.tolist())]
        model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, Y)
        run = curate.scan((texts, Y), model=model)
        assert [row["text"] for row in run.scores] == texts
        table = pyarrow.table({"text": texts, "label": Y})
        assert [row["suspicion"] for row in curate.scan(table, model=model).scores] == [
            row["suspicion"] for row in run.scores
        ]

        class Reader:
            """Reads texts itself, and has no step before it."""

            def fit(self) -> None: ...

            def predict_proba(self, rows: list[str]) -> np.ndarray:
                return np.asarray(model.predict_proba(rows))

        told = curate.scan((texts, Y), model=Reader()).report.notes
        assert any("by the logarithms of Reader's probabilities" in note for note in told)


class TestRun:
    def test_the_labels_after_verdicts(self) -> None:
        run = curate.scan((X, Y))
        one, two, three = (row["key"] for row in run.scores[:3])
        other = str((Y[0] + 1) % CLASSES)
        run.mark(one, "relabel", label=other)
        run.mark(two, "drop")
        run.mark(three, "none")
        assert [row["label"] for row in run.cleaned[:4]] == [other, None, None, str(Y[3])]
        assert [row["verdict"] for row in run.cleaned[:4]] == ["relabel", "drop", "none", None]
        with pytest.raises(DataError, match="to_pandas"):
            run.export("new")

    def test_an_export_is_the_commands(self) -> None:
        run = curate.scan(npz())
        run.mark(run.scores[0]["key"], "drop")
        done = run.export("ours")
        assert (done.rows, done.dropped, done.relabelled) == (ROWS, 1, 0)
        command("export", "theirs")
        assert Path("ours/rows.npz").read_bytes() == Path("theirs/rows.npz").read_bytes()
        with pytest.raises(UsageError, match="is there already"):
            run.export("ours")

    def test_two_runs_and_an_audit_are_told_as_the_commands_tell_them(self) -> None:
        first, second = curate.scan((X, Y)), curate.scan((X, np.roll(Y, 1)))
        told = first.compare(second)
        assert (told.a.run, told.b.run) == (1, 2)
        by_command = json.loads(command("diff", "1", "2", "-f", "json").output)
        assert [len(by_command[name]) for name in ("new", "fixed", "still")] == [
            len(part) for part in (told.new, told.fixed, told.still)
        ]
        assert f"{len(told.new)} new" in str(told)
        drawn = second.audit(20)
        assert (drawn.drawn_now, drawn.result.verdicts, drawn.result.rate) == (20, 0, None)
        assert {row["key"] for row in second.to_judge} <= {row["key"] for row in second.scores}
        second.mark([row["key"] for row in second.to_judge], "keep")
        rate = second.audit(width=0.1).result.rate
        assert rate is not None
        assert rate.value < 0.2
        assert second.to_judge == []
        for call, words in ((lambda: second.audit(0), "at least one row"), (lambda: second.audit(width=5), "a share")):
            with pytest.raises(UsageError, match=words):
                call()

    def test_influence_is_verified_on_what_the_caller_holds(self) -> None:
        run = curate.scan((X, Y), model=NETWORK)
        found = run.verify(minutes=0.02, at="probe")
        assert str(found).startswith(f"Is influence right on this model? {found.answer.trust.upper()}")
        assert [checked.trust for checked in curate.Run.open().report.checked] == [found.answer.trust]
        with pytest.raises(UsageError, match="There is no 'epoch'"):
            run.verify(epoch=1)
        with pytest.raises(UsageError, match="this process does not hold it"):
            curate.Run.open().verify()

    def test_code_that_a_strangers_database_names_is_not_run(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        elsewhere = tmp_path_factory.mktemp("theirs") / "run.db"
        Path("net.py").write_text(NET)
        curate.scan(npz(), model="net.py:make", db=elsewhere)
        Path("net.py").write_text("raise SystemExit('run')")
        with pytest.raises(UsageError, match="names Python code"):
            curate.Run.open(elsewhere).verify()

    def test_all_rows_and_frames(self) -> None:
        run = curate.scan((X, Y), model=NETWORK)
        assert len(run.scores) == ROWS
        assert [row["position"] for row in run.scores] == list(range(ROWS))
        flagged = {row["key"] for row in run.scores if row["rules"]}
        assert flagged == {row["key"] for row in run.findings}
        planted = {row["key"] for row in run.scores[: ROWS // 10]}
        assert len(planted & {row["key"] for row in run.findings if row["rule"] == "mislabeled"}) >= 8
        assert {row["train_key"] for row in run.pairs} <= {row["key"] for row in run.scores}
        assert [receipt["quantity"] for receipt in run.receipts].count("suspicion") == 1
        for name in ("scores", "findings", "pairs", "receipts"):
            rows, table = getattr(run, name), run.to_arrow(name)
            assert (table.num_rows, table.column_names) == (len(rows), list(rows[0]))
        pandas = pytest.importorskip("pandas")
        assert list(run.to_pandas("pairs")["influence"]) == [row["influence"] for row in run.pairs]
        assert list(run.to_pandas().columns) == list(run.scores[0])
        assert isinstance(run.to_pandas("findings"), pandas.DataFrame)
        with pytest.raises(UsageError, match="no rows called 'score'"):
            run.to_pandas("score")

    def test_a_row_a_verdict_and_a_page(self) -> None:
        run = curate.scan((X, Y))
        first, second = (row["key"] for row in run.findings[:2])
        assert run.row(first).row.key == first
        assert [word.verdict for word in run.mark([first, second], "keep", note="looked at")] == ["keep", "keep"]
        assert {row["key"] for row in run.findings if row["state"] == "reviewed"} >= {first, second}
        assert run.mark(first, "relabel", label="2" if run.row(first).row.label != "2" else "1")[0].source == "python"
        with pytest.raises(UsageError):
            run.mark([second, "no such row"], "drop")
        assert run.mark(second, "drop", rule="mislabeled", reviewer="Ann")[0].reviewer == "Ann"
        assert "<!doctype html>" in run.to_html("page.html").read_text("utf-8").lower()
        assert run._repr_html_().startswith("<iframe")

    def test_two_runs_in_one_process_and_one_database(self) -> None:
        first, second = curate.scan((X, Y)), curate.scan((X_HELD, Y_HELD), name="held")
        assert (first.id, second.id, len(first.scores), len(second.scores)) == (1, 2, ROWS, HELD_OUT)
        assert curate.Run.open(dataset="held").scores == second.scores
        with pytest.raises(StoreError):
            curate.Run.open("no.db")


class Unknown(nn.Module):
    """A module that cannot be copied."""

    def __deepcopy__(self, memo: object) -> None:
        raise RuntimeError("not of this kind")


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: curate.scan(None), UsageError, "no data set was named"),
        (lambda: curate.scan("no/such/folder"), DataError, "no file or folder"),
        (lambda: curate.scan((X, Y[:-1])), DataError, "x has 120 rows, y has 119"),
        (lambda: curate.scan((X[:0], Y[:0])), NothingScanned, "x holds no row"),
        (lambda: curate.scan((X, Y / 3)), DataError, "regression"),
        (lambda: curate.scan((X, np.eye(3)[Y])), DataError, "one-hot"),
        (lambda: curate.scan((X, None)), DataError, "y has the shape a single value"),
        (lambda: curate.scan(beyond_all_types(), label="grade"), DataError, "Each column has one type"),
        (lambda: curate.scan((np.array([{}] * ROWS), Y)), DataError, "no number"),
        (lambda: curate.scan((X, Y), label="y"), UsageError, "names a column"),
        (lambda: curate.scan((frame(), Y)), UsageError, "pair of a table and labels"),
        (lambda: curate.scan(frame(), label="grades"), DataError, "Did you mean grade"),
        (lambda: curate.scan(frame()), DataError, "no column is called"),
        (lambda: curate.scan(frame()[:0], label="grade"), NothingScanned, "holds no row"),
        (lambda: curate.scan(X), UsageError, "array without labels.\nGive the pair"),
        (lambda: curate.scan(iter([(X[0], 1)])), DataError, "stream of rows"),
        (lambda: curate.scan([]), NothingScanned, "no row"),
        (lambda: curate.scan(Y), UsageError, "labels alone"),
        (lambda: curate.scan(Y, pred_probs=np.eye(3)[Y]), UsageError, "not by their labels and pred_probs"),
        (lambda: curate.scan((X, Y), pred_probs=np.eye(3)[Y][:5]), UsageError, "has 5 rows"),
        (lambda: curate.scan((X, Y), pred_probs=2 * np.eye(3)[Y]), UsageError, "Probabilities are needed"),
        (lambda: curate.scan(Y, features=X[:5]), DataError, "x has 5 rows"),
        (lambda: curate.scan(frame(), label="grade", features=X[:5]), UsageError, "features has 5 rows"),
        (lambda: curate.scan(frame(), label="grade", features=X * np.inf), UsageError, "NaN, infinite"),
        (lambda: curate.scan(frame(), frame(), label="grade", features=X), UsageError, "evaluation set are missing"),
        (lambda: curate.scan(Y, features=X, model=NETWORK), UsageError, "Features and a model"),
        (lambda: curate.scan((X, Y), model=len), ModelError, "neither a torch module"),
        (lambda: curate.scan((X, Y), model=LogisticRegression), ModelError, "neither a torch module"),
        (lambda: curate.scan((X, Y), model=LogisticRegression()), ModelError, "Fit it first"),
        (lambda: curate.scan((X, Y), model=pipeline(), transform=len), UsageError, "Let the estimator be a pipeline"),
        (lambda: curate.scan((X, Y), model=pipeline(), params="all"), UsageError, "needs a model"),
        (lambda: curate.scan((X[:, :3], Y), model=pipeline()), ModelError, "as it was fitted to them"),
        (lambda: curate.scan((X, Y), model="no.py:net"), ModelError, "no model file"),
        (lambda: curate.scan((X, Y), model=Unknown()), ModelError, "cannot be copied"),
        (lambda: curate.scan((X, Y), model=NETWORK, weights="no.pt"), ModelError, "no.pt"),
        (lambda: curate.scan((X, Y), model=NETWORK, model_args={"a": 1}), UsageError, "made already"),
        (lambda: curate.scan((X, Y), transform=len), UsageError, "needs a model"),
        (lambda: curate.scan((X, Y), sed=1), UsageError, "Did you mean seed"),
        (lambda: curate.scan((X, Y), **{"x" * 5000: 1}), UsageError, "There is no setting 'xxx"),
        (lambda: curate.scan((X, Y), seed="x"), UsageError, "whole number"),
        (lambda: curate.scan((X, Y), format="json"), UsageError, "no meaning in Python"),
    ],
)
def test_a_slip_has_an_exception_that_says_what_to_do(call: Any, error: type[CurateError], told: str) -> None:
    with pytest.raises(curate.CurateError) as raised:
        call()
    assert type(raised.value) is error
    assert told in str(raised.value)
    assert len(str(raised.value)) < 600


def test_the_names_are_told_and_cost_nothing() -> None:
    assert dir(curate) == ["CurateError", "Run", "__version__", "engine", "scan"]
    code = (
        "import sys, curate; dir(curate); dir(curate.engine); curate.CurateError; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'sqlite3', 'rich', 'curate.api.scanning')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    code = "import curate, curate.api.scanning; from curate import scan; assert callable(scan) and curate.scan is scan"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_bar_of_a_notebook_is_drawn_in_one_place_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    class Place:
        def update(self, what: Any) -> None:
            of_rich = hasattr(what, "_repr_mimebundle_")
            drawn.append(what._repr_mimebundle_([], [])["text/html"] if of_rich else what._repr_html_())

    def display(what: Any, display_id: bool) -> Place:
        Place().update(what)
        return Place()

    ipython, its_display = ModuleType("IPython"), ModuleType("IPython.display")
    vars(ipython)["get_ipython"] = lambda: SimpleNamespace(kernel=None)
    vars(its_display)["display"] = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", its_display)
    monkeypatch.setattr(progress, "REDRAWN", 0.0)
    bar = progress.Progress.of_caller(None)
    with bar.stage("Reading", 4) as advance:
        advance(3)
    first, second, last = drawn
    assert ("Reading" in first, "0 %" in first, "75 %" in second, last) == (True, True, True, "<span></span>")
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert type(progress.Progress.of_caller(True)) is progress.Progress
