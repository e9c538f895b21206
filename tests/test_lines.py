"""The line of a row in a text table: as an editor counts them, whatever stands in the cells."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.files.lines import lines_of, split_lines
from curate.sources.base import DataOptions
from curate.sources.tables import open_table

CELLS = st.text(st.sampled_from('ab",\n\r \u2028é'), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
)
def test_rows_of_a_csv_file_begin_on_the_lines_where_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str, quoting: int, blank: bool
) -> None:
    out, expected = io.StringIO(newline=""), {}
    if quoting == csv.QUOTE_MINIMAL:  # before Python 3.13 the writer leaves a lone carriage return unquoted
        rows = [[cell.replace("\r", "") for cell in row] for row in rows]
    writer = csv.writer(out, lineterminator=end, quoting=quoting)
    writer.writerow(["one", "two", "label"])
    for place, row in enumerate([*rows, ["a", "b", "c"]]):
        if blank:
            out.write(end)  # an empty line is no row
        expected[place] = 1 + len(split_lines(out.getvalue()))
        writer.writerow(["x" + row[0], *row[1:]])  # never an empty line by itself
    path = tmp_path_factory.mktemp("lines") / "rows.csv"
    path.write_bytes(out.getvalue().encode())
    assert lines_of(path, range(len(rows) + 1), header=True) == expected


def test_positions_are_counted_as_the_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b'\xef\xbb\xbftext,label\r\n"two\r\nlines",a\r\n\r\nbroken,row,here\r\n'
        b'"say ""hi""\n\nthere",b\r\n5" disk,a\r\nlast,b\r\n'
    )
    source, _ = open_table(str(path), DataOptions())
    wanted = dict(zip(source.keys, source.positions, strict=True))
    lines = lines_of(path, source.positions, header=True)
    texts = [(source.text(row) or "broken").removeprefix("text=") for row in range(len(source))]
    first = {text: lines[wanted[key]] for text, key in zip(texts, source.keys, strict=True)}
    assert first == {"two\r\nlines": 2, "broken": 5, 'say "hi"\n\nthere': 6, '5" disk': 9, "last": 10}


def test_rows_of_a_jsonl_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"a\u2028b\x85{number}", "label": "ab"[number % 2]} for number in range(4)]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    assert lines_of(path, [0, 1, 3], header=True) == {0: 1, 1: 3, 3: 7}
    source, _ = open_table(str(path), DataOptions())
    assert [source.text(row) for row in range(4)] == [row["text"] for row in rows]


def test_what_is_past_the_end_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("1,a\n2,b\n")
    assert lines_of(path, [1, 7], header=False) == {1: 2}
    assert lines_of(path, [], header=False) == {}
    with pytest.raises(OSError, match="nowhere"):
        lines_of(tmp_path / "nowhere.csv", [0], header=True)
