"""`curate doctor` through its real entry point: what it says of each part, and its exit status when one fails."""

import json
import sqlite3
import tomllib
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file
from stored import fill

from curate.cli import main
from curate.onboarding.checks import without_home
from curate.onboarding.environment import EXTRAS
from curate.process import installing

ROOT = Path(__file__).parent.parent
FASHION = ROOT / "fixtures" / "fashion"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def doctor(*arguments: object, **environment: str) -> Result:
    result = CliRunner().invoke(main, ["doctor", *map(str, arguments)], env=environment)
    assert "Traceback" not in result.output
    return result


def statuses(result: Result) -> dict[str, str]:
    """Check -> ok, FAILED or skipped, as the lines at the left margin say."""
    found = {}
    for line in result.stdout.split("\n\n")[0].splitlines():
        if not line.startswith(" "):
            status, name = line.split()[:2]
            found[name.rstrip(":")] = status
    return found


def value(result: Result, name: str) -> str:
    lines = [line.strip() for line in result.stdout.splitlines()]
    return next(line.removeprefix(name).strip() for line in lines if line.startswith(name + "  "))


def fashion() -> list[object]:
    return [FASHION, "--config", FASHION / "curate.toml"]


def test_without_data_the_installation_alone_is_told(here: Path) -> None:
    result = doctor()
    assert result.exit_code == 0, result.output
    ok = dict.fromkeys(("versions", "devices", "settings", "database"), "ok")
    assert statuses(result) == {**ok, **dict.fromkeys(("data", "model", "rows"), "skipped")}
    for name in ("curate", "python", "torch", "sqlite", "sqlite-utils", "timm", "free disk"):
        assert value(result, name)
    assert list(here.iterdir()) == []  # nothing was made


def test_the_extras_are_those_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        line.split(">")[0]
        for extra, lines in project.items()
        if extra not in ("docs", "test", "studies")
        for line in lines
    }
    assert set(EXTRAS) == named


def test_data_model_and_rows_are_told(here: Path) -> None:
    result = doctor(*fashion())
    assert result.exit_code == 0, result.output
    assert set(statuses(result).values()) == {"ok"}
    assert value(result, "training rows") == "600"
    assert value(result, "evaluation rows") == "125"
    assert value(result, "classes").startswith("5: ankle-boot 123, bag 120")
    assert value(result, "parameters") == "18,325, 18,325 of them trained"
    assert value(result, "weights").startswith(str(FASHION / "weights.safetensors")[:6])
    assert "sha256 285e26388e9f" in result.stdout
    assert value(result, "input") == "128x1x28x28 float32 on cpu"
    assert value(result, "values").startswith("-1 to 1, mean -0.")
    assert value(result, "head") == "9: 24 features to 5 outputs"
    assert value(result, "outputs are") == "the classes of the data"
    assert float(value(result, "accuracy").split("%")[0]) > 85
    assert "a pass over all 725" in value(result, "time")
    assert list(here.iterdir()) == []  # no cache, no database


def test_settings_say_where_they_come_from(here: Path) -> None:
    (here / "pyproject.toml").write_text('[tool.curate]\nseed = 3\ndamping = 0.5\nlabel = "species"\n')
    result = doctor("sklearn:iris", "--neighbours", 9, CURATE_SEED="4")
    assert value(result, "train") == "sklearn:iris  (the command line)"
    assert value(result, "neighbours") == "9  (the command line)"
    assert value(result, "seed") == "4  (the environment)"
    assert value(result, "damping") == "0.5  (pyproject.toml)"


def test_features_need_no_model() -> None:
    result = doctor("sklearn:iris")
    assert result.exit_code == 0, result.output
    assert statuses(result)["model"] == "skipped"
    assert statuses(result)["rows"] == "ok"
    assert value(result, "kind") == "sklearn, rows are rows of numbers"


def test_a_table_and_its_blank_labels(here: Path) -> None:
    lines = [f"{row % 5},{row % 7},{'' if row == 3 else 'ab'[row % 2]}" for row in range(40)]
    (here / "t.csv").write_text("\n".join(["p,q,label", *lines]))
    result = doctor("t.csv")
    assert result.exit_code == 0, result.output
    assert value(result, "training rows") == "40, 1 with a blank label"
    assert value(result, "note") == "input: numbers in p, q"


def test_settings_that_cannot_be_followed(here: Path) -> None:
    (here / "curate.toml").write_text("seeed = 1\n")
    result = doctor("sklearn:iris")
    assert result.exit_code == 2
    assert statuses(result)["settings"] == "FAILED"
    assert statuses(result)["data"] == "skipped"
    assert value(result, "error") == "curate.toml: there is no setting 'seeed'."
    assert value(result, "what to do") == "Did you mean seed?"


def test_data_that_is_not_there() -> None:
    result = doctor("nothing")
    assert result.exit_code == 2
    assert [statuses(result)[name] for name in ("data", "model", "rows")] == ["FAILED", "skipped", "skipped"]
    assert value(result, "error") == "There is no file or folder nothing."
    assert result.stdout.endswith("FAILED: data\n")


