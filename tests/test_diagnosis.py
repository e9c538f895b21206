"""The two silent failures, on a ResNet: another class order, inputs without the normalisation of training."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from curate.cli import main
from curate.errors import ModelError
from curate.stages.diagnosis import IMAGENET_MEAN, IMAGENET_STD, better_preparation, other_order

NAMES = ["ant", "bee", "cat", "dog"]
ORDER = [2, 0, 3, 1]  # the class that each output stands for
MODEL = """
import numpy as np, torch
from torch import nn
from torchvision.models.resnet import BasicBlock

class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.blocks = nn.Sequential(BasicBlock(32, 32), nn.MaxPool2d(2), BasicBlock(32, 32), nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).flatten(1))

def build():
    return ResNet()

def plain(picture):
    return torch.from_numpy(np.asarray(picture, dtype="float32").transpose(2, 0, 1) / 255)

def normalised(picture):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ({mean}, {std}))
    return (plain(picture) - mean) / std

transform = {transform}
"""


def built() -> nn.Module:
    """A small network with blocks of a ResNet, as the model's file makes it."""
    names: dict[str, object] = {}
    exec(MODEL.format(mean=IMAGENET_MEAN, std=IMAGENET_STD, transform="plain"), names)
    net = names["build"]()  # type: ignore[operator]
    assert isinstance(net, nn.Module)
    return net


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tinted digits, a ResNet trained on them with ImageNet's normalisation, and the same with its classes shuffled."""
    root = tmp_path_factory.mktemp("resnet")
    digits = load_digits()
    pixels, labels = [], []
    for number, (image, target) in enumerate(zip(digits.images, digits.target, strict=True)):
        if target >= len(NAMES) or number > 700:
            continue
        grey = np.asarray(Image.fromarray((image * 15.9).astype(np.uint8)).resize((24, 24)), dtype=np.float32) / 255
        rgb = np.stack([grey, grey * 0.7, 1 - grey], axis=-1)
        folder = root / "data" / NAMES[target]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((rgb * 255).astype(np.uint8)).save(folder / f"{number:04}.png")
        pixels.append(rgb.transpose(2, 0, 1))
        labels.append(target)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    x, y = (torch.tensor(np.array(pixels)) - mean) / std, torch.tensor(labels)
    torch.manual_seed(0)
    net = built()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(6):
        for part in torch.randperm(len(y)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimizer.step()
    state = net.state_dict()
    torch.save(state, root / "trained.pt")
    shuffled = state | {name: state[name][torch.tensor(ORDER)] for name in ("fc.weight", "fc.bias")}
    torch.save(shuffled, root / "shuffled.pt")
    for transform in ("plain", "normalised"):
        (root / f"{transform}.py").write_text(MODEL.format(mean=IMAGENET_MEAN, std=IMAGENET_STD, transform=transform))
    return root


def scan(trained: Path, model: str, weights: str, *more: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        return CliRunner().invoke(main, ["scan", "data", "--model", f"{model}.py:build", "--weights", f"{weights}.pt",
                                         "--params", "head", "--db", f"{model}-{weights}.db", *more])  # fmt: skip


def report(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    told: dict[str, object] = json.loads(result.stdout)
    return told


def test_a_sound_model_is_not_doubted(trained: Path) -> None:
    told = report(scan(trained, "normalised", "trained", "-f", "json"))
    assert told["warnings"] == []
    assert told["accuracy_head"] > 0.95


def test_another_class_order_is_named_and_mended_by_the_option_it_names(trained: Path) -> None:
    told = report(scan(trained, "normalised", "shuffled", "-f", "json"))
    [warning] = told["warnings"]
    wanted = ",".join(NAMES[place] for place in ORDER)
    assert f"--classes {wanted}" in warning
    assert told["accuracy_head"] < 0.1
    # no score rests on the wrong classes
    assert {receipt["parameters"] for receipt in told["receipts"]} == {"probe", "11 experts"}
    mended = report(scan(trained, "normalised", "shuffled", "--classes", wanted, "-f", "json"))
    assert mended["warnings"] == []
    assert mended["accuracy_head"] > 0.95


def test_influence_through_wrong_classes_is_refused(trained: Path) -> None:
    result = scan(trained, "normalised", "shuffled", "--params", "all")
    assert result.exit_code == 2
    assert "fit the labels in another order of the classes" in result.output


def test_a_missing_normalisation_is_named(trained: Path) -> None:
    result = scan(trained, "plain", "trained")
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    assert "! warning: the inputs do not seem to be prepared as in training" in shown
    assert "normalised with ImageNet's mean and standard deviation" in shown


def test_another_size_of_the_pictures_is_named(trained: Path) -> None:
    code = (trained / "normalised.py").read_text()
    (trained / "large.py").write_text(code.replace("np.asarray(picture,", "np.asarray(picture.resize((64, 64)),"))
    [warning] = report(scan(trained, "large", "trained", "-f", "json"))["warnings"]
    assert "at 28x28 pixels" in warning or "at 32x32 pixels" in warning
    assert "--model-arg size=N" in warning
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        words = ["doctor", "data", "--model", "large.py:build", "--weights", "trained.pt"]
        told = CliRunner().invoke(main, words).stdout
    assert "more right   at 28x28 pixels: " in told or "more right   at 32x32 pixels: " in told


class Rows:
    """200 grey pictures, the lighter half of another class, as `better_preparation` asks for them."""

    labels = (torch.arange(200) >= 100).long()

    def __len__(self) -> int:
        return 200

    @property
    def inputs(self) -> "Rows":
        return self

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows / 200)[:, None, None, None].expand(-1, 3, 48, 48)


def test_a_size_that_the_network_refuses_ends_no_search() -> None:
    tried = set()

    def network(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tried.add(x.shape[-1])
        if x.shape[-1] < 40:
            raise ModelError("the model failed on a batch")
        return x, nn.functional.one_hot((x.mean((1, 2, 3)) > 1).long(), 2).float()

    found = inspect.unwrap(better_preparation)(network, Rows())  # stand-ins are no Network and no Forward
    assert tried == {48, 32, 28}
    assert found is not None
    assert found[0] == "normalised with ImageNet's mean and standard deviation"


def test_weights_of_another_training_are_doubted(trained: Path) -> None:
    torch.manual_seed(1)
    torch.save(built().state_dict(), trained / "other.pt")
    [warning] = report(scan(trained, "normalised", "other", "-f", "json"))["warnings"]
    assert "a probe on the same features" in warning


class TestOtherOrder:
    @given(st.permutations(range(6)), st.floats(0, 0.4), st.integers(0, 9))
    def test_the_order_is_found_under_noise_and_never_made_up(self, order: list[int], noise: float, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        truth = torch.randint(0, 6, (600,), generator=draw)
        wrong = torch.rand(600, generator=draw) < noise
        given_labels = torch.where(wrong, torch.randint(0, 6, (600,), generator=draw), truth)
        outputs = torch.tensor(order).argsort()[truth]  # output j stands for class order[j]
        found = other_order(nn.functional.one_hot(outputs, 6).float(), given_labels, list("abcdef"))
        if list(order) == list(range(6)):
            assert found is None
        else:
            assert found is not None
            assert found.classes == tuple("abcdef"[place] for place in order)

    def test_two_classes_that_changed_places(self) -> None:
        truth = torch.arange(1000) % 10
        outputs = truth.clone()
        outputs[truth == 3], outputs[truth == 5] = 5, 3
        found = other_order(nn.functional.one_hot(outputs, 10).float(), truth, [str(k) for k in range(10)])
        assert found is not None
        assert found.classes == ("0", "1", "2", "5", "4", "3", "6", "7", "8", "9")
        assert (found.before, found.after) == (0.8, 1.0)

    @pytest.mark.parametrize("classes", [2, 10, 50])
    def test_guessing_is_no_order(self, classes: int) -> None:
        draw = torch.Generator().manual_seed(classes)
        logits = torch.randn(300, classes, generator=draw)
        labels = torch.randint(0, classes, (300,), generator=draw)
        assert other_order(logits, labels, [str(k) for k in range(classes)]) is None

    def test_names_with_spaces_are_quoted(self) -> None:
        truth = torch.arange(100) % 2
        found = other_order(nn.functional.one_hot(1 - truth, 2).float(), truth, ["a b", "c"])
        assert str(found).endswith("--classes 'c,a b'")
