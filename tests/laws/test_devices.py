"""A scan on another device: no tensor of it meets one of the CPU, and it says what a scan on the CPU says.

There is no GPU where most tests run: `elsewhere` is a device that refuses what a GPU refuses. The last test needs one.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from elsewhere import ELSEWHERE, Mode
from scanned import MODEL, drawn, same, stored

from curate.engine import neighbours
from curate.engine.curvature.head import HeadCurvature
from curate.engine.passes import ALONE
from curate.pipeline.story import scan
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages import memory, prepare
from curate.stages.carrying import coming, moved


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> set[torch.device]:
    """Where heads were factorised; scans are small, and have a device that is not there."""
    found: set[torch.device] = set()
    factorise = HeadCurvature.factorise

    def watched(head: HeadCurvature) -> object:
        found.add(head.device)
        return factorise(head)

    monkeypatch.setattr(HeadCurvature, "factorise", watched)
    monkeypatch.setattr("curate.engine.suspicion.fourier.FEATURES", 40)
    monkeypatch.setattr(memory, "free_on", lambda device: 2**30)
    return found


def features(folder: Path) -> ScanSettings:
    x, y = drawn(60, (9,))
    np.savez(folder / "rows.npz", x=x, y=y)
    return ScanSettings(str(folder / "rows.npz"))


def pictures(folder: Path) -> ScanSettings:
    x, y = drawn(30, (6, 6, 1))
    (folder / "model.py").write_text(MODEL)
    pixels = np.clip(128 + 30 * x, 0, 255).astype(np.uint8)
    np.savez(folder / "rows.npz", x_train=pixels, y_train=y, x_test=pixels[5:9], y_test=y[5:9])
    return ScanSettings(str(folder / "rows.npz"), model=f"{folder}/model.py:make", params="all")


def compared(settings: ScanSettings, folder: Path, device: torch.device, tolerance: float) -> None:
    """The same scan on the CPU and on the device."""
    for name, where in (("cpu", torch.device("cpu")), ("there", device)):
        with pytest.MonkeyPatch.context() as patch, Mode() if where == ELSEWHERE else nullcontext():
            patch.setattr(prepare, "_device", lambda asked, where=where: where)
            scan(replace(settings, db=str(folder / f"{name}.db"), cache=False), Progress.silent())
    same(stored(folder / "there.db"), stored(folder / "cpu.db"), tolerance)


def test_features_are_kept_and_multiplied_there(
    places: set[torch.device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 1)  # in cells
    monkeypatch.setattr(neighbours, "PROBED_ROWS", 40)
    compared(features(tmp_path), tmp_path, ELSEWHERE, 0.0)
    assert ELSEWHERE in places


def test_a_network_and_its_derivatives_are_computed_there(places: set[torch.device], tmp_path: Path) -> None:
    compared(pictures(tmp_path), tmp_path, ELSEWHERE, 0.0)
    assert ELSEWHERE in places


def test_a_table_larger_than_the_room_stays_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_on", lambda device: 16 * 400)
    passes = memory.near(ALONE, ELSEWHERE)
    with Mode():
        assert passes.near(torch.zeros(100)).device == ELSEWHERE
        assert passes.near(torch.zeros(101)).device == torch.device("cpu")
    assert memory.near(ALONE, torch.device("mps")) is ALONE  # it has no float64


def test_rows_come_back_as_they_were_sent() -> None:
    rows = [torch.full((2, 3), float(number)) for number in range(4)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = moved(torch.stack(rows), device)
    assert batch.device.type == device.type
    twice, whole = coming((2 * batch, batch))()
    assert torch.equal(whole, torch.stack(rows))
    assert torch.equal(twice, 2 * torch.stack(rows))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("settings", [features, pictures])
def test_a_gpu_says_what_the_cpu_says(
    settings: Callable[[Path], ScanSettings], places: set[torch.device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    compared(settings(tmp_path), tmp_path, torch.device("cuda"), 1e-3)
    assert torch.device("cuda", 0) in places or torch.device("cuda") in places
