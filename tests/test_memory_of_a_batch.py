"""A device without room for a batch: half as many rows at a time, and the report says so."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curate.errors import out_of_memory
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.prepare import Data, load, read

MODEL = """
import torch
from torch import nn

class Small(nn.Sequential):
    most = 10**6

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)

def make(most=10**6):
    torch.manual_seed(0)
    model = Small(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model.most = int(most)
    return model
"""


def data(folder: Path, most: int) -> Data:
    draw = np.random.default_rng(0)
    np.savez(folder / "rows.npz", x=draw.normal(size=(90, 4)).astype(np.float32), y=np.arange(90) % 2)
    (folder / "model.py").write_text(MODEL)
    model = f"{folder}/model.py:make"
    settings = ScanSettings(str(folder / "rows.npz"), model=model, model_args={"most": most}, cache=False)
    return read(settings, load(settings, Progress.silent()), Progress.silent())


def test_a_batch_without_room_is_halved_until_it_fits(tmp_path: Path) -> None:
    whole, parts = data(tmp_path, 1000), data(tmp_path, 35)
    torch.testing.assert_close(parts.train.features, whole.train.features)
    told = "there was memory for batches of 22 rows only (--batch-size)"
    assert told in parts.notes
    assert not any("batches" in note for note in whole.notes)


def test_no_room_for_a_sample_is_told_as_such_and_not_as_a_fault_of_the_code(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as raised:
        data(tmp_path, 1)
    assert out_of_memory(raised.value)
