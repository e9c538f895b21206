"""`curate scan` through its real entry point, on the shipped fixtures and on small sets made here."""

import csv
import io
import re
import runpy
import shlex
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

import curate.stages.forward
from curate.cli import main

FIXTURES = Path(__file__).parent.parent / "fixtures"
CLASSES, TRAIN = 5, 140

MLP = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, {outputs}))

def transform(row):
    return torch.as_tensor(row, dtype=torch.float32) / 16
"""


def curate_scan(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["scan", *map(str, arguments)])


def table(database: Path, sql: str) -> list[tuple]:
    with sqlite3.connect(database) as connection:
        return connection.execute(sql).fetchall()


def scores(database: Path) -> dict[str, tuple]:
    columns = (
        "suspicion, loss, margin, self_influence, harm, neighbour_agreement, given_probability, suggested_probability"
    )
    rows = table(
        database,
        f"SELECT e.split || ':' || e.key, {columns} FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
        "WHERE s.run_id = (SELECT max(id) FROM runs)",
    )
    return {row[0]: row[1:] for row in rows}


def assert_close(left: dict[str, tuple], right: dict[str, tuple], tolerance: float) -> None:
    assert left.keys() == right.keys()
    for column in range(8):
        a, b = (np.array([np.nan if row[column] is None else row[column] for row in side])
                for side in ([left[key] for key in left], [right[key] for key in left]))  # fmt: skip
        assert np.array_equal(np.isnan(a), np.isnan(b))
        scale = np.nanmax(np.abs(a)) if not np.isnan(a).all() else 1.0
        assert np.nanmax(np.abs(np.nan_to_num(a) - np.nan_to_num(b))) <= tolerance * scale, column


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.npz, eval.npz, model.py and trained weights, of five digits."""
    folder = tmp_path_factory.mktemp("digits")
    with np.load(FIXTURES / "digits.npz") as stored:
        few = stored["y"].astype(int) < CLASSES
        x, y, ids = stored["x"][few], stored["y"][few], stored["id"][few]
    np.savez(folder / "train.npz", x=x[:TRAIN], y=y[:TRAIN], id=ids[:TRAIN])
    np.savez(folder / "eval.npz", x=x[TRAIN:], y=y[TRAIN:], id=ids[TRAIN:])
    (folder / "model.py").write_text(MLP.format(outputs=CLASSES))
    scope: dict = {}
    exec(MLP.format(outputs=CLASSES), scope)
    model = scope["build"]()
    inputs, labels = torch.as_tensor(x[:TRAIN], dtype=torch.float32) / 16, torch.as_tensor(y[:TRAIN].astype(int))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()
    save_file(model.state_dict(), folder / "weights.safetensors")
    return folder


