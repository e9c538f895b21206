"""Curvature and row gradients against dense twins by automatic differentiation, for every kind of layer."""

import pytest
import torch
from tensor_rows import TensorRows
from torch import autograd, nn
from torch.func import hessian, jacrev
from torch.nn import functional as F

from curate.engine.curvature.choice import curvature_named
from curate.engine.curvature.ekfac import EKFAC
from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.head import HeadCurvature
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.passes import ALONE, Alone, Budget
from curate.engine.solvers import make_solver
from curate.engine.solvers.cg import ConjugateGradients
from curate.engine.solvers.spectrum import lanczos
from curate.errors import NumericalError, UsageError
from curate.plugs import CURVATURES

N, C = 24, 3


class Tied(nn.Module):
    """A layer used twice, which no per-layer formula may count once."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class Text(nn.Module):
    """Tokens with padding, one table that reads and writes, a frozen layer, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.drop = nn.Embedding(9, 4, padding_idx=0), nn.LayerNorm(4), nn.Dropout(0.5)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = (x.abs() * 3).long().clamp_max(8)
        return self.head(torch.tanh(self.frozen(self.drop(self.norm(self.table(tokens))))).mean(1))


class TiedTable(Text):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.back = nn.Linear(4, 9, bias=False)
        self.back.weight = self.table.weight
        self.head = nn.Linear(9, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = (x.abs() * 3).long().clamp_max(8)
        return self.head(self.back(torch.tanh(self.norm(self.table(tokens))).mean(1)))


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


class Again(nn.Module):
    """A convolution and a linear layer used twice each, the one behind at several positions, and one never used."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(3, 3), nn.Linear(6, C)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.convolution(torch.tanh(self.convolution(x.view(len(x), 1, 2, 3)))))
        return self.head(torch.tanh(self.linear(torch.tanh(self.linear(x)))).flatten(1))


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (2, 3, 1)), nn.Conv2d(2, 4, (3, 1), padding=(1, 0), stride=(2, 1), groups=2), nn.BatchNorm2d(4),
        nn.ReLU(inplace=True), nn.Conv2d(4, 4, (2, 1), groups=4, bias=False), nn.GroupNorm(2, 4), nn.Flatten(),
        nn.Linear(4, C),
    )  # fmt: skip


NETWORKS = {
    "softmax": lambda: nn.Linear(6, C),
    "mlp": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, C)),
    "convolutional": convolutional,
    "again": Again,
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, C)),
    "tied": Tied,
    "groups and norms": grouped,
    "text": Text,
    "tied table": TiedTable,
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
    for directions in (3, 8):  # a few go through the network, more through the layers' own formulas
        rows = torch.randn(directions, objective.p).double()
        torch.testing.assert_close(operator @ rows, rows @ dense)
    factor = operator.whole_factor()
    torch.testing.assert_close(factor.T @ factor / len(factor), dense)
    generator = torch.Generator().manual_seed(1)
    draws = [operator.factor(torch.arange(N), generator) for _ in range(300)]
    mean = sum(draw.T @ draw for draw in draws) / (N * len(draws))
    assert float((mean - dense).norm() / dense.norm()) < 0.15


@pytest.mark.parametrize("name", ["mlp", "convolutional", "again"])
def test_products_in_small_parts_are_the_same(name: str) -> None:
    torch.manual_seed(0)
    module = NETWORKS[name]().double()
    names, x = choose_parameters(module, "all"), torch.randn(N, 6).double()
    p = sum(module.get_parameter(name).numel() for name in names)
    few = Budget(128 * 5 * p)  # the gradients of five rows, one row at a time through the network
    products = []
    for passes in (ALONE, Alone(few)):
        objective = Objective(module, names, lambda output: output, passes=passes)
        operator = GaussNewton(objective, TensorRows(x), module(x).softmax(1).detach())
        torch.manual_seed(1)
        products.append(operator @ torch.randn(8, objective.p).double())
    torch.testing.assert_close(*products)


def test_inner_products_follow_from_the_layers_as_from_the_gradients(problem: tuple[Objective, torch.Tensor]) -> None:
    """F Fᵀ of the factor that is written down, and s · gᵢ along some directions, a few rows at a time or all."""
    objective, x = problem
    p = objective.logits(objective._values, x).detach().softmax(1)
    few = Budget(128 * 5 * objective.p)
    directions = torch.randn(4, objective.p).double()
    for passes in (ALONE, Alone(few)):
        less = Objective(objective.module, objective.names, objective.logits_of, passes=passes)
        written = GaussNewton(less, TensorRows(x), p).written
        factor = written.whole_factor()
        torch.testing.assert_close(written.gram, factor @ factor.T)
        along = less.products_along(x, p, directions)
        torch.testing.assert_close(along, objective.row_gradients(x, p) @ directions.T)


@pytest.mark.parametrize("name", list(CURVATURES))
def test_batches_too_large_to_be_written_down_are_the_same(problem: tuple[Objective, torch.Tensor], name: str) -> None:
    objective, x = problem
    p = objective.logits(objective._values, x).detach().softmax(1)
    few = Alone(Budget(16 * 2 * objective.p))  # the gradients of two rows
    less = Objective(objective.module, objective.names, objective.logits_of, passes=few)
    part, rows = torch.tensor([3, 8, 11, 20, 5]), torch.randn(4, objective.p).double()

    def drawn(objective: Objective) -> tuple[torch.Tensor, torch.Tensor]:
        operator = curvature_named(name)(objective, TensorRows(x), p, p - F.one_hot(torch.arange(N) % C, C))
        return (
            operator.gram_of(part, torch.Generator().manual_seed(0)),
            operator.batch(part, torch.Generator().manual_seed(1)) @ rows,
        )

    torch.testing.assert_close(drawn(less), drawn(objective))


@pytest.mark.parametrize("name", list(CURVATURES))
def test_every_curvature_is_its_dense_twin(problem: tuple[Objective, torch.Tensor], name: str) -> None:
    objective, x = problem
    y = torch.randint(0, C, (N,), generator=torch.Generator().manual_seed(4))
    logits = objective.logits(objective._values, x).detach()
    operator = curvature_named(name)(objective, TensorRows(x), logits.softmax(1), logits.softmax(1) - F.one_hot(y, C))
    gradients = objective.row_gradients(x, logits.softmax(1) - F.one_hot(y, C))
    if name == "fisher":
        dense = gradients.T @ gradients / N
    else:
        sizes = {key: value.shape for key, value in objective._values.items()}

        def loss(flat: torch.Tensor) -> torch.Tensor:
            parts = flat.split([shape.numel() for shape in sizes.values()])
            values = {key: part.view(shape) for (key, shape), part in zip(sizes.items(), parts, strict=True)}
            return F.cross_entropy(objective.logits(values, x), y)

        flat = torch.cat([value.flatten() for value in objective._values.values()])
        jacobian = dense_jacobian(objective, x)
        p = logits.softmax(1)
        s = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        dense = torch.einsum("ncp,nce,neq->pq", jacobian, s, jacobian) / N
        dense = dense if name == "ggn" else autograd.functional.hessian(loss, flat)
    rows = torch.randn(3, objective.p).double()
    torch.testing.assert_close(operator @ rows, rows @ dense, rtol=1e-5, atol=1e-7)
    few = torch.tensor([3, 8, 11])
    parts = [
        operator.on(part) @ rows * len(part) for part in (few, torch.tensor([i for i in range(N) if i not in few]))
    ]
    torch.testing.assert_close(sum(parts) / N, rows @ dense, rtol=1e-5, atol=1e-7)


def test_a_hessian_with_negative_curvature_names_a_damping_that_works() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, C)).double()
    x, y = torch.randn(N, 6).double(), torch.randint(0, C, (N,))
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    p = module(x).softmax(1).detach()
    operator = curvature_named("hessian")(objective, TensorRows(x), p, p - F.one_hot(y, C))
    lowest = float(torch.linalg.eigvalsh(operator @ torch.eye(objective.p).double())[0])
    assert float(lanczos(operator, 30)[0][0]) == pytest.approx(lowest, rel=0.05)
    right = torch.randn(2, objective.p).double()
    for name in ("cg", "lissa", "lanczos"):
        with pytest.raises(NumericalError, match="Negative curvature: the smallest eigenvalue") as caught:
            make_solver(name, 0).prepare(operator, -0.5 * lowest)
        assert caught.value.exit_status == 4
        damping = float(caught.value.hint.split("--damping ")[1].split(",")[0])
        solution = make_solver(name, 0).prepare(operator, damping).solve(right)
        assert float(solution.residual.max()) < 0.2


def test_half_precision_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, C))
    x = torch.randn(N, 6)
    for kind in (torch.bfloat16, torch.float16):
        half = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, C)).to(kind)
        half.load_state_dict(plain.state_dict())
        rounded = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, C))
        rounded.load_state_dict({key: value.float() for key, value in half.state_dict().items()})
        weights = torch.randn(N, C)
        found, true = (
            Objective(module, choose_parameters(module, "all"), lambda output: output).row_gradients(x, weights)
            for module in (half, rounded)
        )
        torch.testing.assert_close(found, true)
        assert next(half.parameters()).dtype == kind


def test_ekfac_is_the_curvature_where_it_can_be_and_close_to_it_elsewhere(
    problem: tuple[Objective, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.engine.curvature.row_gradients.PATCH_FLOATS", 500)  # a few rows' patches at a time
    objective, x = problem
    p = objective.logits(objective._values, x).softmax(1).detach()
    operator = GaussNewton(objective, TensorRows(x), p)
    ekfac = EKFAC.fit(operator)
    identity = torch.eye(objective.p).double()
    dense, ours = operator @ identity, ekfac.times(identity)
    torch.testing.assert_close(ours, ours.T)
    torch.testing.assert_close(ekfac.solve(ours + 0.1 * identity, 0.1), identity)
    assert float(torch.linalg.eigvalsh(ours)[0]) > -1e-9
    assert ekfac.mean_eigenvalue() == pytest.approx(float(ours.trace()) / objective.p)
    assert float(ours.trace() / dense.trace()) == pytest.approx(1, abs=0.3)
    y = torch.randint(0, C, (N,))
    weights = p - F.one_hot(y, C)
    gradients = objective.row_gradients(x, weights)
    directions = torch.randn(3, objective.p).double()
    torch.testing.assert_close(
        ekfac.self_products(0.1, ekfac.own(operator.inputs, weights)), (gradients * ekfac.solve(gradients, 0.1)).sum(1)
    )
    torch.testing.assert_close(
        ekfac.products(ekfac.own(operator.inputs, weights), directions), gradients @ directions.T
    )
    labelled = EKFAC.fit_labels(objective, TensorRows(x), F.one_hot(y, C).double())
    torch.testing.assert_close(
        labelled.products(labelled.own(operator.inputs, weights), directions), gradients @ directions.T
    )
    torch.testing.assert_close(
        labelled.self_products(0.1, labelled.own(operator.inputs, weights)),
        (gradients * labelled.solve(gradients, 0.1)).sum(1),
    )


def test_ekfac_of_one_output_layer_is_exact_on_equal_rows() -> None:
    """With the same probabilities on every row the curvature is a Kronecker product, and nothing is approximated."""
    torch.manual_seed(0)
    module = nn.Linear(6, C).double()
    torch.nn.init.zeros_(module.weight)
    x = torch.randn(N, 6).double()
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    operator = GaussNewton(objective, TensorRows(x), module(x).softmax(1).detach())
    identity = torch.eye(objective.p).double()
    torch.testing.assert_close(EKFAC.fit(operator).times(identity), operator @ identity)


def test_ekfac_names_what_it_does_not_know() -> None:
    torch.manual_seed(0)
    said = {}
    for name in ("groups and norms", "text", "attention", "tied table"):
        module = NETWORKS[name]().eval()
        objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
        x = torch.randn(N, 6)
        p = objective.logits(objective._values, x).softmax(1).detach()
        said[name] = EKFAC.fit(GaussNewton(objective, TensorRows(x), p)).layers.approximations()
    assert said["groups and norms"] == "5 layers by EK-FAC"
    assert said["text"] == "3 layers by EK-FAC"
    assert said["attention"].startswith("2 layers by EK-FAC; attention.in_proj_weight: whole block")
    assert said["tied table"] == "2 layers by EK-FAC; table.weight: whole block"


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_wide_head_in_either_precision_is_solved_in_both(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come in float64 from conjugate gradients whatever the features are, and the gap is taken in float64."""
    monkeypatch.setattr("curate.engine.curvature.head.MOST_EXACT", 10)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator).to(dtype)
    p = torch.randn(60, 4, generator=generator).to(dtype).softmax(1)
    head = HeadCurvature(x, p, torch.full((5,), 0.1, dtype=dtype))
    factor = head.factorise()
    assert not factor.exact
    v = torch.randn(3, head.p, generator=generator)
    dense = HeadCurvature(x.double(), p.double(), head.penalty.double()) @ torch.eye(head.p, dtype=torch.float64)
    for right in (v, v.double()):
        solution = ConjugateGradients(preconditioner=factor.solve).prepare(head, 0.0).solve(right)
        assert solution.rows.dtype == right.dtype
        torch.testing.assert_close(
            solution.rows.double(), torch.linalg.solve(dense, v.double().T).T, rtol=1e-4, atol=1e-5
        )
    precise = head.precise() @ v.double()
    torch.testing.assert_close(precise, v.double() @ dense, rtol=1e-12, atol=1e-12)
