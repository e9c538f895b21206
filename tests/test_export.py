"""`curate export`: without a verdict the identity, byte for byte; with verdicts exactly these, in every format."""

import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from command import curate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from curate.export.patch import spliced, unified
from curate.export.tables import records
from curate.store import Store

N = 40


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def say(*verdicts: tuple[str, str, str | None]) -> None:
    with Store.open(Path(".curate/curate.db")) as store:
        for key, verdict, label in verdicts:
            store.mark(key, verdict, label, reviewer="ada", new_class=True)


def values(row: int) -> tuple[float, float]:
    return round(row % 2 * 3 + row / 100, 3), round(row % 2 * 3 - row / 50, 3)


def table(delimiter: str = ",", end: str = "\n", quote: bool = False, mark: str = "", last: bool = True) -> bytes:
    """40 rows as some program writes them; ids r00 ... and a note that holds every sign that needs a quote."""
    lines = [delimiter.join(["id", "p", "q", "label", "note"])]
    for row in range(N):
        label = f'"{"ab"[row % 2]}"' if quote else "ab"[row % 2]
        note = f'"say ""x""{delimiter} line{end}two"' if row % 3 == 0 else "plain"
        lines.append(delimiter.join([f"r{row:02}", *map(str, values(row)), label, note]))
    return (mark + end.join(lines) + (end if last else "")).encode()


def parsed(content: bytes, delimiter: str = ",") -> dict[str, list[str]]:
    text = content.decode("utf-8-sig")
    return {row[0]: row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)}


def applied(name: str, *more: str) -> None:
    """By git, which knows nothing of curate; outside of any repository."""
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn", *more, name], check=True, env={**os.environ, "GIT_DIR": "no"}
    )


DIALECTS = [
    {}, {"delimiter": ";", "end": "\r\n", "mark": "\ufeff"}, {"quote": True}, {"delimiter": "\t", "last": False},
]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_csv(dialect: dict[str, object]) -> None:
    content = table(**dialect)  # type: ignore[arg-type]
    Path("a.csv").write_bytes(content)
    curate("scan", "a.csv", "--id", "id", "--input", "p,q")
    curate("export", "same")
    assert Path("same/a.csv").read_bytes() == content

    say(("r00", "relabel", "b"), ("r03", "drop", None), ("r04", "keep", None), ("r07", "unsure", None),
        ("r09", "relabel", 'n"e,w;\tt'))  # fmt: skip
    told = curate("export", "out").stdout
    assert "wrote out: 40 rows, 2 relabelled, 1 dropped" in told
    delimiter = str(dialect.get("delimiter", ","))
    before, after = parsed(content, delimiter), parsed(Path("out/a.csv").read_bytes(), delimiter)
    before["r00"][3], before["r09"][3] = "b", 'n"e,w;\tt'
    del before["r03"]
    assert after == before
    assert list(after) == list(before)
    assert "wrote p.patch" in curate("export", "--patch", "p.patch").stdout
    applied("p.patch")
    assert Path("a.csv").read_bytes() == Path("out/a.csv").read_bytes()
    applied("p.patch", "-R")
    assert Path("a.csv").read_bytes() == content
    # every line that no verdict is on is the same to the byte
    untouched = [line for line in content.splitlines() if line[:3] not in (b"r00", b"r03", b"r09")]
    assert set(untouched) <= set(Path("out/a.csv").read_bytes().splitlines()) | {b'two"', b'"'}
    assert content == Path("a.csv").read_bytes()


def test_csv_without_header_and_in_another_encoding() -> None:
    lines = [f"{values(row)[0]};{'Müll' if row % 2 else 'Öl'}" for row in range(N)]
    content = ("\r\n".join(lines) + "\r\n").encode("cp1252")
    Path("a.csv").write_bytes(content)
    curate("scan", "a.csv", "--no-header", "--label", "-1")
    with Store.open(Path(".curate/curate.db")) as store:
        (row,) = store.query("SELECT key FROM named_examples WHERE position = 5")
    say((str(row["key"]), "relabel", "Öl"))
    curate("export", "out")
    lines[5] = lines[5].replace("Müll", "Öl")
    assert Path("out/a.csv").read_bytes() == ("\r\n".join(lines) + "\r\n").encode("cp1252")


def test_broken_lines_are_counted_and_stay() -> None:
    lines = ["id,p,q,label", *(f"r{row:02},{values(row)[0]},{values(row)[1]},{'ab'[row % 2]}" for row in range(N))]
    lines.insert(6, "r99,broken")
    lines.insert(9, "")
    Path("a.csv").write_text("\n".join(lines))
    curate("scan", "a.csv", "--id", "id", "--input", "p,q")
    say(("r20", "drop", None), ("r21", "relabel", "a"))
    curate("export", "out")
    assert "r21" in lines[24]
    lines[24] = lines[24].replace(",b", ",a")
    assert "r20" in lines.pop(23)
    assert Path("out/a.csv").read_text() == "\n".join(lines)


