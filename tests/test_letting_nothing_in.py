"""What a stranger's folder, table, link or database may not do: write outside of the data, or show other files."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import curate
from PIL import Image

from curate.export.backups import RECORD
from curate.store import Store

NET = "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))\n"


def test_the_broad_excepts_are_those_that_the_page_lists():
    root = Path(__file__).parents[1]
    broad = re.compile(r"except Exception|suppress\(Exception|except:")
    found = {
        path.relative_to(root / "curate").as_posix()
        for path in (root / "curate").rglob("*.py")
        if broad.search(path.read_text("utf-8"))
    }
    page = (root / "docs" / "explanation" / "reliability.md").read_text("utf-8")
    boundaries = page.partition("## Boundaries")[2].partition("\n## ")[0]
    assert found == set(re.findall(r"`([\w/]+\.py)`", boundaries))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scanned table, and a verdict that changes a row of it."""
    folder = tmp_path_factory.mktemp("table")
    lines = [f"r{row},{row * row % 7},{row * 5 % 11},{'xy'[row % 2]}" for row in range(24)]
    with contextlib.chdir(folder):
        Path("a.csv").write_text("\n".join(["id,a,b,label", *lines]) + "\n")
        curate("scan", "a.csv", "--id", "id")
        curate("mark", "r3", "--verdict", "drop")
    return folder


@pytest.fixture
def table(scanned: Path, here: Path) -> str:
    """The same in the current folder; what the table holds."""
    shutil.copytree(scanned, here, dirs_exist_ok=True)
    return Path("a.csv").read_text()


# Reverting


def changed_record(folder: Path, change: Callable[[dict[str, str]], None]) -> None:
    told = json.loads((folder / RECORD).read_text())
    for entry in told["entries"]:
        change(entry)
    (folder / RECORD).write_text(json.dumps(told))


def known(folder: Path, roots: list[str]) -> None:
    """Make the database know the record as it stands: what is refused then is refused for its paths alone."""
    from curate.export.backups import read_record

    with Store.open(".curate/curate.db") as store, store.transaction() as connection:
        connection.execute(
            "INSERT INTO backups (dataset_id, run_id, folder, digest, roots, made) VALUES (1, 1, 'x', ?, ?, 'now')",
            [read_record(folder).digest, json.dumps(roots)],
        )


def test_a_strangers_record_is_not_put_back(table: str, here: Path) -> None:
    victim = here.parent / "victim"
    victim.write_text("mine")
    folder = Path("gift")
    folder.mkdir()
    (folder / "0-victim").write_text("yours")
    entry = {"how": "replace", "path": str(victim), "to": None, "kept": "0-victim", "root": "",
             "before": "a" * 64, "after": "b" * 64}  # fmt: skip
    (folder / RECORD).write_text(json.dumps({"entries": [entry]}))
    assert "does not know the backup" in curate("export", "--revert", "gift", status=2).stderr
    (folder / RECORD).write_text(json.dumps({"entries": [{**entry, "how": "move", "path": str(here.parent / "new")}]}))
    assert "does not know the backup" in curate("export", "--revert", "gift", status=2).stderr
    assert victim.read_text() == "mine"
    assert not (here.parent / "new").exists()


def test_a_record_that_was_changed_is_not_put_back(table: str) -> None:
    curate("export", "--in-place", "--backup", "kept")
    shutil.copytree("kept", "same")
    changed_record(Path("kept"), lambda entry: entry.update(path=entry["path"] + "x"))
    assert "does not know the backup" in curate("export", "--revert", "kept", status=2).stderr
    assert Path("a.csv").read_text() != table
    curate("export", "--revert", "same")  # known by what it says, wherever it lies
    assert Path("a.csv").read_text() == table
    assert "was put back before" in curate("export", "--revert", "same", status=2).stderr


def test_the_same_change_can_be_made_and_put_back_again(table: str) -> None:
    for _ in range(2):
        curate("export", "--in-place", "--backup", "kept")
        assert Path("a.csv").read_text() != table
        curate("export", "--revert", "kept")
        assert Path("a.csv").read_text() == table
        shutil.rmtree("kept")


