"""What a network returns, where its head is, and that every way of keeping parameters gives the same numbers."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn import functional as F

from curate.cli import main
from curate.errors import ModelError
from curate.models.network import inspect_network


class Returns(nn.Module):
    """A linear layer whose result goes out through ``way``."""

    def __init__(self, outputs: int, way: object = None) -> None:
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.fc = nn.Linear(6, outputs)
        self.way = way or (lambda z: z)

    def forward(self, x: torch.Tensor) -> object:
        return self.way(self.fc(torch.tanh(self.body(x))))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


def plain(module: Returns, x: torch.Tensor) -> torch.Tensor:
    return module.fc(torch.tanh(module.body(x))).detach()


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (lambda z: z, ""),
        (lambda z: (z, z + 1), ""),
        (lambda z: {"logits": z, "hidden": z + 1}, ""),
        (lambda z: SimpleNamespace(logits=z), ""),
        (lambda z: z.softmax(1), "probabilities"),
        (lambda z: z.log_softmax(1), "log-probabilities"),
    ],
)
def test_ways_of_returning_three_classes(x: torch.Tensor, way: object, said: str) -> None:
    torch.manual_seed(0)
    module = Returns(3, way)
    network = inspect_network(module, x, 3)
    features, logits = network(x)
    torch.testing.assert_close(logits.softmax(1), plain(module, x).softmax(1))
    torch.testing.assert_close(features, torch.tanh(module.body(x)).detach())
    assert (network.head_name, network.own_classes) == ("fc", True)
    assert said in " ".join(network.notes)
    assert bool(network.notes) == bool(said)


@pytest.mark.parametrize(
    ("way", "what"),
    [
        (lambda z: z, "logit"),
        (lambda z: z[:, 0], "logit"),
        (lambda z: {"logits": z}, "logit"),
        (torch.sigmoid, "probability"),
        (lambda z: torch.sigmoid(z)[:, 0], "probability"),
    ],
)
def test_one_output_for_two_classes(x: torch.Tensor, way: object, what: str) -> None:
    torch.manual_seed(0)
    module = Returns(1, way)
    network = inspect_network(module, x, 2)
    second = torch.sigmoid(plain(module, x))[:, 0]
    torch.testing.assert_close(network(x)[1].softmax(1), torch.stack([1 - second, second], dim=1))
    assert (network.one_output, network.own_classes, network.head_name) == (True, True, "fc")
    assert network.notes == (f"one output: read as the {what} of the second class (--classes gives the order)",)


def test_two_rows_that_sum_to_one_by_chance_are_no_probabilities() -> None:
    x = torch.eye(3)[:, :2].repeat(10, 1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2, bias=False)
            self.fc.weight.data = torch.tensor([[0.3, 0.9], [0.7, 0.1]])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x)

    network = inspect_network(Net(), x, 2)
    assert network.reading == "logits"
    assert torch.equal(network(x)[1], x @ torch.tensor([[0.3, 0.7], [0.9, 0.1]]))


@pytest.mark.parametrize(
    ("way", "outputs", "words"),
    [
        (lambda z: z[:, :, None, None].expand(-1, -1, 5, 5), 3, ["a map for each row", "segmentation"]),
        (lambda z: {"out": z[:, :, None, None]}, 3, ["segmentation"]),
        (lambda z: [{"boxes": row, "scores": row} for row in z], 3, ["boxes for each row", "detector"]),
        (lambda z: z, 1, ["one output, for 3 classes", "regression"]),
        (lambda z: z[:, 0], 1, ["one output, for 3 classes", "regression"]),
        (lambda z: z[:, None], 3, ["returned (32, 1, 3) for 32 rows"]),
        (lambda z: z.mean(), 3, ["returned () for 32 rows"]),
        (lambda z: "text", 3, ["returned a str without logits"]),
    ],
)
def test_what_is_no_classifier(x: torch.Tensor, way: object, outputs: int, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        inspect_network(Returns(outputs, way), x, 3)
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert said.count("\n") == 1


def test_another_number_of_outputs_serves_as_features(x: torch.Tensor) -> None:
    torch.manual_seed(0)
    more = inspect_network(Returns(5), x, 3)
    assert (more.own_classes, more.head_name) == (False, "fc")
    assert "5 outputs for 3 classes" in more.notes[0]
    assert "name all 5 in their order with --classes" in more.notes[0]
    fewer = inspect_network(Returns(2), x, 3)
    assert "--classes" not in fewer.notes[0]
    torch.testing.assert_close(fewer(x)[0], torch.tanh(fewer.module.body(x)).detach())


class TestEmbeddings:
    def test_outputs_that_no_linear_layer_gives_are_the_features(self) -> None:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        pictures = torch.rand(32, 3, 6, 6)
        network = inspect_network(module, pictures, 3)
        assert (network.head, network.own_classes) == (None, False)
        assert "they are the features" in network.notes[-1]
        for rows in (pictures, pictures[:5]):
            torch.testing.assert_close(network(rows)[0], module(rows).detach())

    def test_a_layer_beside_the_way_out_is_no_head(self, x: torch.Tensor) -> None:
        class Pooler(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body, self.pooler = nn.Linear(4, 6), nn.Linear(6, 6)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                hidden = torch.tanh(self.body(x))
                self.pooler(hidden)
                return hidden

        torch.manual_seed(0)
        module = Pooler()
        network = inspect_network(module, x, 3)
        assert network.head_name == "body"
        torch.testing.assert_close(network(x)[0], x)
        one = inspect_network(nn.Sequential(nn.Conv1d(1, 6, 4), nn.Flatten()), x[:, None], 3)
        assert one.head is None


DATA = """
import torch
from torch import nn
from torch.nn import functional as F