def with_model(folder: Path) -> list[object]:
    return ["--eval", folder / "eval.npz", "--id", "id", "--model", f"{folder}/model.py:build",
            "--weights", folder / "weights.safetensors"]  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder with the shipped pictures in ``fixtures/fashion``, and what a scan of them, in that folder, says."""
    folder = tmp_path_factory.mktemp("shipped")
    shutil.copytree(FIXTURES / "fashion", folder / "fixtures" / "fashion")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = curate_scan("fixtures/fashion")
    assert result.exit_code == 0, result.output
    return folder, result


def test_the_image_fixture_needs_no_option(fashion: tuple[Path, Result]) -> None:
    folder, result = fashion
    assert "600 training rows in 5 classes and 125 evaluation rows" in result.output
    lines = result.stdout.splitlines()
    assert len(lines) <= 60  # of 100 columns: a screen
    last = max(number for number, line in enumerate(lines, 1) if " error " in line)
    assert last <= 40
    assert sum(" error " in line for line in lines) == int(re.findall(r"(\d+) errors", result.stdout)[0])
    with (FIXTURES / "fashion" / "flips.csv").open() as file:
        flips = {row["key"] for row in csv.DictReader(file)}
    first = table(
        folder / ".curate" / "curate.db",
        "SELECT e.key FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
        f"WHERE e.split = 'train' ORDER BY s.rank LIMIT {len(flips)}",
    )
    assert sum(key in flips for (key,) in first) >= 0.8 * len(flips)


NUMBER = re.compile(r"\d[\d.,]*\d|\d")


def alike(one: str, other: str) -> bool:
    """The same words, and numbers that differ by a fifth or 3 at the most: another torch rounds otherwise.

    Which row and which class stands first may change with it.
    """
    names = re.compile(r"\S*/\d{4}\.png|\b(ankle-boot|bag|dress|sandal|trouser)\b")
    masked = [" ".join(NUMBER.sub("#", names.sub("*", text)).split()) for text in (one, other)]
    numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(names.sub("", text))] for text in (one, other)]
    close = all(abs(a - b) <= max(0.2 * abs(a), 3) for a, b in zip(*numbers, strict=False))
    return masked[0] == masked[1] and close


def test_the_tutorial_shows_what_its_commands_print(
    fashion: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scanned = fashion
    monkeypatch.chdir(folder)
    tutorial = runpy.run_path(str(FIXTURES.parent / "docs" / "make_tutorial.py"))
    shown = tutorial["PAGE"].read_text("utf-8")

    def told(command: str) -> str:
        if command == tutorial["SCAN"]:
            return scanned.stdout
        return tutorial["SECONDS"].sub("", CliRunner().invoke(main, shlex.split(command)[1:]).stdout)

    anew = tutorial["page"](shown, told, tutorial["facts"](folder / ".curate" / "curate.db"))
    assert len(tutorial["BLOCK"].findall(shown)) >= 6
    assert [pair for pair in zip(shown.splitlines(), anew.splitlines(), strict=True) if not alike(*pair)] == [], (
        "run python docs/make_tutorial.py"
    )


LISSA = ("--solver", "lissa", "--damping", 0.5, "--no-cache")
"""With a damping that the recursion needs few steps for."""


@pytest.fixture(scope="module")
def plain(digits: Path) -> Path:
    """The database of one scan with LiSSA."""
    result = curate_scan(digits / "train.npz", *with_model(digits), *LISSA, "--db", digits / "plain.db")
    assert result.exit_code == 0, result.output
    return digits / "plain.db"


def test_two_runs_write_the_same_scores(digits: Path, plain: Path, tmp_path: Path) -> None:
    result = curate_scan(digits / "train.npz", *with_model(digits), *LISSA, "--db", "again.db")
    assert result.exit_code == 0, result.output
    assert scores(plain) == scores(tmp_path / "again.db")
    pairs = "SELECT eval_example_id, train_example_id, influence, rank FROM influences ORDER BY 1, 4"
    assert table(plain, pairs) == table(tmp_path / "again.db", pairs)


def test_row_order_and_batch_size_do_not_matter(digits: Path, plain: Path, tmp_path: Path) -> None:
    with np.load(digits / "train.npz") as stored:
        order = np.random.default_rng(3).permutation(len(stored["y"]))
        np.savez(tmp_path / "train.npz", **{name: stored[name][order] for name in stored.files})
    given = ["--batch-size", 7, "--db", "shuffled.db"]
    assert curate_scan(tmp_path / "train.npz", *with_model(digits), *LISSA, *given).exit_code == 0
    assert_close(scores(plain), scores(tmp_path / "shuffled.db"), 1e-4)


def test_less_memory_changes_scores_by_rounding_alone(digits: Path, plain: Path, tmp_path: Path) -> None:
    given = ["--memory", "64MB", "--db", "less.db"]
    assert curate_scan(digits / "train.npz", *with_model(digits), *LISSA, *given).exit_code == 0
    assert_close(scores(plain), scores(tmp_path / "less.db"), 1e-6)


def test_lissa_and_exact_agree_at_the_same_damping(digits: Path, plain: Path, tmp_path: Path) -> None:
    result = curate_scan(
        digits / "train.npz", *with_model(digits), "--solver", "exact", "--damping", 0.5, "--db", "exact.db"
    )
    assert result.exit_code == 0, result.output
    harm = [np.array([row[4] for key, row in sorted(scores(path).items()) if key.startswith("train")])
            for path in (tmp_path / "exact.db", plain)]  # fmt: skip
    assert np.corrcoef(*harm)[0, 1] > 0.99
    asked = table(plain, "SELECT damping_asked, damping, residual FROM receipts WHERE solver = 'lissa'")
    assert asked[0][0] == 0.5
    assert asked[0][1] == 0.5
    assert asked[0][2] < 0.05


def test_the_damping_asked_for_is_used_at_the_head(digits: Path, tmp_path: Path) -> None:
    result = curate_scan(digits / "train.npz", *with_model(digits), "--params", "head", "--damping", 0.5)
    assert result.exit_code == 0, result.output
    used = table(
        tmp_path / ".curate" / "curate.db", "SELECT damping FROM receipts WHERE quantity = 'evaluation influence'"
    )
    assert used == [(0.5,)]


def test_without_a_model_and_without_an_evaluation_set(tmp_path: Path) -> None:
    result = curate_scan(FIXTURES / "digits.npz", "--id", "id", "-v")
    assert result.exit_code == 0, result.output
    assert "no evaluation set was given" in result.output.replace("\n  ", " ")
    database = tmp_path / ".curate" / "curate.db"
    assert table(database, "SELECT DISTINCT split FROM examples") == [("train",)]
    assert table(database, "SELECT count(*) FROM scores WHERE harm IS NULL OR self_influence IS NULL") == [(0,)]
    with (FIXTURES / "digits_flips.csv").open() as file:
        flips = {next(iter(row.values())) for row in csv.DictReader(file)}
    first = table(
        database, "SELECT e.key FROM scores AS s JOIN examples AS e ON e.id = s.example_id ORDER BY s.rank LIMIT 20"
    )
    assert sum(key in flips for (key,) in first) >= 16


def test_rows_without_a_label_are_counted(tmp_path: Path) -> None:
    lines = [f"{row % 2 + row / 100},{'ab'[row % 2] if row not in (3, 8) else ''}" for row in range(40)]
    (tmp_path / "a.csv").write_text("x,label\n" + "\n".join(lines) + "\n")
    result = curate_scan(tmp_path / "a.csv")
    assert "38 training rows in 2 classes" in result.stdout
    assert "2 rows without a label skipped" in " ".join(result.stdout.split())


def test_a_model_of_other_classes_is_a_feature_extractor(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MLP.format(outputs=1000))
    result = curate_scan(digits / "train.npz", "--model", "model.py:build", "-v")
    assert result.exit_code == 0, result.output
    assert f"1000 outputs for {CLASSES} classes" in result.output
    assert table(tmp_path / ".curate" / "curate.db", "SELECT accuracy_head FROM runs") == [(None,)]
    refused = curate_scan(digits / "train.npz", "--model", "model.py:build", "--params", "all")
    assert refused.exit_code == 2
    assert "needs a model whose outputs are the classes" in refused.output


def test_an_interrupted_run_is_kept_and_resumed(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.stages.forward, "SHARD_ROWS", 50)
    at_head = [*with_model(digits), "--params", "head"]  # the cache keeps what the network gave: solvers have none
    reads = {"left": 75}
    plain = curate.stages.cache.ForwardCache.get

    def interrupted(self: curate.stages.cache.ForwardCache, sha256: str) -> object:
        reads["left"] -= 1
        if reads["left"] == 0:
            raise KeyboardInterrupt
        return plain(self, sha256)

    monkeypatch.setattr(curate.stages.cache.ForwardCache, "get", interrupted)
    assert curate_scan(digits / "train.npz", *at_head).exit_code == 130
    database = tmp_path / ".curate" / "curate.db"
    assert table(database, "SELECT status FROM runs") == [("interrupted",)]
    assert table(database, "SELECT count(*) FROM examples") == [(0,)]
    assert curate_scan(digits / "train.npz", *at_head).exit_code == 0
    assert table(database, "SELECT status, json_extract(counts, '$.reused') FROM runs WHERE id = 2") == [
        ("finished", 50)
    ]
    assert curate_scan(digits / "train.npz", *at_head, "--no-cache", "--db", "anew.db").exit_code == 0
    assert_close(scores(database), scores(tmp_path / "anew.db"), 1e-4)


def folder_of_images(root: Path, classes: int = 2, each: int = 30) -> Path:
    draw = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(each):
            pixels = draw.integers(0, 60, (8, 8)) + 90 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")
    return root


IMAGE_MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))

def broken():
    model = build()
    model[3].weight.data.fill_(float("nan"))
    return model
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(IMAGE_MODEL)
    return folder_of_images(tmp_path / "images")


def test_conflicts_leaks_and_unreadable_rows_become_findings(images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "class0" / "00.png", images / "class1" / "copy.png")
    (images / "class1" / "torn.png").write_bytes(b"\x89PNG no more")
    held_out = folder_of_images(tmp_path / "held-out", each=4)
    shutil.copy(images / "class0" / "05.png", held_out / "class0" / "leaked.png")
    for path in held_out.glob("class*/0*.png"):
        Image.fromarray((np.asarray(Image.open(path)) + 1).astype(np.uint8)).save(path)
    result = curate_scan("images", "--eval", "held-out", "--model", "model.py:build")
    assert result.exit_code == 0, result.output
    found = table(
        tmp_path / ".curate" / "curate.db",
        "SELECT f.rule, f.severity, e.split, e.key FROM findings AS f JOIN examples AS e ON e.id = f.example_id "
        "WHERE f.rule <> 'mislabeled' ORDER BY 1, 4",
    )
    assert found == [
        ("conflict", "error", "train", "class0/00.png"),
        ("conflict", "error", "train", "class1/copy.png"),
        ("leak", "error", "eval", "class0/leaked.png"),
        ("unreadable", "error", "train", "class1/torn.png"),
    ]
    gated = curate_scan("images", "--model", "model.py:build", "--fail-on", "unreadable")
    assert gated.exit_code == 1
    assert gated.output.rstrip().splitlines()[-1].startswith("failed: 1 unreadable")
    assert curate_scan("images", "--model", "model.py:build", "--fail-on", "unreadable", "--exit-zero").exit_code == 0


def test_flagged_pictures_have_thumbnails(images: Path, tmp_path: Path) -> None:
    picture = images / "class0" / "00.png"
    (images / "class1" / "copy.png").write_bytes(picture.read_bytes())
    assert curate_scan("images", "--model", "model.py:build", "--db", "t.db").exit_code == 0
    flagged = dict(
        table(
            tmp_path / "t.db", "SELECT e.key, e.thumbnail FROM examples AS e JOIN findings AS f ON f.example_id = e.id"
        )
    )
    assert {"class0/00.png", "class1/copy.png"} <= set(flagged)
    small = Image.open(io.BytesIO(flagged["class0/00.png"]))
    assert (small.format, small.size, small.mode) == ("JPEG", (8, 8), "RGB")
    # So have the rows nearest to them, which are shown beside them, and no others.
    others = (
        "SELECT count(*) FROM examples WHERE thumbnail IS NOT NULL AND id NOT IN (SELECT example_id FROM findings) "
        "AND key NOT IN (SELECT near.value ->> 'key' FROM findings AS f, json_each(f.evidence, '$.nearest') AS near)"
    )
    assert table(tmp_path / "t.db", others) == [(0,)]


def test_copies_of_a_wrong_row_do_not_vouch_for_one_another(tmp_path: Path) -> None:
    with np.load(FIXTURES / "digits.npz") as stored:
        x, y = stored["x"], stored["y"].astype(str)
    clean = curate_scan("arrays:" + str(FIXTURES / "digits.npz"), "--db", "clean.db")
    assert clean.exit_code == 0
    wrong = "1" if y[0] != "1" else "2"
    np.savez(tmp_path / "copies.npz", x=np.concatenate([x, x[:1].repeat(6, 0)]), y=np.concatenate([y, [wrong] * 6]))
    assert curate_scan("copies.npz", "--db", "copies.db").exit_code == 0
    ranks = table(
        tmp_path / "copies.db",
        "SELECT s.rank FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
        "WHERE e.content_sha256 = (SELECT content_sha256 FROM examples GROUP BY 1 HAVING count(*) > 5) "
        f"AND e.label = '{wrong}'",
    )
    assert max(rank for (rank,) in ranks) <= 30


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["images", "--model", "model.py:broken"], 4, "not finite on the first rows"),
        (["sklearn:iris", "--params", "all"], 2, "--params all needs a model"),
        (["sklearn:iris", "--weights", "w.pt"], 2, "--weights needs a model"),
        (["sklearn:iris", "--solver", "lissa"], 2, "--solver lissa needs a model"),
        (["sklearn:iris", "--device", "cuda:7"], 2, "there is no such device here"),
        (["images", "--model", "model.py:build", "--params", "encoder"], 2, "no parameter has such a name"),
        (["images", "--model", "model.py:build", "--head", "99"], 2, "no linear layer of that name"),
        (["sklearn:iris", "--damping", "-1"], 2, "damping"),
        (["sklearn:iris", "--fail-on", "nonsense"], 2, "no such rule or severity"),
    ],
)
def test_errors(images: Path, arguments: list[str], status: int, words: str) -> None:
    result = curate_scan(*arguments)
    assert result.exit_code == status, result.output
    assert words in result.output
    assert "Traceback" not in result.output
    said = [line for line in result.output.splitlines() if not line.startswith("curate: Read")]
    assert len(said) <= 2


def test_over_five_per_cent_unreadable_is_an_error(images: Path) -> None:
    for number in range(5):
        (images / "class0" / f"{number:02}.png").write_bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0"
        )
    result = curate_scan("images", "--model", "model.py:build")
    assert result.exit_code == 2
    assert "5 of 60 rows of images cannot be read" in result.output
    assert "git lfs pull" in result.output


def test_one_pointer_of_git_lfs_is_an_error(images: Path) -> None:
    (images / "class0" / "00.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    result = curate_scan("images", "--model", "model.py:build")
    assert result.exit_code == 2
    assert "1 of 60 rows of images cannot be read" in result.output
    assert "git lfs pull" in result.output


def test_strict_allows_no_unreadable_row(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "class0" / "00.png").write_bytes(b"no picture")
    assert curate_scan("images", "--model", "model.py:build").exit_code == 0
    result = curate_scan("images", "--model", "model.py:build", "--strict")
    assert result.exit_code == 2
    assert "1 of 60 rows of images cannot be read; the first is class0/00.png" in result.output
    assert "--strict allows none" in result.output
    monkeypatch.setenv("CURATE_STRICT", "1")
    assert curate_scan("images", "--model", "model.py:build").exit_code == 2


def test_nothing_readable_is_never_a_success(images: Path) -> None:
    for path in images.glob("*/*.png"):
        path.write_bytes(b"")
    result = curate_scan("images", "--model", "model.py:build")
    assert result.exit_code == 5
    assert (
        "no row could be read, of 60; the first is class0/00.png: the file is empty (all for this reason)"
        in result.output
    )


def test_a_loss_that_is_not_finite_ends_with_status_4(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        MLP.format(outputs=CLASSES).replace("/ 16", "/ 16 * (1e38 if row[2] > 8 else 1)")
    )
    result = curate_scan(digits / "train.npz", "--model", "model.py:build")
    assert result.exit_code == 4, result.output
    assert "not finite" in result.output
    assert table(tmp_path / ".curate" / "curate.db", "SELECT status FROM runs") == [("failed",)]
