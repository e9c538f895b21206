"""Settings: which place wins, what paths are relative to, and what a file from strangers may not ask for."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curate.errors import UsageError
from curate.settings.merge import ScanSettings, load_settings, setting
from curate.settings.specs import near_path, split_code, split_kind


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "work"
    (here / "data" / "pets").mkdir(parents=True)
    monkeypatch.chdir(here)
    return here


def load(given: dict[str, Any] | None = None, environ: dict[str, str] | None = None, **more: Any) -> ScanSettings:
    return load_settings({"train": "data/pets"} if given is None else given, environ=environ or {}, **more)


class TestOrder:
    def test_command_line_then_environment_then_file_then_default(self, cwd: Path) -> None:
        (cwd / "pyproject.toml").write_text("[tool.curate]\nseed = 1\neval-rows = 1\ndamping = 1\nneighbours = 1\n")
        (cwd / "curate.toml").write_text("seed = 2\neval_rows = 2\ndamping = 2\n")
        found = load({"train": "x", "seed": 4}, {"CURATE_SEED": "3", "CURATE_EVAL_ROWS": "3"})
        assert (found.seed, found.eval_rows, found.damping, found.neighbours) == (4, 3, 2.0, 1)
        assert found.params == "auto"

    def test_the_nearest_pyproject_is_read_and_its_paths_are_its_own(
        self, cwd: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (cwd / "pyproject.toml").write_text('[tool.curate]\ntrain = "data/pets"\nmodel = "m.py:f"\ndb = "/x/c.db"\n')
        (cwd.parent / "pyproject.toml").write_text("[tool.curate]\nseed = 9\n")
        monkeypatch.chdir(cwd / "data")
        found = load({})
        assert (found.train, found.model, found.db, found.seed) == ("../data/pets", "../m.py:f", "/x/c.db", 0)

    def test_a_named_file_is_read_alone(self, cwd: Path) -> None:
        (cwd / "curate.toml").write_text("seed = 2\n")
        (cwd / "data/other.toml").write_text('eval = "images:val"\nclasses = ["a", "b"]\n')
        found = load(config="data/other.toml")
        assert (found.seed, found.eval, found.classes) == (0, "images:data/val", ("a", "b"))
        assert load(environ={"CURATE_CONFIG": "data/other.toml"}).eval == "images:data/val"

    def test_the_baseline_lies_beside_the_settings(self, cwd: Path) -> None:
        assert load().baseline == "curate-baseline.json"
        (cwd.parent / "pyproject.toml").write_text("[tool.other]\n")
        assert load().baseline == "curate-baseline.json"
        (cwd.parent / "pyproject.toml").write_text("[tool.curate]\nseed = 1\n")
        assert load().baseline == "../curate-baseline.json"
        (cwd / "data/pets/curate.toml").write_text("seed = 3\n")
        assert load().baseline == "data/pets/curate-baseline.json"
        (cwd / "data/other.toml").write_text('baseline = "b.json"\nsince = 4\n')
        found = load(config="data/other.toml")
        assert (found.baseline, found.since) == ("data/b.json", "4")
        (cwd / "data/other.toml").write_text('since = "main.db"\n')
        assert load(config="data/other.toml").since == "data/main.db"
        assert load({"train": "x", "baseline": "c.json"}, {"CURATE_BASELINE": "d.json"}).baseline == "c.json"

    def test_the_folder_that_is_scanned_may_bring_settings(self, cwd: Path) -> None:
        (cwd / "curate.toml").write_text("seed = 2\nneighbours = 5\n")
        (cwd / "data/pets/curate.toml").write_text('seed = 3\nmodel = "net.py:f"\nweights = "w.pt"\nname = "pets"\n')
        found = load()
        assert (found.train, found.seed, found.neighbours) == ("data/pets", 3, 5)
        assert (found.model, found.weights, found.name) == ("data/pets/net.py:f", ("data/pets/w.pt",), "pets")
        (cwd / "data/pets/curate.toml").write_text('train = "images"\n')
        assert load().train == "data/pets/images"
        assert load({"train": "images:data/pets"}).train == "data/pets/images"

    def test_scanning_the_current_folder_reads_its_file_once(self, cwd: Path) -> None:
        (cwd / "curate.toml").write_text('model = "m.py:f"\n')
        found = load({"train": "."})
        assert (found.train, found.model) == (".", "m.py:f")

    def test_another_model_takes_no_weights_from_weaker_places(self, cwd: Path) -> None:
        (cwd / "curate.toml").write_text('model = "m.py:f"\nweights = "w.pt"\nhead = "fc"\nseed = 4\n')
        found = load({"train": "x", "model": "other.py:f"})
        assert (found.weights, found.head, found.seed) == ((), None, 4)

    def test_one_setting_for_reading_commands(self, cwd: Path) -> None:
        assert setting("db", environ={}) == ".curate/curate.db"
        (cwd / "curate.toml").write_text('db = "mine.db"\n')
        assert setting("db", environ={}) == "mine.db"
        assert setting("db", "given.db", environ={}) == "given.db"


class TestValues:
    def test_environment_texts_become_values(self, cwd: Path) -> None:
        (cwd / "names.txt").write_text("cat\n\ndog\n")
        found = load(
            environ={
                "CURATE_NO_CACHE": "1", "CURATE_EXIT_ZERO": "yes", "CURATE_FAIL_ON": "error, leak",
                "CURATE_BATCH_SIZE": "auto", "CURATE_MODEL_ARG": "depth=3", "CURATE_CLASSES": "names.txt",
                "CURATE_DAMPING": "1e-3", "CURATE_FORMAT": "json:out, 1.json", "CURATE_UNKNOWN": "x",
            }
        )  # fmt: skip
        assert (found.cache, found.exit_zero, found.fail_on) == (False, True, ("error", "leak"))
        assert (found.batch_size, dict(found.model_args)) == (None, {"depth": "3"})
        assert (found.classes, found.damping, found.format) == (("cat", "dog"), 1e-3, ("json:out, 1.json",))

    def test_toml_tables_and_lists(self, cwd: Path) -> None:
        (cwd / "curate.toml").write_text(
            'classes = "a, b"\nfail-on = ["mislabeled"]\nbatch-size = 8\ncache = false\n'
            'format = ["json:r.json", "text"]\n'
            "[model-args]\ndepth = 3\n"
        )
        found = load()
        assert (found.classes, found.fail_on, found.batch_size, found.cache) == (("a", "b"), ("mislabeled",), 8, False)
        assert (found.format, found.model_args) == (("json:r.json", "text"), {"depth": 3})

    def test_a_class_file_is_relative_to_the_file_that_names_it(self, cwd: Path) -> None:
        (cwd / "data/pets/curate.toml").write_text('classes = "classes.txt"\n')
        (cwd / "data/pets/classes.txt").write_text("b\na\n")
        assert load().classes == ("b", "a")

    def test_the_record_of_a_run_is_plain_and_says_nothing_of_where_it_was_written(self, cwd: Path) -> None:
        plain = load({"train": "x", "weights": ["w.pt"], "model_args": ["a=1"], "db": "/home/me/x.db"}).as_json()
        assert json.loads(json.dumps(plain)) == plain
        assert (plain["weights"], plain["model_args"], plain["seed"]) == (["w.pt"], {"a": "1"}, 0)
        assert "db" not in plain


class TestMessages:
    def check(self, *words: str, given: dict[str, Any] | None = None, **more: Any) -> None:
        with pytest.raises(UsageError) as caught:
            load(given, **more)
        said = str(caught.value)
        assert all(word in said for word in words), said
        assert said.count("\n") <= 1

    def test_no_data(self, cwd: Path) -> None:
        self.check("No data set was named", "curate scan DATA", given={})

    def test_unknown_key(self, cwd: Path) -> None:
        (cwd / "curate.toml").write_text("sed = 3\n")
        self.check("curate.toml: there is no setting 'sed'", "Did you mean seed?")
        (cwd / "curate.toml").write_text("")
        (cwd / "pyproject.toml").write_text("[tool.curate]\nno_such_thing = 3\n")
        self.check("pyproject.toml: [tool.curate] there is no setting 'no_such_thing'", "The settings are train")

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('seed = "3"', "`seed` is '3'"),
            ("seed = true", "`seed` is True"),
            ("seed = 1.5", "a whole number, 0 to 4294967295"),
            ("neighbours = 0", "at least 1"),
            ("damping = 0", "a number above 0"),
            ('memory = "2"', "a size of 64MB or more, like 500MB or 2GB"),
            ('memory = "much"', "a size of 64MB or more"),
            ("damping = nan", "a number above 0"),
            ('cache = "no"', "true or false"),
            ('solver = "magic"', "one of auto, exact, cg, lissa"),
            ('device = "gpu"', "auto, cpu, cuda"),
            ('params = "["', "a regular expression"),
            ("train = 3", "a text"),
            ('fail-on = [""]', "a list of texts"),
            ('model-arg = ["depth"]', "NAME=VALUE"),
            ('classes = "gone.txt"', "no file gone.txt"),
        ],
    )
    def test_wrong_values(self, cwd: Path, line: str, words: str) -> None:
        (cwd / "curate.toml").write_text(line + "\n")
        self.check("curate.toml", words)

    def test_wrong_value_in_the_environment(self, cwd: Path) -> None:
        self.check("CURATE_SEED is 'x'", "a whole number", environ={"CURATE_SEED": "x"})

    def test_broken_toml(self, cwd: Path) -> None:
        (cwd / "curate.toml").write_text("seed = \n")
        self.check("curate.toml is no valid TOML", "line 1")

    def test_missing_file(self, cwd: Path) -> None:
        (cwd / "mine.toml").write_text("")
        self.check("no settings file mien.toml", "Did you mean mine.toml?", config="mien.toml")


class TestStrangers:
    """A curate.toml that comes with data from outside of the current directory."""

    @pytest.fixture
    def far(self, cwd: Path) -> Path:
        folder = cwd.parent / "download"
        folder.mkdir()
        return folder

    @pytest.mark.parametrize(
        "line", ['model = "m.py:f"', "trust-checkpoint = true", 'db = "x.db"', 'format = "json:x"', 'model-arg = "a=1"']
    )
    def test_runs_no_code_and_writes_nowhere(self, cwd: Path, far: Path, line: str) -> None:
        (far / "curate.toml").write_text(line + "\n")
        with pytest.raises(UsageError, match=r"outside of the current one\.\n.*--config"):
            load({"train": "../download"})

    def test_may_say_what_is_harmless(self, cwd: Path, far: Path) -> None:
        (far / "curate.toml").write_text('name = "far"\nseed = 3\n')
        assert load({"train": "../download"}).name == "far"

    def test_is_trusted_when_named(self, cwd: Path, far: Path) -> None:
        (far / "curate.toml").write_text('model = "m.py:f"\n')
        assert load({"train": "../download"}, config="../download/curate.toml").model == "../download/m.py:f"

    def test_is_overruled_by_the_command_line(self, cwd: Path, far: Path) -> None:
        (far / "curate.toml").write_text('model = "m.py:f"\nname = "far"\n')
        found = load({"train": "../download", "model": "mine.py:f"})
        assert (found.model, found.name) == ("mine.py:f", "far")

    def test_a_link_does_not_bring_it_inside(self, cwd: Path, far: Path) -> None:
        (far / "curate.toml").write_text('model = "m.py:f"\n')
        (cwd / "near").symlink_to(far, target_is_directory=True)
        with pytest.raises(UsageError, match="outside"):
            load({"train": "near"})


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("sklearn:digits", ("sklearn", "digits")),
        ("C:\\data", (None, "C:\\data")),
        ("data/a:b", (None, "data/a:b")),
        ("images:C:\\data", ("images", "C:\\data")),
        ("data", (None, "data")),
    ],
)
def test_kinds_are_no_drives(spec: str, parts: tuple[str | None, str]) -> None:
    assert split_kind(spec) == parts


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("a/m.py:f", ("a/m.py", "f")),
        ("a/m.py", ("a/m.py", None)),
        ("C:\\m.py:f", ("C:\\m.py", "f")),
        ("pkg.mod:f", ("pkg.mod", "f")),
        ("pkg.mod", ("pkg.mod", None)),
        ("m.py:", ("m.py", None)),
    ],
)
def test_code_specs(spec: str, parts: tuple[str, str | None]) -> None:
    assert split_code(spec) == parts


def test_near_paths(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    assert near_path(tmp_path / "picture" / "cat") == f"Did you mean {tmp_path.as_posix()}/pictures?"
    assert "holds no 'zzz'" in near_path(tmp_path / "zzz")


def test_settings_need_only_the_standard_library() -> None:
    code = "import sys, curate.settings.merge; assert not {'torch', 'numpy', 'click'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["9" * 400, "x" * 5000])
def test_a_name_longer_than_a_path_may_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no file"):
        load_settings({"train": "data", "classes": name}, environ={})
    with pytest.raises(UsageError):
        load_settings({"train": "data"}, config=name, environ={})
