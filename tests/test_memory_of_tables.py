"""Tables of rows beyond the memory that there is lie in files beside the database, and change no number."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from group import by_ranks
from scanned import drawn, same, stored

from curate.engine import passes, processes
from curate.engine.passes import Alone, Budget
from curate.engine.processes import Ranks
from curate.engine.tables import let_go
from curate.errors import of_environment
from curate.pipeline.story import scan
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages import memory
from curate.stages.memory import free_bytes, passes_of


def test_a_scan_of_tables_in_files_is_that_of_tables_in_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = drawn(240, (12,))
    np.savez("rows.npz", x=x, y=labels)
    made, real = [], passes.on_disk
    monkeypatch.setattr(passes, "on_disk", lambda *how: made.append(how[0]) or real(*how))
    found = []
    for folder in (None, here / "tables"):
        settings = ScanSettings("rows.npz", db=f"{folder is None}.db", cache=False)
        scan(settings, Progress.silent(), Alone(Budget(largest_table=1_000, folder=folder)))
        found.append(stored(here / settings.db))
    assert found[0] == found[1]
    assert (240, 12) in made
    assert not any((here / "tables").iterdir())


def test_tables_of_several_processes_lie_in_files_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = drawn(60, (12,))
    monkeypatch.setattr("curate.engine.suspicion.fourier.FEATURES", 40)
    np.savez("rows.npz", x=x, y=labels)
    alone, together = (ScanSettings("rows.npz", db=str(here / name), cache=False) for name in ("1.db", "2.db"))
    scan(alone, Progress.silent())
    real = processes.nameless_file

    def noted(size: int, folder: Path) -> int:
        (here / "sizes").open("a").write(f"{size}\n")
        return real(size, folder)

    monkeypatch.setattr(processes, "nameless_file", noted)

    def work(ranks: Ranks) -> int:
        return scan(together, Progress.silent(), replace(ranks, budget=Budget(largest_table=1_000, folder=here / "in")))

    by_ranks(2, work, here)
    same(stored(here / "2.db"), stored(here / "1.db"), 1e-5)
    assert str(60 * 12 * 4) in (here / "sizes").read_text().split()
    assert not any((here / "in").iterdir())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no system tells what is mapped")
def test_a_table_that_is_let_go_of_takes_no_memory_whoever_holds_it() -> None:
    def mapped() -> bool:
        return "memfd:curate" in Path("/proc/self/maps").read_text()

    table = processes.SharedMemory.of_size(4 * 12).own(torch.float32).view(4, 3)
    holder = [table]
    assert mapped()
    let_go(table)
    assert not mapped()
    assert holder[0].numel() == 0


def test_a_table_that_fits_stays_in_memory(tmp_path: Path) -> None:
    few = torch.zeros(3, 5)
    budget = Budget(largest_table=4 * 5 * 100, folder=tmp_path / "new")
    assert budget.table(100, few).shape == (100, 5)
    assert not (tmp_path / "new").exists()
    large = budget.table(101, few.double())
    assert large.dtype == torch.float64
    large.fill_(2.0)
    assert float(large.sum()) == 2 * 101 * 5


def test_a_full_disk_is_told_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space") as raised:
        Budget(largest_table=0, folder=tmp_path).table(7, torch.zeros(1, 5))
    told = of_environment(raised.value)
    assert told is not None
    assert str(told).startswith(f"{tmp_path}: No space left on device")


def test_what_is_asked_for_bounds_a_table_too(tmp_path: Path) -> None:
    settings = ScanSettings("rows.npz", db=str(tmp_path / "some" / "curate.db"), memory=2**30)
    budget = passes_of(settings).budget
    assert (budget.memory, budget.largest_table, budget.folder) == (2**30, 2**28, tmp_path / "some")
    usual = passes_of(replace(settings, memory=None)).budget
    assert usual.largest_table is not None
    assert usual.largest_table >= usual.memory // 4


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_counts_as_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    whole = free_bytes()
    limit, taken = memory.GROUP_FILES[2 - version]
    own = tmp_path / ("memory/job" if version == 1 else "job")
    own.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("4:memory:/job\n3:cpu:/\n" if version == 1 else "0::/job\n")
    (own / limit).write_text("3000\n")
    (own / taken).write_text("1000\n")
    (own / "memory.stat").write_text("cache 700\ntotal_inactive_file 500\n" if version == 1 else "inactive_file 500\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    assert free_bytes() == 2500
    inner = "0::/job/step\n" if version == 2 else "4:memory:/job/step\n"
    (tmp_path / "cgroup").write_text(inner)  # a step of the job has no limit of its own
    assert free_bytes() == 2500
    (own / limit).write_text("max\n")
    assert free_bytes() > whole // 2
