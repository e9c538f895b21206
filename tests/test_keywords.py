"""Rows that are dicts of tensors: packed into one tensor, unpacked by a wrapper that changes nothing else."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from curate.engine.arrays import ArrayInputs
from curate.engine.curvature.ekfac import EKFAC
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.errors import ModelError
from curate.models.keywords import CalledByKeyword, Layout, attention_of, called_as, trim_padding
from curate.models.network import inspect_network
from curate.models.transforms import _Users

ROWS = [
    {"ids": torch.tensor([2**53 - 1, 4]), "mask": torch.tensor([True, False]), "size": torch.rand(2, 3)},
    {"ids": torch.tensor([-7, 1]), "mask": torch.tensor([True, True]), "size": torch.rand(2, 3)},
]


class Reader(nn.Module):
    """Mean of embedded tokens, with a parameter and a buffer of its own and a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.mix = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.rand(4))
        self.register_buffer("shift", torch.rand(4))
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 3)

    def forward(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        assert input_ids.dtype == torch.int64
        weight = attention_mask[:, :, None].float()
        hidden = (self.embedding(input_ids) * weight).sum(1) / weight.sum(1)
        hidden = torch.tanh(self.mix(torch.tanh(self.mix(hidden)))) * self.scale + self.shift
        return {"logits": self.fc(self.drop(hidden))}


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "input_ids": torch.randint(0, 11, (6, 5), generator=generator),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]] * 3),
    }


@pytest.fixture
def reader() -> Reader:
    torch.manual_seed(0)
    return Reader().eval()


def packed(batch: dict[str, torch.Tensor], layout: Layout) -> torch.Tensor:
    rows = len(next(iter(batch.values())))
    return torch.stack([layout.pack({name: value[i] for name, value in batch.items()}) for i in range(rows)])


class TestLayout:
    @pytest.mark.parametrize("names", [("ids", "mask", "size"), ("ids", "mask"), ("size",)])
    def test_what_is_packed_comes_out_bit_for_bit(self, names: tuple[str, ...]) -> None:
        layout = Layout("net.py:make")
        rows = [{name: row[name] for name in names} for row in ROWS]
        found = layout.unpack(torch.stack([layout.pack(row) for row in rows]))
        for name in names:
            wanted = torch.stack([row[name] for row in rows])
            assert found[name].dtype == wanted.dtype
            assert torch.equal(found[name], wanted)

    def test_lists_arrays_and_a_batch_of_one_are_tensors_too(self) -> None:
        layout = Layout("net.py:make")
        row = layout.pack({"a": [1, 2], "b": np.array([3]), "c": torch.tensor([[4, 5]])})
        assert row.tolist() == [1, 2, 3, 4, 5]
        assert layout.unpack(row[None])["c"].shape == (1, 2)

    def test_messages(self) -> None:
        layout = Layout("net.py:make")
        layout.pack({"a": torch.ones(3)})
        with pytest.raises(ModelError, match=r"gave a \(2,\) float32 after a \(3,\) float32.*\n.*one length"):
            layout.pack({"a": torch.ones(2)})
        with pytest.raises(ModelError, match="gave 'a' as a str, not a tensor"):
            layout.pack({"a": "text"})
        with pytest.raises(ModelError, match="gave an empty dict"):
            layout.pack({})


class TestCalledByKeyword:
    def test_it_is_the_network_called_directly(self, reader: Reader, batch: dict[str, torch.Tensor]) -> None:
        layout = Layout("net.py:make")
        wrapped = CalledByKeyword(reader, layout)
        assert torch.equal(wrapped(packed(batch, layout))["logits"], reader(**batch)["logits"])

    def test_names_parameters_and_layers_are_those_of_the_network(self, reader: Reader) -> None:
        wrapped = CalledByKeyword(reader, Layout("net.py:make"))
        assert dict(wrapped.named_parameters()) == dict(reader.named_parameters())
        assert list(wrapped.state_dict()) == list(reader.state_dict())
        assert dict(wrapped.named_modules()).keys() == dict(reader.named_modules()).keys()

    def test_mode_type_and_copies_reach_the_network(self, reader: Reader, batch: dict[str, torch.Tensor]) -> None:
        layout = Layout("net.py:make")
        rows = packed(batch, layout)
        wrapped = CalledByKeyword(reader, layout)
        wrapped.train()
        assert reader.training
        assert reader.drop.training
        wrapped.eval()
        assert not reader.training
        other = copy.deepcopy(wrapped)
        with torch.no_grad():
            other.get_parameter("fc.bias").add_(1)
        torch.testing.assert_close(other(rows)["logits"], wrapped(rows)["logits"] + 1)
        assert wrapped.double()(rows)["logits"].dtype == torch.float64
        assert reader.scale.dtype == torch.float64

    def test_derivatives_are_those_of_the_network(self, reader: Reader, batch: dict[str, torch.Tensor]) -> None:
        layout = Layout("net.py:make")
        rows = packed(batch, layout)
        wrapped = CalledByKeyword(reader, layout)
        network = inspect_network(wrapped, rows, 3)
        assert (network.head_name, network.own_classes) == ("fc", True)
        names = choose_parameters(wrapped, "all")
        objective = Objective(wrapped, names, network.logits_of)
        generator = torch.Generator().manual_seed(1)
        weights = torch.randn(6, 3, generator=generator)
        logits = reader(**batch)["logits"]
        parameters = [reader.get_parameter(name) for name in names]
        wanted = torch.stack(
            [
                torch.cat([
                    part.flatten()
                    for part in torch.autograd.grad((logits[i] * weights[i]).sum(), parameters, retain_graph=True)
                ])
                for i in range(6)
            ]
        )  # fmt: skip
        torch.testing.assert_close(objective.row_gradients(rows, weights), wanted)
        torch.testing.assert_close(objective.cotangents(rows, weights[None])[0], wanted.sum(0))
        direction = torch.randn(1, objective.p, generator=generator)
        moved = (objective.tangents(rows, direction)[0] * weights).sum(1)
        torch.testing.assert_close(moved, wanted @ direction[0])

    def test_only_dicts_are_unpacked(self, reader: Reader) -> None:
        class Transform:
            layout = Layout("net.py:make")

        assert called_as(reader, Transform()) is reader
        Transform.layout.pack({"input_ids": torch.tensor([1])})
        assert isinstance(called_as(reader, Transform()), CalledByKeyword)


