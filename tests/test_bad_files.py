"""Files from strangers, whatever is in them: a message of one or two lines and status 2, or the value that is right."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from curate.errors import DataError, NothingScanned, UnreadableRow, UsageError
from curate.models.encoding import encode_sources
from curate.sources import open_source

ROWS = 24
XY = ["xy"[row % 2] for row in range(ROWS)]


pytestmark = pytest.mark.usefixtures("here")


def opened(name: str, **options: Any) -> Any:
    return open_source(name, **options)[0]


def refused(name: str, *words: str, **options: Any) -> None:
    with pytest.raises((DataError, NothingScanned)) as told:
        opened(name, **options)
    for word in words:
        assert word in str(told.value)


def csv_text(end: str = "\n") -> str:
    lines = ["a,b,label", *(f"{row * row % 7},{row * 5 % 11},{XY[row]}" for row in range(ROWS))]
    return "".join(line + end for line in lines)


# Tables


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_gives_the_same_rows(end: str) -> None:
    Path("plain.csv").write_text(csv_text())
    Path("ends.csv").write_bytes(csv_text(end).encode())
    plain, other = opened("plain.csv"), opened("ends.csv")
    assert len(other) == ROWS
    assert (other.keys, other.label_texts, other.positions) == (plain.keys, plain.label_texts, plain.positions)


def test_rows_longer_than_the_header_are_unreadable_rows() -> None:
    Path("long.csv").write_text(csv_text() + "1,2,x,3\n")
    source = opened("long.csv")
    assert source.malformed == {ROWS: "row 26 has 4 cells where 3 were expected: 1,2,x,3"}
    Path("all.csv").write_text("a,b,label\n" + "".join(f"1,2,{label},3\n" for label in XY))
    refused("all.csv", "no row has as many cells as the first line", "row 2 has 4 cells where 3 were expected")


def test_a_first_line_with_an_endless_field_is_told() -> None:
    Path("wide.csv").write_text('"' + "a" * 200_000 + '",label\n1,x\n')
    refused("wide.csv", "field larger than field limit")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"a": "cut \\ud83d", "label": "x"}', "half of a surrogate pair (\\ud83d)"),
        ('{"a": "one", "label": "x\\udc00"}', "half of a surrogate pair (\\udc00)"),
        ('{"a": "one", "label": "x", "a": "two"}', "the key 'a' stands twice"),
        ('{"a": %s, "label": "x"}' % ("[" * 100_000), "nested too deeply"),
        ('{"a": %s, "label": "x"}' % ("9" * 5000), "digits"),
    ],
    ids=["half a text", "half a label", "twice", "deep", "5000 digits"],
)
def test_a_line_that_is_no_sound_json_is_an_unreadable_row(bad: str, reason: str) -> None:
    good = [json.dumps({"a": f"words {row} of a text {row * row}", "label": XY[row]}) for row in range(ROWS)]
    Path("lines.jsonl").write_text("\n".join([*good, bad]) + "\n")
    source = opened("lines.jsonl")
    assert list(source.malformed) == [ROWS]
    assert reason in source.malformed[ROWS]


def test_a_whole_number_beyond_every_float_counts_as_missing() -> None:
    rows = [{"a": row * 0.5, "b": row % 5, "label": XY[row]} for row in range(ROWS)]
    rows[3]["a"] = 10**400
    Path("large.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = opened("large.jsonl")
    assert source.read(3).decode() == {"a": None, "b": 3.0}
    assert np.isfinite(encode_sources(source, None, 0)[0].read(3).decode()).all()


def table(name: str, label: Any = None, **columns: Any) -> str:
    parquet.write_table(pa.table({**columns, "label": label if label is not None else XY}), name)
    return name


def test_times_and_durations_are_parts_of_a_day() -> None:
    noon = pa.array([time(12) if row % 2 else time(6) for row in range(ROWS)])
    long = pa.array([timedelta(days=row % 3) for row in range(ROWS)])
    source = opened(table("times.parquet", at=noon, for_=long, w=[row * row % 5 for row in range(ROWS)]))
    assert source.read(0).decode() == {"at": 0.25, "for_": 0.0, "w": 0.0}
    assert source.read(5).decode() == {"at": 0.5, "for_": 2.0, "w": 0.0}


def test_moments_beyond_the_calendar_are_read() -> None:
    far = pa.array([2**62 * (-1) ** row for row in range(ROWS)], pa.timestamp("us"))
    source = opened(table("far.parquet", at=far, w=[row % 5 for row in range(ROWS)]))
    assert source.read(0).decode()["at"] == pytest.approx(2**62 / 86_400e6)
    assert source.text(0) is not None


@pytest.mark.parametrize(
    "cell", [{"bytes": [1, 2], "path": "x"}, {"bytes": 3, "path": "x"}, {"bytes": None, "path": 4.5}]
)
def test_a_picture_column_of_something_else_is_an_unreadable_row(cell: dict[str, Any]) -> None:
    source = opened(table("pictures.parquet", image=pa.array([cell] * ROWS)))
    with pytest.raises(UnreadableRow, match="no picture and no file's name"):
        source.read(0)


def test_a_number_that_float32_cannot_hold_is_told() -> None:
    source = opened(table("vectors.parquet", v=pa.array([[1e300 if row == 3 else row, 2.0] for row in range(ROWS)])))
    with pytest.raises(UnreadableRow, match=r"beyond 3\.4e38"):
        source.read(3)
    np.savez("large.npz", x=np.array([[1e300 if row == 3 else row, 2.0] for row in range(ROWS)]), y=XY)
    refused("large.npz", "1 of 24 rows hold NaN, infinite numbers or some beyond 3.4e38, the first is row 3")


def test_columns_near_the_end_of_float64_are_scaled() -> None:
    values = [1e308 * (-1) ** row for row in range(ROWS)]
    source = opened(table("huge.parquet", v=values, w=[row * row % 5 for row in range(ROWS)]))
    encoded = encode_sources(source, None, 0)[0]
    rows = np.stack([encoded.read(row).decode() for row in range(ROWS)])
    assert np.isfinite(rows).all()
    assert rows[0, 0] == pytest.approx(1.0)
    assert rows[1, 0] == pytest.approx(-1.0)


# Labels


def labels_of(given: list[str]) -> tuple[list[str | None], list[str]]:
    texts = [given[row % len(given)] for row in range(ROWS)]
    Path("labels.csv").write_text("a,label\n" + "".join(f"{row * row % 7},{text}\n" for row, text in enumerate(texts)))
    source = opened("labels.csv")
    return sorted(set(source.label_texts)), [note for note in source.notes if "whole numbers" in note]


@pytest.mark.parametrize(
    ("given", "classes", "said"),
    [
        (["1.0", "2.0", "10.0"], ["1", "10", "2"], "'1.0' is read as '1'"),
        (["1", "2.", "3.00"], ["1", "2", "3"], "'2.' is read as '2'"),
        (["1", "1.0", "2"], ["1", "1.0", "2"], "two of them would become one"),
        ([".0", "1.0"], [".0", "1.0"], "'.0' is none in plain digits"),
        (["1.5e1", "1.2e1", "2"], ["1.2e1", "1.5e1", "2"], "'1.2e1' is none in plain digits"),
        (["1", "2", "3"], ["1", "2", "3"], None),
        (["v1.0", "v2.0"], ["v1.0", "v2.0"], None),
    ],
)
def test_labels_are_texts(given: list[str], classes: list[str], said: str | None) -> None:
    found, notes = labels_of(given)
    assert found == classes
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


# Arrays


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(x: bytes, name: str = "a.npz", **how: Any) -> None:
    y = io.BytesIO()
    np.save(y, np.array([0, 1] * (ROWS // 2)))
    with zipfile.ZipFile(name, "w", **how) as packed:
        packed.writestr("x.npy", x)
        packed.writestr("y.npy", y.getvalue())


GOOD = header((ROWS, 2)) + np.arange(2.0 * ROWS).tobytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no array at all", "'x' cannot be read"),
        (GOOD[:40], "'x' cannot be read"),
        (GOOD[:-8], "other data follows"),
        (GOOD + b"more", "other data follows"),
        (header((10**6, 10**6)) + b"\0" * 100, "its header tells of 7.3 TiB, and other data follows"),
        (header((-1, 2)), "a negative length"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"(" * 60_000, "'x' cannot be read"),
        (b"\x93NUMPY\x09\x00" + GOOD[8:], "'x' cannot be read"),
        (header((ROWS, 2), "|O") + b"\0" * 16 * ROWS, "object array"),
        (header((ROWS, 2), "<c16") + b"\0" * 32 * ROWS, "complex128, which is no number"),
    ],
)
def test_a_member_that_is_no_sound_array_is_told(content: bytes, reason: str) -> None:
    archive(content)
    refused("a.npz", reason)


@pytest.mark.parametrize(("at_name", "at_entry", "value", "reason"), [
    (6, 8, 1, "'x' is encrypted"),
    (8, 10, 99, "'x' is compressed in a way that Python does not know"),
])  # fmt: skip
def test_members_that_cannot_be_unpacked_are_told(at_name: int, at_entry: int, value: int, reason: str) -> None:
    archive(GOOD)
    content = bytearray(Path("a.npz").read_bytes())
    content[at_name] |= value
    content[content.index(b"PK\1\2") + at_entry] |= value
    Path("a.npz").write_bytes(content)
    refused("a.npz", reason)


def test_a_torn_packed_member_is_told() -> None:
    archive(GOOD, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(Path("a.npz").read_bytes())
    content[60:80] = b"\xff" * 20
    Path("a.npz").write_bytes(content)
    refused("a.npz", "'x' cannot be read")


@pytest.mark.parametrize("mapped", [1, 2**26], ids=["left in the file", "read"])
def test_arrays_are_read_as_numpy_reads_them(mapped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.sources.npz.MAPPED", mapped)
    arrays = {"x": np.arange(12.0).reshape(3, 4), "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
              "t": np.array(["a", "bcd"]), "none": np.empty((0, 3)), "one": np.array(7)}  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save("all.npz", **arrays)
        from curate.sources.npz import Arrays

        with open("all.npz", "rb") as file:
            read = Arrays(file)
            for name, array in arrays.items():
                assert np.array_equal(read.take(name), array)
                assert read.take(name).dtype == array.dtype


def test_a_large_array_is_left_in_its_file_and_its_damage_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.sources.npz.MAPPED", 1)
    np.savez("b.npz", x=np.arange(2.0 * ROWS).reshape(ROWS, 2), y=np.array([0, 1] * (ROWS // 2)))
    source = open_source("b.npz")[0]
    row = source.read(3).decode()
    assert row.flags.aligned
    assert row.tolist() == [6.0, 7.0]
    large = header((4_000, 2)) + np.arange(8_000.0).tobytes()
    archive(large)
    content = bytearray(Path("a.npz").read_bytes())
    content[content.index(large) + len(large) - 3] ^= 1
    Path("a.npz").write_bytes(content)
    refused("a.npz", "'x' is damaged: its checksum is another one")


# What is no file


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("made", [pipe, device])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.npz"])
def test_a_pipe_or_a_device_is_no_table(made: Callable[[Path], None], name: str) -> None:
    made(Path(name))
    refused(name, "no regular file (a pipe, a device or a socket)")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("made", [pipe, device])
def test_a_pipe_or_a_device_is_no_picture(made: Callable[[Path], None]) -> None:
    for label in ("cat", "dog"):
        Path(label).mkdir()
        made(Path(label, "0.png"))
    source = opened("images:.")
    with pytest.raises(UnreadableRow, match="no regular file"):
        source.read(0)


def test_a_picture_beyond_the_stated_size_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    for label in ("cat", "dog"):
        Path(label).mkdir()
        with Path(label, "0.png").open("wb") as file:
            file.truncate(2**28 + 1)
    with pytest.raises(UnreadableRow, match="larger than 256 MiB, and not read"):
        opened("images:.").read(0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_no_list_of_classes_and_no_settings() -> None:
    from curate.settings.merge import load_settings

    os.mkfifo("curate.toml")
    os.mkfifo("names")
    with pytest.raises(UsageError, match="no settings file"):
        load_settings({"train": "x"}, config="curate.toml")
    with pytest.raises(UsageError, match="there is no file names"):
        load_settings({"train": "x", "classes": "names"})


# Settings


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000 + "]" * 5000, "seed = " + "9" * 5000, "seed = 9223372036854775808", "a = \x00"]
)
def test_settings_that_cannot_be_read_are_told(text: str) -> None:
    from curate.settings.merge import load_settings

    Path("curate.toml").write_text(text)
    with pytest.raises(UsageError, match=r"curate\.toml"):
        load_settings({"train": "x"})


def test_a_byte_order_mark_is_no_error() -> None:
    from curate.settings.merge import load_settings

    Path("curate.toml").write_bytes(b"\xef\xbb\xbfseed = 5\n")
    Path("names").write_bytes(b"\xef\xbb\xbfcat\ndog\n")
    found = load_settings({"train": "x", "classes": "names"})
    assert (found.seed, found.classes) == (5, ("cat", "dog"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", str(2**32)),
        ("seed", "9" * 400),
        ("limit", str(2**63)),
        ("max_findings", "9" * 400),
        ("since", "9" * 30),
    ],
)
def test_numbers_have_bounds(key: str, value: str) -> None:
    from curate.settings.merge import load_settings

    with pytest.raises(UsageError, match="Give "):
        load_settings({"train": "x", key: value})
