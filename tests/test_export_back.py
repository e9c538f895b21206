"""A patch and `--in-place` give what `curate export OUT` gives; taken back, the files are as they were, to the byte."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from command import curate
from PIL import Image
from pyarrow import parquet

from curate import export as exporting
from curate.export.arrays import export_arrays
from curate.store import Store

N = 40
ODD = 'say "ä"\n\t, ünd %s.png'


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(root: str) -> dict[str, bytes]:
    path = Path(root)
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def values(row: int) -> tuple[float, float]:
    return round(row % 2 * 3 + row / 100, 3), round(row % 2 * 3 - row / 50, 3)


def make_csv_table() -> str:
    lines = ["id,p,q,label", *(f"r{row:02},{values(row)[0]},{values(row)[1]},{'ab'[row % 2]}" for row in range(N))]
    Path("a b ü.csv").write_text("\r\n".join(lines))
    curate("scan", "a b ü.csv", "--id", "id", "--input", "p,q", "--name", "set")
    return "a b ü.csv"


def columns() -> dict[str, list[object]]:
    return {
        "id": [f"r{row:02}" for row in range(N)],
        "p": [values(row)[0] for row in range(N)],
        "q": [values(row)[1] for row in range(N)],
        "label": ["ab"[row % 2] for row in range(N)],
    }


def make_parquet_table() -> str:
    Path("deep").mkdir()
    parquet.write_table(pyarrow.table(columns()), "deep/a.parquet")
    curate("scan", "deep/a.parquet", "--id", "id", "--input", "p,q", "--name", "set")
    return "deep/a.parquet"


def make_arrays() -> str:
    rows = columns()
    np.savez("a.npz", x=np.array([rows["p"], rows["q"]], np.float32).T, y=np.array(rows["label"]), id=rows["id"])
    curate("scan", "a.npz", "--id", "id", "--name", "set")
    return "a.npz"


def make_hf_folder() -> str:
    datasets = pytest.importorskip("datasets", reason="the library datasets is not installed (extra: hf)")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {"id": datasets.Value("string"), "p": datasets.Value("float32"), "q": datasets.Value("float32"),
         "label": datasets.ClassLabel(names=["b", "a"])}
    )  # fmt: skip
    rows = columns() | {"label": [1 - row % 2 for row in range(N)]}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made, "other": made.select([0, 1])}).save_to_disk("set")
    curate("scan", "hf:set", "--id", "id")
    return "set"


def make_pictures() -> str:
    draw = np.random.default_rng(0)
    for label in range(2):
        folder = Path("pets", "train", "ab"[label])
        folder.mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(0, 60, (8, 8)) + 90 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / (ODD % number))
    Path("net.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))\n"
    )
    curate("scan", "pets", "--model", "net.py:build")
    return "pets"


KINDS: dict[str, Callable[[], str]] = {
    "csv": make_csv_table, "parquet": make_parquet_table, "npz": make_arrays, "hf": make_hf_folder,
    "images": make_pictures,
}  # fmt: skip


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Makes data of a kind and scans it, once; puts both into the current folder, and names the data."""
    ready: dict[str, tuple[Path, str]] = {}

    def put(kind: str) -> str:
        if kind not in ready:
            folder = tmp_path_factory.mktemp(kind)
            with contextlib.chdir(folder):
                ready[kind] = folder, KINDS[kind]()
        shutil.copytree(ready[kind][0], Path.cwd(), symlinks=True, dirs_exist_ok=True)
        return ready[kind][1]

    return put


def say_at_random(seed: int) -> int:
    """Relabels, drops, keeps and unsures on a random share of the rows; how many of them change something."""
    draw = np.random.default_rng(seed)
    changes = 0
    with Store.open(Path(".curate/curate.db")) as store:
        rows = store.query("SELECT key, label FROM current_rows WHERE split = 'train' ORDER BY key")
        for row in rows:
            verdict = draw.choice(["relabel", "drop", "keep", "unsure", ""], p=[0.15, 0.1, 0.1, 0.05, 0.6])
            if verdict:
                label = "ba"["ab".index(row["label"])] if verdict == "relabel" else None
                store.mark(row["key"], str(verdict), label, reviewer="ada")
                changes += verdict in ("relabel", "drop")
    return changes