def test_jsonl() -> None:
    rows = [{"id": f"r{row:02}", "x": values(row)[0], "label": row % 2, "ü": None} for row in range(N)]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n"
    Path("a.jsonl").write_text(text)
    curate("scan", "a.jsonl", "--id", "id", "--input", "x")
    curate("export", "same")
    assert Path("same/a.jsonl").read_text() == text
    say(("r00", "relabel", "1"), ("r03", "drop", None))
    curate("export", "out")
    rows[0]["label"] = 1
    del rows[3]
    curate("export", "--patch", "p.patch")
    applied("p.patch")
    assert Path("a.jsonl").read_bytes() == Path("out/a.jsonl").read_bytes()
    applied("p.patch", "-R")
    assert Path("a.jsonl").read_text() == text
    assert Path("out/a.jsonl").read_text() == "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n"
    say(("r05", "relabel", "new"))
    assert "the column label cannot hold 'new'" in curate("export", "no", status=2).stderr
    assert not Path("no").exists()
    assert not list(Path().glob(".no*"))


@pytest.mark.parametrize("kind", ["text", "dictionary", "int8"])
def test_parquet(kind: str) -> None:
    words = [row % 2 for row in range(N)] if kind == "int8" else ["ab"[row % 2] for row in range(N)]
    label = pyarrow.array(words, pyarrow.int8() if kind == "int8" else pyarrow.string())
    if kind == "dictionary":
        label = label.dictionary_encode()
    schema = pyarrow.schema(
        [
            pyarrow.field("id", pyarrow.large_string()),
            pyarrow.field("x", pyarrow.float32()),
            pyarrow.field("label", label.type, metadata={"is": "it"}),
            pyarrow.field("l", pyarrow.list_(pyarrow.int16())),
        ],
        metadata={"made": "by hand"},
    )
    columns = [
        [f"r{row:02}" for row in range(N)],
        [values(row)[0] for row in range(N)],
        label,
        [[row] for row in range(N)],
    ]
    made = pyarrow.table(
        [column if isinstance(column, pyarrow.Array) else pyarrow.array(column, field.type)
         for column, field in zip(columns, schema, strict=True)], schema=schema,
    )  # fmt: skip
    parquet.write_table(made, "a.parquet", compression="gzip", row_group_size=16)
    before = parquet.read_table("a.parquet")
    curate("scan", "a.parquet", "--id", "id", "--input", "x")
    curate("export", "same")
    assert Path("same/a.parquet").read_bytes() == Path("a.parquet").read_bytes()
    say(("r00", "relabel", "1" if kind == "int8" else "b"), ("r03", "drop", None))
    curate("export", "out")
    after = parquet.read_table("out/a.parquet")
    assert after.schema.equals(before.schema, check_metadata=True)
    expected = before.to_pylist()
    expected[0]["label"] = 1 if kind == "int8" else "b"
    del expected[3]
    assert after.to_pylist() == expected
    assert parquet.ParquetFile("out/a.parquet").metadata.row_group(0).column(0).compression == "GZIP"
    assert parquet.ParquetFile("out/a.parquet").metadata.row_group(0).num_rows == 16


@pytest.mark.parametrize("labels", ["numbers", "texts"])
def test_arrays(labels: str) -> None:
    y = np.arange(N, dtype=np.uint8) % 2 if labels == "numbers" else np.array([["a", "b"][row % 2] for row in range(N)])
    arrays = {
        "x": np.array([values(row) for row in range(N)], np.float16), "y": y, "file": np.array(3),
        "id": np.array([f"r{row:02}" for row in range(N)]), "names": np.array(["one", "two"]),
    }  # fmt: skip
    with open("a.npz", "wb") as file:
        import zipfile

        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, array in arrays.items():
                with packed.open(f"{name}.npy", "w") as part:
                    np.lib.format.write_array(part, array)
    curate("scan", "a.npz", "--id", "id")
    curate("export", "same")
    assert Path("same/a.npz").read_bytes() == Path("a.npz").read_bytes()
    say(("r00", "relabel", "1" if labels == "numbers" else "b"), ("r03", "drop", None))
    curate("export", "out")
    arrays["y"][0] = arrays["y"][1]
    kept = np.arange(N) != 3
    with np.load("out/a.npz") as after:
        assert after.files == list(arrays)
        for name, array in arrays.items():
            wanted = array[kept] if array.ndim and len(array) == N else array
            assert after[name].dtype == wanted.dtype
            np.testing.assert_array_equal(after[name], wanted)
    say(("r05", "relabel", "long"))
    if labels == "numbers":
        assert "'y' cannot hold 'long'" in curate("export", "no", status=2).stderr
    else:
        curate("export", "long")
        assert np.load("long/a.npz")["y"][4] == "long"