def test_another_database_does_not_know_it(table: str) -> None:
    curate("export", "--in-place", "--backup", "kept")
    curate("scan", "a.csv", "--id", "id", "--db", "other.db")
    assert "made with another database" in curate("--db", "other.db", "export", "--revert", "kept", status=2).stderr


def test_a_kept_file_that_was_changed_is_not_put_back(table: str) -> None:
    curate("export", "--in-place", "--backup", "kept")
    now = Path("a.csv").read_text()
    (kept,) = [path for path in Path("kept").iterdir() if path.name != RECORD]
    kept.write_text("something else")
    assert "is not what was put there" in curate("export", "--revert", "kept", status=2).stderr
    assert Path("a.csv").read_text() == now


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(path="/etc/cron.d/x"),
        lambda entry: entry.update(path=str(Path("../victim").absolute())),
        lambda entry: entry.update(path="a.csv"),
        lambda entry: entry.update(path=str(Path().absolute() / "a.csv" / "..")),
        lambda entry: entry.update(kept="../../victim"),
        lambda entry: entry.update(kept="/etc/passwd"),
        lambda entry: entry.update(kept=""),
        lambda entry: entry.update(how="move", to="/tmp/x", kept="0-a.csv"),
        lambda entry: entry.update(how="move", to=None, root="/"),
    ],
)
def test_even_a_known_record_leads_nowhere_else(
    table: str, here: Path, change: Callable[[dict[str, str]], None]
) -> None:
    curate("export", "--in-place", "--backup", "kept")
    now = Path("a.csv").read_text()
    changed_record(Path("kept"), change)
    known(Path("kept"), [str(Path("a.csv").resolve())])
    assert "nothing was put back" in curate("export", "--revert", "kept", status=2).stderr
    assert Path("a.csv").read_text() == now
    assert sorted(path.name for path in here.parent.iterdir()) == ["work"]


def test_a_folder_that_became_a_link_leads_nowhere_else(here: Path) -> None:
    pets()
    curate("scan", "pets", "--model", "net.py:build")
    curate("mark", "cat/00.png", "--verdict", "drop")
    curate("export", "--in-place", "--backup", "kept")
    outside = here.parent / "outside"
    outside.mkdir()
    shutil.move("pets/cat", "cat-before")
    Path("pets/cat").symlink_to(outside)
    assert "nothing was put back" in curate("export", "--revert", "kept", status=2).stderr
    assert list(outside.iterdir()) == []


# Pictures


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(value)
    Image.fromarray((draw.integers(0, 60, (8, 8, 3)) + value).astype(np.uint8)).save(path)


def pets() -> None:
    for number in range(12):
        for value, label in ((10, "cat"), (150, "dog")):
            picture(Path("pets", label, f"{number:02}.png"), value + number)
    Path("net.py").write_text(NET)


@pytest.fixture
def secret(here: Path) -> Path:
    """A picture outside of the data, in a folder that a link of the data leads to; it looks like a cat among dogs."""
    file = here.parent / "private" / "secret.png"
    picture(file, 11)
    pets()
    Path("pets/dog/99.png").symlink_to(file)
    return file


def test_a_link_that_leads_out_is_scanned_and_not_shown(secret: Path) -> None:
    said = curate("scan", "pets", "--model", "net.py:build").output
    with Store.open(".curate/curate.db") as store:
        flagged = store.query("SELECT thumbnail IS NULL AS hidden FROM review_queue WHERE key = 'dog/99.png'")
        assert flagged == [{"hidden": 1}], "the trap is not flagged: the test is none"
    assert "1 flagged pictures lie outside of the data's folder" in " ".join(said.split())
    page = curate("show", "dog/99.png", "-f", "html").stdout
    assert "data:image" not in page
    assert "data:image" in curate("show", "dog/01.png", "-f", "html").stdout
    assert "data:image" in curate("show", "dog/99.png", "-f", "html", CURATE_MEDIA_ROOT=str(secret.parent)).stdout