def test_data_without_a_row_ends_as_a_scan_does(here: Path) -> None:
    (here / "empty").mkdir()
    result = doctor("empty")
    assert result.exit_code == 5
    assert "no picture was found" in value(result, "error")


def test_pictures_without_a_model(here: Path) -> None:
    for name in ("cat", "dog"):
        (here / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(here / "photos" / name / "0.png")
    result = doctor("photos")
    assert result.exit_code == 2
    assert statuses(result)["data"] == "ok"
    assert statuses(result)["model"] == "FAILED"
    assert "no model says what to see" in value(result, "error")


def test_a_model_whose_weights_do_not_fit(here: Path) -> None:
    (here / "net.py").write_text("from torch import nn\ndef build(): return nn.Linear(4, 3)\n")
    save_file({"weight": torch.zeros(7, 4), "bias": torch.zeros(7)}, here / "w.safetensors")
    result = doctor("sklearn:iris", "--model", "net.py:build", "--weights", "w.safetensors")
    assert result.exit_code == 2
    assert statuses(result)["model"] == "FAILED"
    assert "does not fit the model" in value(result, "error")
    assert statuses(result)["rows"] == "skipped"


def test_a_batch_that_the_model_does_not_take(here: Path) -> None:
    (here / "net.py").write_text("from torch import nn\ndef build(): return nn.Linear(5, 3)\n")
    result = doctor("sklearn:iris", "--model", "net.py:build")
    assert result.exit_code == 2
    assert statuses(result)["model"] == "ok"
    assert statuses(result)["rows"] == "FAILED"
    assert "the model failed on a batch" in value(result, "error")
    assert value(result, "weights") == "none given: is the model trained?"


def test_numbers_that_are_not_finite_end_with_4(here: Path) -> None:
    code = "import torch\nfrom torch import nn\ndef build():\n    net = nn.Linear(4, 3)\n"
    (here / "net.py").write_text(code + "    nn.init.constant_(net.weight, float('inf'))\n    return net\n")
    result = doctor("sklearn:iris", "--model", "net.py:build")
    assert result.exit_code == 4
    assert "not finite" in value(result, "error")


def test_a_model_asked_for_without_data_is_no_success() -> None:
    result = doctor("--model", "net.py:build")
    assert result.exit_code == 2
    assert statuses(result)["data"] == "FAILED"
    assert value(result, "error") == "No data set was named."


def test_a_bug_ends_with_3_and_the_report_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("curate.stages.prepare.open_data", broken)
    result = doctor("sklearn:iris")
    assert result.exit_code == 3
    assert value(result, "error") == "this is a bug in curate, not in your data: ZeroDivisionError: oh"


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(main, ["--debug", "doctor", "nothing"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "Traceback" not in result.stdout


def test_the_database_as_it_stands(here: Path) -> None:
    fill(here / ".curate" / "curate.db")
    before = (here / ".curate" / "curate.db").read_bytes()
    result = doctor()
    assert result.exit_code == 0, result.output
    assert value(result, "schema").endswith(", current")
    assert value(result, "writable") == "yes"
    assert (here / ".curate" / "curate.db").read_bytes() == before


def test_a_database_of_others_and_one_that_is_none(here: Path) -> None:
    with sqlite3.connect(here / "other.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    (here / "text.db").write_text("this is no database, but long enough to be asked")
    for name, said in (("other.db", "not one of curate's"), ("text.db", "cannot be read as a database")):
        result = doctor("--db", name)
        assert result.exit_code == 2
        assert statuses(result)["database"] == "FAILED"
        assert said in value(result, "error")
    assert doctor("--db", here).exit_code == 2


def test_as_json(here: Path) -> None:
    result = doctor("nothing", "-f", "json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["passed"] is False
    assert [check["status"] for check in told["checks"]][-3:] == ["FAILED", "skipped", "skipped"]
    assert told["checks"][-3]["error"] == "There is no file or folder nothing."


def test_the_home_folder_is_not_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    np.savez(here / "d.npz", x=np.random.default_rng(0).normal(size=(20, 3)), y=np.arange(20) % 2)
    for form in ("text", "json"):
        result = doctor(here / "d.npz", "--db", here / "c.db", "-f", form)
        assert result.exit_code == 0, result.output
        assert str(here) not in result.output
        assert "~/d.npz" in result.stdout
    monkeypatch.setenv("HOME", "/home/ann")
    assert without_home("/home/ann/x (/home/ann) /home/anna/y /data/home/ann") == "~/x (~) /home/anna/y /data/home/ann"


@pytest.mark.parametrize(
    ("noted", "told"),
    [
        ('{"url": "file:///clone"}', "`pip install '.[review]'` in your clone of curate"),
        (None, "`pip install 'curate-data[review]'`"),
    ],
)
def test_the_advice_to_install_is_true_for_how_it_was_installed(
    noted: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not installing.from_index()  # the tests run in a checkout
    monkeypatch.setattr(installing, "ROOT", tmp_path)
    monkeypatch.setattr(installing, "distribution", lambda name: Mock(read_text=lambda file: noted))
    assert installing.needs("review") == told
    assert ("git pull" in installing.upgrade()) == (noted is not None)
