"""The forward pass in bfloat16: only where it agrees with that in 32 bits, said either way, and kept apart."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from curate.models.halved import AGREE, halved
from curate.models.network import inspect_network
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.prepare import Data, load, read

MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
"""


def test_a_network_that_agrees_computes_in_bfloat16_and_says_how_far_it_is_apart() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    sample = torch.randn(32, 36)
    network = inspect_network(module, sample, 3)
    half = halved(network, sample)
    assert half.half is not None
    assert 0 < half.half <= AGREE
    assert half.notes[-1].startswith("the forward pass computed in bfloat16 (--autocast): on 32 rows features and")
    whole, rounded = network.at_depths(sample), half.at_depths(sample)
    gaps = [(one - other).norm(dim=1) / one.norm(dim=1).median() for one, other in zip(whole, rounded, strict=True)]
    assert max(float(gap.max()) for gap in gaps[:2]) == half.half
    assert float(gaps[2].max()) <= AGREE
    assert all(value.dtype == torch.float32 for value in module.parameters())


def test_a_network_whose_numbers_are_lost_in_bfloat16_computes_in_32_bits_and_says_so() -> None:
    module = nn.Sequential(nn.Linear(36, 16), nn.Linear(16, 16), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        module[0].bias.fill_(1e4)  # what the next layer takes off again: of 1e4, bfloat16 knows hundreds
        module[1].weight.copy_(torch.eye(16))
        module[1].bias.fill_(-1e4)
    sample = torch.randn(32, 36)
    network = halved(inspect_network(module, sample, 3), sample)
    assert network.half is None
    assert network.notes[-1].startswith("--autocast was not followed, the forward pass computed in 32 bits: on 32 rows")
    assert network.notes[-1].endswith("allowed are 3%")


def test_what_was_computed_in_bfloat16_is_not_taken_for_anything_else(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 36)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=np.arange(40) % 3)
    (tmp_path / "model.py").write_text(MODEL)

    def of(autocast: bool) -> Data:
        given = {"db": str(tmp_path / "x.db"), "model": f"{tmp_path}/model.py:make", "autocast": autocast}
        settings = ScanSettings(str(tmp_path / "rows.npz"), **given)
        return read(settings, load(settings, Progress.silent()), Progress.silent())

    first, half, again = of(False), of(True), of(True)
    assert (first.train.reused, half.train.reused, again.train.reused) == (0, 0, 40)
    assert torch.equal(half.train.features, again.train.features)
    assert not torch.equal(half.train.features, first.train.features)
    assert any("bfloat16" in note for note in half.notes)
