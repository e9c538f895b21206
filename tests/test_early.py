"""Early features: which layer is listened at, and what becomes of its input."""

import torch
from torch import nn

from curate.models.early import MOST_INPUTS, WIDTH, EarlyLayer, find_early_layer
from curate.models.keywords import CalledByKeyword, Layout
from curate.models.network import inspect_network


def found(module: nn.Module, sample: torch.Tensor, classes: int) -> EarlyLayer | None:
    return inspect_network(module.eval(), sample, classes).early


def test_the_layer_halfway_up() -> None:
    cnn = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 6), nn.Linear(6, 3)
    )
    early = found(cnn, torch.rand(5, 1, 8, 8), 3)
    assert early is not None
    assert early.name == "5"


def test_the_inputs_below_a_single_hidden_layer() -> None:
    early = found(nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)), torch.rand(5, 7), 3)
    assert early is not None
    assert early.name == "0"


def test_none_where_the_features_are_the_inputs() -> None:
    assert found(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(5, 3, 4), 3) is None


def test_features_and_logits_are_those_of_the_plain_pass() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    x = torch.rand(9, 7)
    features, logits, early = inspect_network(module, x, 3).at_depths(x)
    torch.testing.assert_close(features, module[:4](x))
    torch.testing.assert_close(logits, module(x))
    torch.testing.assert_close(early, module[:2](x))
    assert not module[0]._forward_pre_hooks


def test_wide_inputs_are_projected_alike_every_time_and_keep_their_distances() -> None:
    torch.manual_seed(0)
    value = torch.randn(20, 40, 8, 8)
    rows = EarlyLayer("a", nn.Identity()).rows(value, nn.Identity(), value)
    again = EarlyLayer("b", nn.Identity()).rows(value[3:7], nn.Identity(), value[3:7])
    assert rows.shape == (20, WIDTH)
    torch.testing.assert_close(rows[3:7], again)
    before, after = torch.cdist(value.flatten(1), value.flatten(1)), torch.cdist(rows, rows)
    ratio = (after / before)[before > 0]
    assert float(ratio.min()) > 0.85
    assert float(ratio.max()) < 1.15


def test_very_wide_inputs_are_averaged_first() -> None:
    value = torch.ones(2, 16, 64, 64)
    assert value[0].numel() > MOST_INPUTS
    rows = EarlyLayer("a", nn.Identity()).rows(value, nn.Identity(), value)
    assert rows.shape == (2, WIDTH)
    assert bool(torch.isfinite(rows).all())


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 6)
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.second(self.first(self.embedding(input_ids)).relu()).relu()
        weight = attention_mask[..., None].float()
        return self.head((hidden * weight).sum(1) / weight.sum(1))


def test_padding_does_not_count() -> None:
    """The same text, padded more: the same early features."""
    short = {"input_ids": torch.tensor([1, 2, 3, 0]), "attention_mask": torch.tensor([1, 1, 1, 0])}
    long = {"input_ids": torch.tensor([1, 2, 3, 0, 0, 0]), "attention_mask": torch.tensor([1, 1, 1, 0, 0, 0])}
    seen = []
    for row in (short, long):
        layout = Layout("model.py:Tagger")
        batch = torch.stack([layout.pack(row), layout.pack(row)])
        network = inspect_network(CalledByKeyword(Tagger().eval(), layout), batch, 3)
        assert network.early is not None
        assert network.early.name == "second"
        seen.append(network.at_depths(batch)[2])
    torch.testing.assert_close(seen[0], seen[1])


def test_a_layer_that_is_called_twice_is_heard_the_first_time() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.shared(self.shared(x).relu()).relu())

    x = torch.rand(6, 4)
    network = inspect_network(Twice().eval(), x, 2)
    torch.testing.assert_close(network.at_depths(x)[2], x)


def test_a_module_without_layers_has_none() -> None:
    assert find_early_layer(nn.Flatten(), torch.rand(3, 2, 2), None) is None
