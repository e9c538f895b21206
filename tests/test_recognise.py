"""Architectures of torchvision told by the names and shapes in a checkpoint."""

import pytest
import torch
import torchvision
from torch import nn

from curate.models.recognise import _shapes, recognise


def state(name: str, outputs: int, prefix: str = "") -> dict[str, torch.Tensor]:
    with torch.device("meta"):  # drawing weights takes seconds, and shapes are all that is looked at
        module = torchvision.models.get_model(name, weights=None, num_classes=outputs)
    return {prefix + key: torch.zeros(tensor.shape, dtype=tensor.dtype) for key, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_the_architecture_and_the_number_of_outputs_are_found(name: str) -> None:
    found = recognise(state(name, 5))
    assert found is not None
    assert (found.name, found.outputs, found.prefix, found.spec) == (name, 5, "", f"torchvision:{name}")


@pytest.mark.parametrize("prefix", ["model.", "module.", "backbone.net.", "_orig_mod."])
def test_prefixes_of_wrappers_are_seen_through(prefix: str) -> None:
    beside = {} if prefix == "_orig_mod." else {"criterion.weight": torch.ones(7)}
    found = recognise({**state("resnet18", 7, prefix), **beside})
    assert found is not None
    assert (found.name, found.outputs) == ("resnet18", 7)
    assert found.prefix == ("" if prefix == "_orig_mod." else prefix)


def test_a_head_of_a_persons_own_is_told_from_the_body() -> None:
    module = torchvision.models.resnet18(weights=None)
    module.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 3))
    found = recognise(module.state_dict())
    assert found is not None
    assert (found.name, found.outputs, found.head) == ("resnet18", None, ("fc.1.bias", "fc.1.weight"))


def test_other_networks_are_none_of_them() -> None:
    assert recognise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2)).state_dict()) is None
    assert recognise({}) is None
    widened = {
        key: torch.cat([tensor, tensor]) if tensor.ndim else tensor for key, tensor in state("resnet18", 5).items()
    }
    assert recognise(widened) is None


def test_every_classifier_of_torchvision_can_be_told_and_no_two_are_alike() -> None:
    names = torchvision.models.list_models(module=torchvision.models)
    shapes = [_shapes(name) for name in names]
    assert len({tuple(found.items()) for found in shapes}) == len(names) > 50