@pytest.fixture(scope="module")
def made_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures and their scan."""
    root = tmp_path_factory.mktemp("pictures")
    with contextlib.chdir(root):
        draw = np.random.default_rng(0)
        for split, each in (("train", 20), ("val", 4)):
            for label in range(2):
                folder = Path("pets", split, "ab"[label], "deep")
                folder.mkdir(parents=True)
                for number in range(each):
                    pixels = draw.integers(0, 60, (8, 8)) + 90 * label
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")
        Path("net.py").write_text(
            "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))\n"
        )
        curate("scan", "pets", "--model", "net.py:build")
    return root


@pytest.fixture(scope="module")
def made_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and its scan."""
    root = tmp_path_factory.mktemp("table")
    with contextlib.chdir(root):
        Path("a.csv").write_bytes(table())
        curate("scan", "a.csv", "--id", "id", "--input", "p,q")
    return root


class TestPictures:
    @pytest.fixture(autouse=True)
    def pictures(self, made_pictures: Path) -> None:
        shutil.copytree(made_pictures, Path.cwd(), dirs_exist_ok=True)

    def tree(self, root: str) -> dict[str, bytes]:
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(Path(root).rglob("*")) if p.is_file()}

    def test_copies(self) -> None:
        before = self.tree("pets")
        curate("export", "same")
        assert self.tree("same") == before
        say(("train/a/deep/00.png", "relabel", "b"), ("train/a/deep/01.png", "drop", None),
            ("train/b/deep/02.png", "relabel", "c"), ("val/a/deep/00.png", "drop", None))  # fmt: skip
        told = curate("export", "out").stdout
        assert "48 rows, 2 relabelled, 1 dropped" in told
        assert "1 verdict on evaluation rows left out" in told
        expected = dict(before)
        expected["train/b/deep/00-a.png"] = expected.pop("train/a/deep/00.png")  # the name was taken
        expected["train/c/deep/02.png"] = expected.pop("train/b/deep/02.png")
        del expected["train/a/deep/01.png"]
        assert self.tree("out") == expected
        curate("export", "all", "--allow-eval")
        del expected["val/a/deep/00.png"]
        assert self.tree("all") == expected
        assert self.tree("pets") == before

    def test_links_and_moves(self) -> None:
        before = self.tree("pets")
        say(("train/a/deep/00.png", "relabel", "b"), ("train/a/deep/01.png", "drop", None))
        curate("export", "linked", "--pictures", "link")
        assert all(path.is_symlink() for path in Path("linked").rglob("*.png"))
        assert len(self.tree("linked")) == len(before) - 1
        curate("export", "listed", "--pictures", "list")
        assert Path("listed/moves.csv").read_bytes().decode().splitlines() == [
            "from,to", "train/a/deep/00.png,train/b/deep/00-a.png", "train/a/deep/01.png,"
        ]  # fmt: skip

    @pytest.mark.parametrize("label", ["..", "x/y", "."])
    def test_a_label_leads_nowhere_else(self, label: str) -> None:
        say(("train/a/deep/00.png", "relabel", label))
        assert "is no name for a class folder" in curate("export", "out", status=2).stderr
        assert not Path("out").exists()