def transform(row):
    return torch.as_tensor(row, dtype=torch.float32)

def trained(module, loss):
    x, y = torch.load("{folder}/rows.pt")
    module.train()
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(40):
        optimiser.zero_grad()
        loss(module(x), y).backward()
        optimiser.step()
    return module

class Net(nn.Module):
    def __init__(self, outputs=2, drop=0.0):
        super().__init__()
        self.body, self.norm, self.drop = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(drop)
        self.fc = nn.Linear(5, outputs)
    def forward(self, x):
        return self.fc(self.drop(torch.tanh(self.norm(self.body(x)))))

def one(drop=0.0):
    torch.manual_seed(0)
    return trained(Net(1, drop), lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.float()))

class Sigmoid(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
    def forward(self, x):
        return torch.sigmoid(self.net(x))[:, 0]

def probability():
    return Sigmoid(one())

def two():
    net, wide = one(), Net(2)
    state = net.state_dict()
    for name in ("fc.weight", "fc.bias"):
        state[name] = torch.cat([-state[name] / 2, state[name] / 2])
    wide.load_state_dict(state)
    return wide

ready = one()

def evaluated():
    return one().eval()

def frozen(some=False):
    net = one()
    for name, parameter in net.named_parameters():
        parameter.requires_grad = some and not name.startswith("body")
    return net

def half(kind="float16"):
    net = one().to(getattr(torch, kind))
    return net

def rounded(kind="float16"):
    return half(kind).float()

class Shared(nn.Module):
    def __init__(self, plain=False):
        super().__init__()
        torch.manual_seed(3)
        self.mix, self.fc = nn.Linear(4, 4), nn.Linear(4, 1)
        self.again = nn.Linear(4, 4)
        self.again.weight = self.mix.weight
        self.again.bias = self.mix.bias
    def forward(self, x):
        return self.fc(torch.tanh(self.again(torch.tanh(self.mix(torch.tanh(self.mix(x)))))))

def shared():
    return Shared()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training rows of two classes, ten of them mislabeled, and 20 evaluation rows."""
    place = tmp_path_factory.mktemp("binary")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 4, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    y[:10] = 1 - y[:10]
    torch.save((x[:60], y[:60]), place / "rows.pt")
    np.savez(place / "train.npz", x=x[:60].numpy(), y=np.array(["no", "yes"])[y[:60]], id=np.arange(60))
    np.savez(place / "eval.npz", x=x[60:].numpy(), y=np.array(["no", "yes"])[y[60:]], id=np.arange(60, 80))
    (place / "model.py").write_text(DATA.replace("{folder}", place.as_posix()))
    return place


COLUMNS = ("loss", "given_probability", "suspicion", "self_influence", "harm")


def scanned(folder: Path, tmp_path: Path, factory: str, *options: object) -> dict[str, np.ndarray]:
    """Columns of the training rows, in the order of their numbers."""
    database = tmp_path / "scan.db"
    result = CliRunner().invoke(
        main,
        ["scan", str(folder / "train.npz"), "--eval", str(folder / "eval.npz"), "--id", "id", "--model",
         f"{folder}/model.py:{factory}", "--db", str(database), "--no-cache", *map(str, options)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            f"SELECT {', '.join(COLUMNS)} FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
            "WHERE e.split = 'train' AND s.run_id = (SELECT max(id) FROM runs) ORDER BY CAST(e.key AS INTEGER)"
        ).fetchall()
        notes = connection.execute("SELECT notes FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    found = {name: np.array(column) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
    return {**found, "notes": notes[0]}


def assert_equal(left: dict[str, np.ndarray], right: dict[str, np.ndarray], tolerance: float = 1e-4) -> None:
    for name in COLUMNS:
        np.testing.assert_allclose(left[name], right[name], rtol=tolerance, atol=tolerance * abs(right[name]).max())


def test_one_logit_and_the_same_model_with_two_give_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    one = scanned(folder, tmp_path, "one", "--params", "head", "--damping", 0.01)
    assert "one output: read as the logit" in one["notes"]
    # (-w/2, w/2) has half the square of w: its penalty is twice as large for the same effect
    two = scanned(folder, tmp_path, "two", "--params", "head", "--damping", 0.02)
    assert_equal(one, two)
    probability = scanned(folder, tmp_path, "probability", "--params", "head", "--damping", 0.01)
    assert "read as the probability" in probability["notes"]
    assert_equal(one, probability, 1e-3)


def explicit(folder: Path, module: nn.Module, names: list[str], damping: float) -> tuple[np.ndarray, np.ndarray]:
    """(harm, self-influence) from one logit's formula: C = (1/n) sum p (1 - p) J^T J, g = (p - y) J."""
    x, y = torch.load(folder / "rows.pt")
    with np.load(folder / "eval.npz") as stored:
        x_eval, y_eval = torch.as_tensor(stored["x"]), torch.as_tensor(stored["y"] == "yes")
    module = module.eval()
    parameters = [module.get_parameter(name) for name in names]

    def rows(inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        z = module(inputs)[:, 0]
        jacobian = torch.stack([
            torch.cat([part.flatten() for part in torch.autograd.grad(one, parameters, retain_graph=True)]) for one in z
        ]).double()  # fmt: skip
        p = z.detach().double().sigmoid()
        return jacobian, p, (p - labels.double())[:, None] * jacobian

    jacobian, p, g = rows(x, y)
    _, _, g_eval = rows(x_eval, y_eval)
    curvature = (jacobian * (p * (1 - p))[:, None]).T @ jacobian / len(x)
    solve = torch.linalg.inv(curvature + damping * torch.eye(len(curvature), dtype=torch.float64))
    harm = -g_eval.mean(0) @ solve @ (g - g.mean(0)).T / len(x)
    return harm.numpy(), ((g @ solve * g).sum(1) / len(x)).numpy()


def net_of(folder: Path, factory: str, **arguments: object) -> nn.Module:
    scope: dict = {}
    exec((folder / "model.py").read_text(), scope)
    for parameter in (net := scope[factory](**arguments)).parameters():
        parameter.requires_grad = True
    return net


BODY = ["body.weight", "body.bias"]
REST = ["norm.weight", "norm.bias", "fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("factory", "arguments", "same_as", "names"),
    [
        ("one", ["drop=0.5"], "one", BODY + REST),  # in training mode, with dropout and batch norm
        ("ready", [], "one", BODY + REST),
        ("frozen", [], "one", BODY + REST),
        ("frozen", ["some=true"], "one", REST),
        ("half", [], "rounded", BODY + REST),
        ("half", ["kind=bfloat16"], "rounded", BODY + REST),
        ("shared", [], "shared", ["mix.weight", "mix.bias", "fc.weight", "fc.bias"]),
    ],
    ids=["training mode", "instance", "frozen", "partly frozen", "float16", "bfloat16", "shared and tied"],
)
def test_every_solver_gives_the_formula_s_numbers(
    folder: Path, tmp_path: Path, factory: str, arguments: list[str], same_as: str, names: list[str]
) -> None:
    given = dict(argument.split("=") for argument in arguments)
    known = {"drop": 0.5} if "drop" in given else {"kind": given["kind"]} if "kind" in given else {}
    net = net_of(folder, same_as, **known)
    options = [part for argument in arguments for part in ("--model-arg", argument)]
    damping = 0.05
    harm, _ = explicit(folder, net, names, damping)
    exact = scanned(folder, tmp_path, factory, *options, "--solver", "exact", "--params", "all", "--damping", damping)
    np.testing.assert_allclose(exact["harm"], harm, rtol=1e-3, atol=1e-4 * abs(harm).max())
    x, y = torch.load(folder / "rows.pt")
    losses = F.binary_cross_entropy_with_logits(net.eval()(x)[:, 0], y.float(), reduction="none")
    np.testing.assert_allclose(exact["loss"], losses.detach(), rtol=1e-3, atol=1e-5)
    _, own = explicit(folder, net, ["fc.weight", "fc.bias"], damping)
    np.testing.assert_allclose(exact["self_influence"], own, rtol=1e-3, atol=1e-4 * own.max())
    lissa = scanned(folder, tmp_path, factory, *options, "--solver", "lissa", "--params", "all", "--damping", damping)
    assert np.corrcoef(lissa["harm"], harm)[0, 1] > 0.99
    head = scanned(folder, tmp_path, factory, *options, "--solver", "lissa", "--params", "head", "--damping", damping)
    at_head, _ = explicit(folder, net, ["fc.weight", "fc.bias"], damping)
    assert np.corrcoef(head["harm"], at_head)[0, 1] > 0.99


def test_the_persons_own_module_stays_as_it_was(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "mine_for_network_test.py").write_text((folder / "model.py").read_text())
    import mine_for_network_test as mine

    before = {name: value.clone() for name, value in mine.ready.state_dict().items()}
    from curate.models.loading import load_model

    loaded = load_model("mine_for_network_test:ready").module
    inspect_network(loaded, torch.rand(8, 4), 2)
    loaded.fc.weight.data.zero_()
    assert mine.ready.training
    assert not loaded.training
    assert all(torch.equal(value, before[name]) for name, value in mine.ready.state_dict().items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in mine.ready.modules())


class Parts(nn.Module):
    """Two tasks from one body, returned as ``form`` puts them together."""

    def __init__(self, form: Callable[[Tensor, Tensor, Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.other, self.fc = nn.Linear(4, 8), nn.Linear(8, 5), nn.Linear(8, 3)
        self.form = form

    def forward(self, x: Tensor) -> object:
        h = self.body(x).relu()
        return self.form(h, self.other(h), self.fc(h))


SAMPLE = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("form", "part"),
    [
        (lambda h, other, z: (h, z), "1"),
        (lambda h, other, z: {"pred": z}, None),
        (lambda h, other, z: {"colour": other, "shape": z}, "shape"),
        (lambda h, other, z: [z * 2, z], "1"),
        (lambda h, other, z: (z.softmax(1), z), "1"),
        (lambda h, other, z: {"z": z, "p": z.softmax(1)}, "z"),
        (lambda h, other, z: SimpleNamespace(hidden=h, scores=z), "scores"),
        (lambda h, other, z: {"logits": z, "other": z * 2}, None),
        (lambda h, other, z: z, None),
    ],
)
def test_the_part_with_a_column_a_class_that_a_linear_layer_gives_is_read(form: Any, part: str | None) -> None:
    network = inspect_network(Parts(form), SAMPLE, 3)
    features, logits = network(SAMPLE)
    assert (network.own_classes, network.head_name) == (True, "fc")
    torch.testing.assert_close(logits, network.own_head(features))
    told = [note for note in network.notes if "several parts" in note]
    assert told == (
        [] if part is None else [f"the model returns several parts: '{part}' is read (--output names another)"]
    )


def test_a_part_may_be_named() -> None:
    both = Parts(lambda h, other, z: {"colour": other, "shape": z})
    assert inspect_network(both, SAMPLE, 5, part="colour").head_name == "other"
    assert inspect_network(Parts(lambda h, other, z: (z, h)), SAMPLE, 3, part="1").own_classes is False
    with pytest.raises(ModelError) as refused:
        inspect_network(both, SAMPLE, 3, part="size")
    assert "There is: colour, shape" in str(refused.value.hint)


def test_a_forward_pass_without_gradients_is_found_out() -> None:
    class NoGrad(Parts):
        @torch.no_grad()
        def forward(self, x: Tensor) -> object:
            return super().forward(x)

    assert inspect_network(Parts(lambda h, other, z: z), SAMPLE, 3).differentiable
    network = inspect_network(NoGrad(lambda h, other, z: z), SAMPLE, 3)
    assert not network.differentiable
    assert any("gives no gradients" in note for note in network.notes)


def test_a_model_that_asks_for_a_gpu_is_not_blamed_on_the_transform() -> None:
    class Moves(Parts):
        def forward(self, x: Tensor) -> object:
            raise AssertionError("Torch not compiled with CUDA enabled")

    with pytest.raises(ModelError) as refused:
        inspect_network(Moves(lambda h, other, z: z), SAMPLE, 3)
    assert "test_network.py:" in refused.value.message
    assert "asks for a GPU" in str(refused.value.hint)
