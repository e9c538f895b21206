"""Rows that threads read ahead: the same ones, in the same order, with the same faults, as one thread reads them."""

import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from command import curate
from PIL import Image

from curate.errors import UnreadableRow
from curate.sources.pixels import unwarned
from curate.stages.ahead import AHEAD, read_ahead


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_rows_come_in_their_order_whoever_is_done_first(threads: int) -> None:
    def read(row: int) -> int:
        time.sleep(0.002 * (row % 3 == 0))
        return row * row

    assert list(read_ahead(read, range(50), threads)) == [row * row for row in range(50)]


def test_no_more_rows_are_in_memory_than_a_few_a_thread() -> None:
    begun: list[int] = []
    rows = read_ahead(lambda row: begun.append(row), range(1000), 2)
    for _ in range(10):
        next(rows)
    rows.close()
    assert len(begun) <= 10 + 2 * AHEAD + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("curate-read")]


def test_an_error_is_raised_in_the_turn_of_its_row() -> None:
    def read(row: int) -> int:
        if row == 3:
            raise UnreadableRow("broken")
        return row

    rows = read_ahead(read, range(10), 2)
    assert [next(rows) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UnreadableRow, match="broken"):
        next(rows)


def test_filters_of_warnings_are_left_as_they_were() -> None:
    def read(row: int) -> int:
        with unwarned():
            time.sleep(0.001 * (row % 2))
        return row

    before = list(warnings.filters)
    assert len(list(read_ahead(read, range(40), 4))) == 40
    assert warnings.filters == before


def test_a_scan_says_the_same_with_several_threads(here: Path) -> None:
    draw = np.random.default_rng(0)
    for row in range(40):
        path = Path("data", "cat" if row % 2 else "dog", f"{row:02}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40 + row, 60, 3), dtype=np.uint8)).save(path)
    Path("data/cat/41.jpg").write_bytes(b"no picture")
    Path("data/dog/06.jpg").write_bytes(Path("data/dog/04.jpg").read_bytes()[:700])
    told = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            told.append(curate("--db", f"{threads}.db", "scan", "data", "-f", "csv:-", "--no-cache").stdout)
        finally:
            torch.set_num_threads(before)
    assert told[0] == told[1]
    assert "41.jpg" in told[0]
