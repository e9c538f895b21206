"""Wavering: a network that looks each row up against one that draws one line, on labels of which a share is flipped."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from curate.engine.neighbours import Neighbours
from curate.engine.suspicion.crossfit import Copies
from curate.engine.suspicion.experts import Material
from curate.engine.suspicion.halfway import wavering
from curate.process.progress import Progress

N = 600


@dataclass(frozen=True)
class Given:
    """Inputs in memory."""

    values: Tensor

    @property
    def device(self) -> torch.device:
        return self.values.device

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, indices: Tensor) -> Tensor:
        return self.values[indices]


@dataclass(frozen=True)
class Labelled:
    """Rows with labels, and what a network said of them."""

    inputs: Given
    labels: Tensor
    logits: Tensor | None

    def __len__(self) -> int:
        return len(self.labels)


def line(x: Tensor) -> Tensor:
    """Sure a little away from a line: what nobody learnt by heart."""
    return torch.stack([-8 * x[:, 0], 8 * x[:, 0]], dim=1)


def rows(network: object, x: Tensor, given: Tensor, copies: Tensor) -> tuple[Labelled, np.ndarray, Material]:
    logits = network(x)
    sizes = torch.bincount(copies)[copies]
    material = Material(
        x, given, 2, Copies(copies, sizes), Neighbours(x, 0, metric="euclidean"), False, 0, Progress.silent(), "inputs"
    )
    return Labelled(Given(x), given, logits), (logits.argmax(1) == given).numpy(), material


def world(share: float) -> tuple[Tensor, Tensor]:
    """Points in the plane and labels, by the first coordinate, a share of which is flipped."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(N, 2, generator=draw)
    labels = (x[:, 0] > 0).long()
    flipped = torch.randperm(N, generator=draw)[: round(share * N)]
    labels[flipped] = 1 - labels[flipped]
    return x, labels


def by_heart(x: Tensor, labels: Tensor) -> object:
    """The label of the nearest known row, and sure of it; half way it takes the side that most rows near by have."""

    def network(asked: Tensor) -> Tensor:
        distance, nearest = torch.cdist(asked, x, compute_mode="donot_use_mm_for_euclid_dist").topk(9, largest=False)
        vote = labels[nearest].double().mean(1) > 0.5
        exact = distance[:, 0] < 1e-3
        said = torch.where(exact, labels[nearest[:, 0]], vote.long())
        return 10 * torch.nn.functional.one_hot(said, 2).float()

    return network


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_labels_known_by_heart_waver_as_many_as_are_wrong(share: float) -> None:
    x, given = world(share)
    found, agrees, material = rows(network := by_heart(x, given), x, given, torch.arange(N))
    assert agrees.all()
    assert wavering(found, agrees, material, network) == pytest.approx(share, abs=0.05)


def test_a_line_that_denies_the_wrong_labels_wavers_hardly_ever() -> None:
    x, given = world(0.1)
    found, agrees, material = rows(line, x, given, torch.arange(N))
    share = wavering(found, agrees, material, line)
    assert share is not None
    assert share < 0.02


def test_a_copy_is_not_the_nearest_other_row() -> None:
    """Half way to a copy lies the row itself, where no network changes its mind."""
    x, given = world(0.1)
    twice, labels, copies = x.repeat(2, 1), given.repeat(2), torch.arange(N).repeat(2)
    network = by_heart(x, given)
    found, agrees, material = rows(network, twice, labels, copies)
    assert wavering(found, agrees, material, network) == pytest.approx(0.1, abs=0.05)


def test_there_is_nothing_between_two_words() -> None:
    x, given = world(0.1)
    _, agrees, material = rows(line, x, given, torch.arange(N))
    words = Labelled(Given((x * 100).long()), given, line(x))
    assert wavering(words, agrees, material, lambda tokens: line(tokens.float())) is None