class TestRefused:
    @pytest.fixture(autouse=True)
    def scanned(self, made_table: Path) -> None:
        shutil.copytree(made_table, Path.cwd(), dirs_exist_ok=True)

    def test_nothing_named(self) -> None:
        assert "Nothing to write was named" in curate("export", status=2).stderr
        assert "no such format" in curate("export", "--verdicts", "a.txt", status=2).stderr

    def test_a_folder_that_holds_something(self) -> None:
        Path("out").mkdir()
        curate("export", "out")
        assert "out is there already" in curate("export", "out", status=2).stderr

    @pytest.mark.parametrize(
        "change", [(b"r00,0.0", b"r00,9.9"), (b"r00,0.0,0.0,a", b"r00,0.0,0.0,b"), (b"r00,", b"r77,")]
    )
    def test_a_row_that_changed_since(self, change: tuple[bytes, bytes]) -> None:
        say(("r00", "drop", None))
        content = Path("a.csv").read_bytes()
        assert change[0] in content
        Path("a.csv").write_bytes(content.replace(*change, 1))
        assert "the row r00 is no longer what the scan read" in curate("export", "out", status=2).stderr

    def test_rows_that_moved_are_found(self) -> None:
        say(("r00", "drop", None))
        lines = Path("a.csv").read_text().split("\nr")
        Path("a.csv").write_text("\nr".join([lines[0], "80,1,1,a,new", *lines[1:]]))
        curate("export", "out")
        assert "r80" in (after := parsed(Path("out/a.csv").read_bytes()))
        assert "r00" not in after

    def test_suggestions_only_where_they_are_asked_for(self) -> None:
        content = Path("a.csv").read_bytes().replace(b"r30,0.3,-0.6,a", b"r30,0.3,-0.6,b")
        Path("a.csv").write_bytes(content)
        curate("scan", "a.csv", "--id", "id", "--input", "p,q")
        curate("export", "asis")
        assert Path("asis/a.csv").read_bytes() == content
        curate("export", "out", "--apply-suggestions")
        assert parsed(Path("out/a.csv").read_bytes())["r30"][3] == "a"
        say(("r30", "keep", None))
        curate("export", "kept", "--apply-suggestions")
        assert parsed(Path("kept/a.csv").read_bytes())["r30"][3] == "b"

    def test_verdicts_and_back(self) -> None:
        say(("r00", "drop", None), ("r01", "relabel", "a"))
        assert "wrote v.csv: 2 verdicts" in curate("export", "--verdicts", "v.csv").stdout
        assert "2 verdicts were there already" in curate("mark", "--from", "v.csv").stdout
        curate("export", "--verdicts", "v.jsonl")
        assert len(Path("v.jsonl").read_text().splitlines()) == 2


def test_an_evaluation_file_of_its_own() -> None:
    Path("a.csv").write_bytes(table())
    Path("b.csv").write_bytes(table().replace(b"\nr", b"\ns"))
    curate("scan", "a.csv", "--eval", "b.csv", "--id", "id", "--input", "p,q")
    say(("s00", "drop", None))
    curate("export", "out")
    assert [path.name for path in Path("out").iterdir()] == ["a.csv"]
    curate("export", "both", "--allow-eval")
    assert sorted(path.name for path in Path("both").iterdir()) == ["a.csv", "b.csv"]
    assert "s00" not in parsed(Path("both/b.csv").read_bytes())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw builds tables of Unicode
@given(
    st.lists(st.lists(st.text(), min_size=2, max_size=4), min_size=1),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_records_are_those_of_the_csv_module(rows: list[list[str]], delimiter: str, end: str, quoting: int) -> None:
    out = io.StringIO(newline="")
    # "\r\n" makes the module quote both signs; then the ends are put in
    lines = []
    for row in rows:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=delimiter, lineterminator="\r\n", quoting=quoting).writerow(row)  # type: ignore[arg-type]
        lines.append(out.getvalue().removesuffix("\r\n") + end)
    text = "".join(lines)
    found = list(records(text, delimiter))
    assert "".join(text[start:stop] for start, stop, _ in found) == text
    cells = [[text[a:b] for a, b in spans] for _, _, spans in found]
    read = [[c[1:-1].replace('""', '"') if c.startswith('"') else c for c in row] for row in cells]
    assert read == rows


@given(
    st.lists(st.sampled_from(["a\n", "b\n", "c\r\n", "\n", "a", "x\ny\n"]), min_size=1, max_size=40), st.data()
)  # fmt: skip
def test_a_diff_says_what_the_splices_do(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    splices = [
        (start, end, data.draw(st.sampled_from(["", "n", "n\n", "\n"])))
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    after = spliced(text, splices)
    diff = unified("f", text, splices)
    assert taken(text, diff) == after
    assert taken(after, diff, back=True) == text


def taken(text: str, diff: str, back: bool = False) -> str:
    """The diff applied strictly: every line of context and every number must be right."""
    gone, come = ("+", "-") if back else ("-", "+")
    lines = text.split("\n")
    lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    out: list[str] = []
    at = 0
    entries: list[str] = []
    for line in diff.split("\n")[2:-1]:
        if line.startswith("\\"):
            entries[-1] = entries[-1].removesuffix("\n")
        else:
            entries.append(line + "\n")
    for entry in entries:
        if entry.startswith("@@"):
            numbers = entry.split()[2 if back else 1][1:].split(",")
            first, count = int(numbers[0]), int(numbers[1])
            start = first - 1 if count else first
            out += lines[at:start]
            at = start
        elif entry[0] == come:
            out.append(entry[1:])
        else:
            assert lines[at] == entry[1:]
            at += 1
            if entry[0] != gone:
                out.append(entry[1:])
    return "".join(out + lines[at:])
