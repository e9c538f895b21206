"""Several processes that scan together find what one finds (`test_passes` has the engine's stages one by one).

Larger sets, and more processes: ``tests/bench/ranks.py``.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from group import by_ranks
from scanned import MODEL, drawn, same, stored

from curate.engine.passes import Budget
from curate.engine.processes import Ranks
from curate.errors import CurateError, UsageError
from curate.pipeline.story import scan
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.prepare import told_by_all


@pytest.mark.parametrize("afar", [False, True], ids=["one machine", "machines of their own"])
def test_tables_are_put_together_in_the_order_of_the_rows(tmp_path: Path, afar: bool) -> None:
    table = torch.arange(22.0).view(11, 2)

    def work(ranks: Ranks) -> None:
        for n in (11, 5, 2, 1):  # fewer rows than processes, too
            assert torch.equal(ranks.each(n, lambda rows: table[rows]), table[:n])
            assert torch.equal(ranks.collect(ranks.of(torch.arange(n), 2)), torch.arange(n))
        assert ranks.collect([table[:0]]).shape == (0, 2)
        assert ranks.placed(3, torch.arange(0), None) is None
        mixed = ranks.placed(4, torch.tensor([3 - ranks.number]), torch.tensor([ranks.number == 1]))
        assert mixed is not None
        assert mixed[1:].tolist() == [False, True, False]
        changed = ranks.changed(table, lambda part: part.mul_(2))
        assert torch.equal(changed, 2 * table)
        changed[0] = ranks.number  # what one changes later on is its own
        ranks.meet()
        assert changed[0].tolist() == [ranks.number] * 2
        assert ranks.told(lambda: ranks.number) == 0
        assert ranks.gathered(ranks.number) == [0, 1, 2]
        assert torch.equal(ranks.sum(torch.tensor([1, ranks.number])), torch.tensor([3, 3]))
        place = torch.tensor([3 - ranks.number])
        sent = ranks._sent(
            torch.zeros(4, 1), place, [1] * 3, lambda whole: whole.index_fill_(0, place, float(ranks.number))
        )
        assert sent[1:].tolist() == [[2], [1], [0]]  # as on GPUs: each keeps a table of its own
        ranks = replace(ranks, budget=Budget(2**10))  # room for four numbers in one sum
        own = [torch.full((number + 1, 2), float(ranks.number)) for number in range(3)]
        assert [part.tolist() for part in ranks.sums(own)] == [[[3.0, 3.0]] * (number + 1) for number in range(3)]
        assert not list(ranks.sums([]))

    by_ranks(3, work, tmp_path, afar=afar)


@pytest.fixture(autouse=True)
def few_random_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dearest part of a scan of next to no rows is no different with fewer of them."""
    monkeypatch.setattr("curate.engine.suspicion.fourier.FEATURES", 40)


def several_as_one(settings: ScanSettings, count: int, tolerance: float = 1e-5, kind: type[Ranks] = Ranks) -> None:
    folder = Path(settings.db).parent
    alone, together = (replace(settings, db=str(folder / name)) for name in ("alone.db", "together.db"))
    scan(alone, Progress.silent())
    by_ranks(count, lambda ranks: scan(together, Progress.silent(), kind(**vars(ranks))), folder)
    same(stored(Path(together.db)), stored(Path(alone.db)), tolerance)


@dataclass(frozen=True)
class Lopsided(Ranks):
    """The first process has no row of anything."""

    def own(self, n: int) -> slice:
        return slice(0, n) if self.number == self.count - 1 else slice(0, 0)


def test_features_without_a_model_and_a_process_without_a_row(tmp_path: Path) -> None:
    x, y = drawn(40, (3,))
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    several_as_one(ScanSettings(str(tmp_path / "rows.npz"), db=str(tmp_path / "x.db")), 2, kind=Lopsided)


def test_a_network_with_batch_normalisation_and_one_evaluation_row(tmp_path: Path) -> None:
    x, y = drawn(30, (6, 6, 1))
    (tmp_path / "model.py").write_text(MODEL)
    pixels = np.clip(128 + 30 * x, 0, 255).astype(np.uint8)
    np.savez(tmp_path / "rows.npz", x_train=pixels, y_train=y, x_test=pixels[5:6], y_test=y[5:6])
    model = f"{tmp_path}/model.py:make"
    settings = ScanSettings(str(tmp_path / "rows.npz"), db=str(tmp_path / "x.db"), model=model, solver="lissa")
    several_as_one(settings, 2, 1e-4)


def test_an_error_of_one_row_is_that_of_all(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            (folder / name / f"{number}.png").write_bytes(b"no picture")
    settings = ScanSettings(str(folder), db=str(tmp_path / "x.db"))

    def work(ranks: Ranks) -> str:
        with pytest.raises(CurateError) as raised:
            scan(settings, Progress.silent(), ranks)
        return str(raised.value)

    assert len(set(by_ranks(3, work, tmp_path))) == 1


def test_what_turned_out_for_one_process_alone_is_told_with_its_number_and_machine(tmp_path: Path) -> None:
    found = by_ranks(2, lambda ranks: told_by_all(ranks, ["slow", *["disk full"] * ranks.number]), tmp_path)
    assert found == [["slow", f"rank 1 on {os.uname().nodename}: disk full"]] * 2


def test_processes_that_see_other_data_do_not_start(tmp_path: Path) -> None:
    x, y = drawn(20, (3,))
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        np.savez(tmp_path / str(number) / "rows.npz", x=x, y=np.roll(y, number))

    def work(ranks: Ranks) -> str:
        os.chdir(tmp_path / str(ranks.number))
        with pytest.raises(UsageError) as raised:
            scan(ScanSettings("rows.npz"), Progress.silent(), ranks)
        assert not Path(".curate").exists()
        return str(raised.value)

    first, second = by_ranks(2, work, tmp_path)
    assert first == second
    assert "Rank 1 of 2" in first
    assert "sees something else than the first process: training rows: 20 (" in first
    assert "settings:" not in first
