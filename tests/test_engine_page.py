"""The page of the engine, example by example, and its nouns."""

import copy
import doctest
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from curate import engine

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "engine.md"


def test_every_example_of_the_page_gives_what_it_shows() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.failed == 0
    assert found.attempted >= 40


def test_the_nouns_are_there_and_named_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    for name in dir(engine):
        assert getattr(engine, name).__name__ == name
        assert f"engine.{name}" in text, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        engine.nothing  # noqa: B018


def test_influence_of_arrays_is_its_formula_and_leaves_the_module_alone() -> None:
    """(1/n) g_t · (C + λ I)⁻¹ (gᵢ - ḡ), with C = (1/n) Σ Jᵢᵀ Sᵢ Jᵢ written down in float64."""
    torch.manual_seed(0)
    x, y = torch.randn(40, 5), torch.randint(0, 3, (40,))
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    problem = engine.problem_of(module, x[:30].numpy(), y[:30].numpy())
    found = engine.influence_of(problem, x[30:], y[30:], solver="exact", damping=0.05)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())

    exact = copy.deepcopy(module).double().eval()
    parameters = {name: value.detach() for name, value in exact.named_parameters()}

    def logits(values: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return functional_call(exact, values, (row[None],))[0]

    def loss(values: dict[str, torch.Tensor], row: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits(values, row), label)

    def flat(parts: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([part.reshape(len(part), -1) for part in parts.values()], dim=1)

    gradients = flat(vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x.double(), y))
    curvature = torch.zeros(gradients.shape[1], gradients.shape[1], dtype=torch.float64)
    for row in x[:30].double():
        jacobian = flat(torch.func.jacrev(logits)(parameters, row))
        p = logits(parameters, row).softmax(0).detach()
        curvature += jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian / 30
    inverse = torch.linalg.inv(curvature + 0.05 * torch.eye(len(curvature)))
    centred = gradients[:30] - gradients[:30].mean(0)
    torch.testing.assert_close(found.double(), centred @ inverse @ gradients[30:].T / 30, rtol=1e-3, atol=1e-6)