def same(data: str, out: str) -> bool:
    """Does the data hold what was exported? Arrow folders hold a hash of their making, which differs."""
    if data != "set":
        exported = Path(out, data if Path(data).is_dir() else Path(data).name)
        return tree(data) == tree(str(exported) if exported.is_file() else out)
    from datasets import load_from_disk

    here, there = load_from_disk("set"), load_from_disk("out/set")
    return all(
        here[split].features == there[split].features and here[split].to_list() == there[split].to_list()
        for split in ("train", "other")
    )


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """git, which knows nothing of curate; outside of any repository."""
    return subprocess.run(["git", *arguments], check=True, capture_output=True, env={**os.environ, "GIT_DIR": "no"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_done_can_be_taken_back(scanned: Callable[[str], str], kind: str) -> None:
    data = scanned(kind)
    before = tree(data)
    curate("export", "asis")
    assert tree("asis" if kind == "images" else f"asis/{Path(data).name}") == before
    assert "nothing was changed" in curate("export", "--in-place").stdout
    assert not Path(".curate/backups").exists()
    for seed in range(2):
        changes = say_at_random(seed)
        assert changes
        shutil.rmtree("out", ignore_errors=True)
        curate("export", "out", "--patch", "p.patch")
        assert tree(data) == before
        git("apply", "--whitespace=nowarn", "p.patch")
        assert same(data, "out")
        git("apply", "--whitespace=nowarn", "-R", "p.patch")
        assert tree(data) == before

        told = curate("export", "--in-place", "--backup", f"kept{seed}").stdout
        assert f"`curate export --revert kept{seed}` puts it back" in told
        assert same(data, "out")
        curate("export", "--revert", f"kept{seed}")
        assert tree(data) == before
    assert "was put back before" in curate("export", "--revert", "kept0", status=2).stderr
    assert not [path for path in Path().rglob(".*") if "curate-" in path.name]


def test_a_patch_inside_a_repository_names_files_from_its_top(
    scanned: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("repo/data").mkdir(parents=True)
    git_here = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", "init", "-q", "repo"], check=True, env=git_here)
    monkeypatch.chdir("repo/data")
    data = scanned("npz")
    before = tree(data)
    say_at_random(0)
    told = curate("export", "--patch", "p.patch").stdout
    assert f"git -C {Path.cwd().parent} apply {Path.cwd()}/p.patch" in told
    subprocess.run(["git", "-C", "..", "apply", str(Path("p.patch").absolute())], check=True, env=git_here)
    assert tree(data) != before
    subprocess.run(["git", "-C", "..", "apply", "-R", str(Path("p.patch").absolute())], check=True, env=git_here)
    assert tree(data) == before


def test_git_is_needed_for_what_is_no_text(scanned: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    scanned("npz")
    say_at_random(0)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "git is needed to write a patch" in curate("export", "--patch", "p", status=2).stderr
    assert not Path("p").exists()


class TestInPlace:
    def test_a_failure_in_the_middle_leaves_nothing_changed(
        self, scanned: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = scanned("images")
        before = tree(data)
        say_at_random(0)
        with Store.open(Path(".curate/curate.db")) as store:
            for row in store.query("SELECT key FROM cleaned WHERE verdict = 'relabel'"):
                store.mark(row["key"], "relabel", "new", reviewer="ada", new_class=True)
        rename, calls = os.rename, []

        def failing(source: Path, target: Path) -> None:
            calls.append(source)
            if len(calls) == 4:
                raise PermissionError(13, "Permission denied", str(source))
            rename(source, target)

        monkeypatch.setattr("curate.export.backups.os.rename", failing)
        told = curate("export", "--in-place", status=2).stderr
        assert "Permission denied" in told
        assert "Nothing was changed" in told
        assert len(calls) > 4
        assert tree(data) == before
        assert sorted(path.name for path in Path("pets/train").iterdir()) == ["a", "b"]
        assert not list(Path(".curate/backups").glob("*"))

    def test_a_file_that_may_be_read_but_not_taken_away(
        self, scanned: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On another disk a move is a copy and a removal."""
        data = scanned("images")
        before = tree(data)
        say_at_random(0)
        removed: list[Path] = []
        unlink = Path.unlink

        def other_disk(source: Path, target: Path) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))

        def failing(path: Path, missing_ok: bool = False) -> None:
            removed.append(path)
            if len(removed) == 3:
                raise PermissionError(13, "Permission denied", str(path))
            unlink(path, missing_ok)

        monkeypatch.setattr("curate.export.backups.os.rename", other_disk)
        monkeypatch.setattr(Path, "unlink", failing)
        assert "Nothing was changed" in curate("export", "--in-place", "--backup", "kept", status=2).stderr
        assert tree(data) == before
        assert not Path("kept").exists()

    def test_what_could_not_be_taken_back_is_kept(
        self, scanned: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = scanned("images")
        before = tree(data)
        say_at_random(0)
        rename, calls = os.rename, []

        def failing(source: Path, target: Path) -> None:
            calls.append(source)
            if len(calls) in (4, 5):
                raise PermissionError(13, "Permission denied", str(source))
            rename(source, target)

        with monkeypatch.context() as broken:
            broken.setattr("curate.export.backups.os.rename", failing)
            told = curate("export", "--in-place", "--backup", "kept", status=2).stderr
        assert "1 of the changes made before could not be taken back" in told
        assert tree(data) != before
        curate("export", "--revert", "kept")
        assert tree(data) == before

    def test_a_kill_in_the_middle_can_be_taken_back(
        self, scanned: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = scanned("images")
        before = tree(data)
        say_at_random(0)
        curate("export", "--in-place", "--backup", "kept")
        entries = json.loads(Path("kept/record.json").read_text())["entries"]
        for entry in entries[3:]:  # as if it had been killed before these
            source = entry["to"] or Path("kept", entry["kept"])
            os.replace(source, entry["path"])
        assert tree(data) != before
        curate("export", "--revert", "kept")
        assert tree(data) == before

    def test_no_empty_folder_is_left(self, scanned: Callable[[str], str]) -> None:
        scanned("images")
        with Store.open(Path(".curate/curate.db")) as store:
            for row in store.query("SELECT key FROM current_rows WHERE label = 'a'"):
                store.mark(row["key"], "relabel", "new", reviewer="ada", new_class=True)
        curate("export", "--in-place", "--backup", "kept")
        assert sorted(path.name for path in Path("pets/train").iterdir()) == ["b", "new"]
        curate("export", "--revert", "kept")
        assert sorted(path.name for path in Path("pets/train").iterdir()) == ["a", "b"]

    def test_what_changed_since_is_left_alone(self, scanned: Callable[[str], str]) -> None:
        scanned("npz")
        say_at_random(0)
        curate("export", "--in-place", "--backup", "kept")
        Path("a.npz").write_bytes(b"mine")
        assert "a.npz has changed since" in curate("export", "--revert", "kept", status=2).stderr
        assert Path("a.npz").read_bytes() == b"mine"

    def test_a_row_that_changed_since_the_scan(self, scanned: Callable[[str], str]) -> None:
        data = scanned("csv")
        with Store.open(Path(".curate/curate.db")) as store:
            store.mark("r01", "relabel", "a", reviewer="ada")
        changed = Path(data).read_text().replace("r01,3.01", "r01,9.99")
        Path(data).write_text(changed)
        assert "no longer what the scan read" in curate("export", "--in-place", status=2).stderr
        assert Path(data).read_text() == changed

    def test_a_file_that_changes_meanwhile(
        self, scanned: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = scanned("npz")
        say_at_random(0)

        def writes(*arguments: object) -> None:
            export_arrays(*arguments)  # type: ignore[arg-type]
            Path(data).write_bytes(b"another's work")

        monkeypatch.setitem(exporting._WRITERS, "arrays", writes)
        assert "was changed while it was read" in curate("export", "--in-place", status=2).stderr
        assert Path(data).read_bytes() == b"another's work"
        assert not list(Path().glob(".*curate-new"))
        assert not list(Path(".curate/backups").glob("*"))

    def test_a_link_stays_a_link(self, scanned: Callable[[str], str]) -> None:
        data = scanned("csv")
        Path("real.csv").write_bytes(Path(data).read_bytes())
        Path(data).unlink()
        Path(data).symlink_to("real.csv")
        say_at_random(0)
        curate("export", "--in-place")
        assert Path(data).is_symlink()
        assert tree("real.csv")["real.csv"] == Path(data).read_bytes()

    def test_options_that_do_not_go_together(self) -> None:
        assert "two ways" in curate("export", "out", "--in-place", status=2).stderr
        assert "belongs to --in-place" in curate("export", "out", "--backup", "b", status=2).stderr
        assert "does nothing else" in curate("export", "out", "--revert", "b", status=2).stderr
        assert "is no backup of curate's" in curate("export", "--revert", ".", status=2).stderr


def test_nothing_is_written_over_the_data(scanned: Callable[[str], str]) -> None:
    data = scanned("csv")
    before = tree(data)
    for option in (["--patch", data], ["-f", f"cleanlab:./{data}"], [data]):
        assert "is, or lies in, the data that was scanned" in curate("export", *option, status=2).stderr
    assert tree(data) == before


def test_nothing_is_written_into_a_folder_of_data(scanned: Callable[[str], str]) -> None:
    before = tree(scanned("images"))
    assert "lies in, the data" in curate("export", "pets/cleaned", status=2).stderr
    assert tree("pets") == before


def test_a_new_class_of_a_data_set_with_class_labels(scanned: Callable[[str], str]) -> None:
    scanned("hf")
    with Store.open(Path(".curate/curate.db")) as store:
        store.mark("r01", "relabel", "c", reviewer="ada", new_class=True)
    assert "the feature label cannot hold 'c'" in curate("export", "out", status=2).stderr
    assert not Path("out").exists()


def test_data_without_a_file_gets_a_list_of_changes() -> None:
    curate("scan", "sklearn:iris")
    with Store.open(Path(".curate/curate.db")) as store:
        first, second = store.query("SELECT key, label FROM current_rows WHERE position IN (7, 60) ORDER BY position")
        store.mark(first["key"], "relabel", "virginica", reviewer="ada")
        store.mark(second["key"], "drop", reviewer="ada")
    told = curate("export", "out").stdout
    assert "changes.jsonl in it lists what changes" in told
    lines = [json.loads(line) for line in Path("out/changes.jsonl").read_text("utf-8").splitlines()]
    assert [list(line.values()) for line in lines] == [
        ["train", 7, first["key"], "relabel", "setosa", "virginica", 2],
        ["train", 60, second["key"], "drop", "versicolor", None, None],
    ]
    assert "there is no file to change" in curate("export", "--in-place", status=2).stderr
    assert "there is no file to change" in curate("export", "--patch", "p", status=2).stderr