def test_a_tuple_is_what_the_network_is_called_with() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 2)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.cat([a, b.float()], 1))

    network, a, b = Two(), torch.randn(4, 3), torch.randint(0, 9, (4, 2))
    transform = _Users(lambda row: (a[row], b[row]), "model.py:Two")
    rows = torch.stack([transform(row) for row in range(4)])
    wrapped = called_as(network, transform)
    assert torch.equal(wrapped(rows), network(a, b))
    assert inspect_network(wrapped, rows, 2).head_name == "fc"


def test_a_network_that_looks_at_its_values_is_differentiated_row_by_row() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))
            self.fc = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x * self.scale if (x > 0).all() else x)

    torch.manual_seed(0)
    module, x = Looks(), torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    objective = Objective(module, choose_parameters(module, "all"), lambda raw: raw)  # type: ignore[arg-type, return-value]
    found = objective.row_gradients(x, torch.tensor([[1.0, -1.0]] * 2))
    gap = module.fc.weight[0] - module.fc.weight[1]
    torch.testing.assert_close(found[:, :2], torch.stack([gap * x[0], torch.zeros(2)]))


class Masked(nn.Module):
    """The mean of what tokens stand for: of those that are told, or of all."""

    def __init__(self, minds: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.minds, self.table, self.seen = minds, nn.Embedding(9, 3), []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        self.seen.append(input_ids.shape[1])
        weight = attention_mask if self.minds else torch.ones_like(attention_mask)
        return (self.table(input_ids) * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)


@pytest.mark.parametrize("minds", [True, False])
def test_padding_is_left_out_if_it_changes_nothing(minds: bool) -> None:
    lengths = torch.tensor([3, 12, 7, 30])
    mask = (torch.arange(40) < lengths[:, None]).long()
    ids = torch.randint(1, 9, (4, 40)) * mask
    network = Masked(minds).eval()
    layout = Layout("net.py:make")
    rows = packed({"input_ids": ids, "attention_mask": mask}, layout)
    wrapped = CalledByKeyword(network, layout)
    whole = wrapped(rows)
    trim_padding(wrapped, rows)
    network.seen.clear()
    torch.testing.assert_close(wrapped(rows), whole)
    torch.testing.assert_close(wrapped(rows[:1]), whole[:1])
    assert network.seen == ([32, 8] if minds else [40, 40])
    assert attention_of(wrapped, rows[:1]).shape[1] == network.seen[-1]


def test_rows_of_like_length_go_together_and_answers_keep_the_order_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.engine.curvature.ekfac.PASS_ROWS", 4)
    lengths = torch.tensor([30, 3, 12, 7, 25, 2, 9, 31, 4, 18])
    mask = (torch.arange(40) < lengths[:, None]).long()
    network, layout = Masked(minds=True).eval(), Layout("net.py:make")
    rows = packed({"input_ids": torch.randint(1, 9, (10, 40)) * mask, "attention_mask": mask}, layout)
    wrapped = CalledByKeyword(network, layout)
    trim_padding(wrapped, rows)
    objective = Objective(wrapped, choose_parameters(wrapped, "all"), lambda output: output)
    inputs, labels = ArrayInputs(rows, torch.device("cpu")), torch.arange(10) % 3
    assert lengths[objective.in_order(inputs)].tolist() == sorted(lengths.tolist())
    ekfac = EKFAC.fit_labels(objective, inputs, F.one_hot(labels, 3).float())
    weights, directions = torch.randn(10, 3), torch.randn(2, objective.p)
    ekfac._kept = None
    network.seen.clear()
    found = ekfac.products(ekfac.own(inputs, weights), directions)
    assert network.seen == [8, 32, 32]  # of 2, 3, 4, 7; 9, 12, 18, 25; 30 and 31
    torch.testing.assert_close(found, objective.row_gradients(rows, weights) @ directions.T)