def test_it_is_not_exported_unless_asked_for(secret: Path) -> None:
    curate("scan", "pets", "--model", "net.py:build")
    for arguments in (("out",), ("out", "--pictures", "link"), ("-f", "fiftyone:out"), ("-f", "label-studio:out.json")):
        told = curate("export", *arguments, status=2).stderr
        assert "lies outside of the data's folder" in told
        assert not Path("out").exists()
        assert not Path("out.json").exists()
    curate("export", "out", "--media-root", str(secret.parent))
    assert Path("out/dog/99.png").read_bytes() == secret.read_bytes()
    curate("export", "-f", "fiftyone:tool", "--media-root", str(secret.parent))


def test_a_table_that_names_other_files_shows_none(here: Path) -> None:
    pets()
    file = here.parent / "private" / "secret.png"
    picture(file, 11)
    shutil.move("pets", "work")
    rows = [f"{label}/{number:02}.png,{label}" for number in range(12) for label in ("cat", "dog")]
    rows += [f"{file},dog", "../../private/secret.png,cat"]
    Path("work/pictures.csv").write_text("image,label\n" + "\n".join(rows) + "\n")
    curate("scan", "work/pictures.csv", "--model", "net.py:build")
    with Store.open(".curate/curate.db") as store:
        assert store.query(
            "SELECT count(*) AS n FROM examples WHERE media_path LIKE '%secret%' AND thumbnail NOT NULL"
        ) == [{"n": 0}]
    assert "data:image" not in curate("show", "../../private/secret.png", "-f", "html").stdout
    assert "lies outside" in curate("export", "-f", "fiftyone:out", status=2).stderr


def test_a_strangers_settings_may_not_allow_it(here: Path) -> None:
    gift = here.parent / "gift"
    gift.mkdir()
    (gift / "curate.toml").write_text('media-root = "/"\n')
    assert "would show other files" in curate("scan", str(gift), status=2).stderr


# Leaving out


def test_pictures_stay_out_of_database_and_reports() -> None:
    pets()
    os.replace("pets/cat/00.png", "pets/dog/00.png")
    curate("scan", "pets", "--model", "net.py:build")
    with Store.open(".curate/curate.db") as store:
        assert store.query("SELECT count(*) AS n FROM examples WHERE thumbnail NOT NULL") != [{"n": 0}]
    curate("scan", "pets", "--model", "net.py:build", "--no-thumbnails")
    with Store.open(".curate/curate.db") as store:
        assert store.query("SELECT count(*) AS n FROM examples WHERE thumbnail NOT NULL") == [{"n": 0}]
    assert "data:image" not in curate("show", "dog/00.png", "-f", "html").stdout
    assert "data:image/jpeg" not in curate("report", "-f", "html").stdout


def test_texts_stay_out_of_database_and_reports() -> None:
    rows = [{"text": f"secret words about {'cats that purr' if row % 2 else 'dogs that bark'} {row}",
             "label": "cd"[row % 2] if row else "d"} for row in range(40)]  # fmt: skip
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def stored() -> tuple[int, int]:
        with Store.open(".curate/curate.db") as store:
            (texts,) = store.query("SELECT count(text) AS n FROM examples")
            (found,) = store.query("SELECT count(*) AS n FROM examples_fts WHERE examples_fts MATCH 'secret'")
            return texts["n"], found["n"]

    curate("scan", "a.jsonl")
    assert stored() == (40, 40)
    curate("scan", "a.jsonl", "--no-text")
    assert stored() == (0, 0)
    for name in ("json", "html", "csv", "text", "markdown", "sarif"):
        assert "secret" not in curate("report", "-f", name).output
    curate("scan", "a.jsonl")
    assert stored() == (40, 40)


def test_a_call_leaves_texts_out_too() -> None:
    import curate as door

    texts = [f"secret words about {'cats that purr' if row % 2 else 'dogs that bark'} {row}" for row in range(40)]
    run = door.scan((texts, ["cd"[row % 2] for row in range(40)]), text=False)
    run.to_html("rows.html")
    assert "secret" not in Path("rows.html").read_text("utf-8")
    assert b"secret" not in Path(".curate/curate.db").read_bytes()
