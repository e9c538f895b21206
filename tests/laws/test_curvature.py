"""Curvature and row gradients against dense twins by automatic differentiation, for every kind of layer."""

import pytest
import torch
from tensor_rows import TensorRows
from torch import nn
from torch.func import hessian, jacrev
from torch.nn import functional as F

from curate.curvature.gauss_newton import GaussNewton
from curate.curvature.head import HeadCurvature
from curate.curvature.objective import Objective, choose_parameters
from curate.errors import UsageError

N, C = 24, 3


class Tied(nn.Module):
    """A layer used twice, which no per-layer formula may count once."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(4, 2, batch_first=True), nn.LayerNorm(4)
        self.head = nn.Linear(4, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(len(x), 3, 2).repeat(1, 1, 2)
        return self.head(self.norm(x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 3, 2, padding=1, stride=1), nn.ReLU(inplace=True),
        nn.Conv2d(3, 2, (2, 1), bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 2 * 4, C),
    )  # fmt: skip


NETWORKS = {
    "softmax": lambda: nn.Linear(6, C),
    "mlp": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, C)),
    "convolutional": convolutional,
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, C)),
    "tied": Tied,
    "attention": Attention,
}


pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")  # torch's own, in hessian()


@pytest.fixture(params=NETWORKS)
def problem(request: pytest.FixtureRequest) -> tuple[Objective, torch.Tensor]:
    torch.manual_seed(0)
    module = NETWORKS[request.param]().double().eval()
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    x = torch.randn(N, 6, dtype=torch.float64)
    return Objective(module, choose_parameters(module, "all"), lambda output: output), x


def dense_jacobian(objective: Objective, x: torch.Tensor) -> torch.Tensor:
    """[n C p], by reverse mode."""
    parts = jacrev(lambda values: objective.logits(values, x))(objective._values)
    return torch.cat([part.flatten(2) for part in parts.values()], dim=2)


def test_tangents_cotangents_and_row_gradients(problem: tuple[Objective, torch.Tensor]) -> None:
    objective, x = problem
    jacobian = dense_jacobian(objective, x)
    directions, weights = torch.randn(2, objective.p).double(), torch.randn(N, C).double()
    torch.testing.assert_close(objective.tangents(x, directions), torch.einsum("ncp,kp->knc", jacobian, directions))
    torch.testing.assert_close(objective.cotangents(x, weights[None])[0], torch.einsum("ncp,nc->p", jacobian, weights))
    torch.testing.assert_close(objective.row_gradients(x, weights), torch.einsum("ncp,nc->np", jacobian, weights))


def test_layer_formulas_are_used_where_they_hold() -> None:
    used = {}
    for name, make in NETWORKS.items():
        module = make()
        used[name] = Objective(module, choose_parameters(module, "all"), lambda output: output).layers is not None
    assert used["convolutional"]
    assert used["mlp"]
    assert not used["attention"]
    assert not used["batch norm"]


def test_gauss_newton_is_its_dense_twin(problem: tuple[Objective, torch.Tensor]) -> None:
    objective, x = problem
    p = objective.logits(objective._values, x).softmax(1).detach()
    s = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    jacobian = dense_jacobian(objective, x)
    dense = torch.einsum("ncp,nce,neq->pq", jacobian, s, jacobian) / N
    operator = GaussNewton(objective, TensorRows(x), p)
    rows = torch.randn(3, objective.p).double()
    torch.testing.assert_close(operator @ rows, rows @ dense)
    factor = operator.whole_factor()
    torch.testing.assert_close(factor.T @ factor / len(factor), dense)
    generator = torch.Generator().manual_seed(1)
    draws = [operator.factor(torch.arange(N), generator) for _ in range(3000)]
    mean = sum(draw.T @ draw for draw in draws) / (N * len(draws))
    assert float((mean - dense).norm() / dense.norm()) < 0.05


def test_gauss_newton_of_softmax_regression_is_the_hessian() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(N, 5).double(), torch.randint(0, C, (N,))
    weights = torch.randn(C, 5).double()
    dense = hessian(lambda w: F.cross_entropy(x @ w.view(C, 5).T, y))(weights.flatten())
    penalty = torch.full((5,), 0.3).double()
    head = HeadCurvature(x, (x @ weights.T).softmax(1), penalty)
    rows = torch.randn(4, C * 5).double()
    torch.testing.assert_close(head @ rows, rows @ dense + 0.3 * rows)
    torch.testing.assert_close(head.factorise().solve(head @ rows), rows)


def test_the_users_module_is_left_as_it_was(problem: tuple[Objective, torch.Tensor]) -> None:
    objective, x = problem
    before = {name: value.clone() for name, value in objective.module.state_dict().items()}
    objective.row_gradients(x, torch.randn(N, C).double())
    assert all(torch.equal(value, before[name]) for name, value in objective.module.state_dict().items())
    assert all(parameter.grad is None for parameter in objective.module.parameters())
    assert not any(module._forward_hooks for module in objective.module.modules())


def test_choosing_parameters() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert choose_parameters(module, "all") == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert choose_parameters(module, "^1[.]") == ["1.weight", "1.bias"]
    module[0].weight.requires_grad_(False)
    assert choose_parameters(module, "all") == ["0.bias", "1.weight", "1.bias"]
    with pytest.raises(UsageError, match="no parameter has such a name"):
        choose_parameters(module, "encoder")
    with pytest.raises(UsageError, match="not a regular expression"):
        choose_parameters(module, "(")
