"""`torchvision:`: both parts at once, pictures as they are, and what is said where the files are not there."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from torchvision import datasets

from curate.cli import main
from curate.errors import CurateError, DataError, UsageError
from curate.sources import open_source, torchvision_data

NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]

MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
"""


def idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + array.tobytes())
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(head + array.tobytes())


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fashion(root: Path, seed: int = 0) -> None:
    """Fashion-MNIST's layout with fewer rows: the label can be read off the brightness."""
    draw = np.random.default_rng(seed)
    for part, count in (("train", 60), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = draw.integers(0, 20, (count, 28, 28)) + 20 * labels[:, None, None]
        idx(root / f"FashionMNIST/raw/{part}-images-idx3-ubyte", pixels.astype(np.uint8))
        idx(root / f"FashionMNIST/raw/{part}-labels-idx1-ubyte", labels)


class TestSets:
    def test_training_and_evaluation_rows_at_once(self, cwd: Path) -> None:
        fashion(cwd / "data")
        train, held_out = open_source("torchvision:FashionMNIST")
        assert held_out is not None
        assert (len(train), len(held_out)) == (60, 20)
        assert train.classes == held_out.classes == NAMES
        assert train.label_texts[3] == "Dress"
        assert (train.kind, train.media, train.name, train.location) == (
            "torchvision", "image", "FashionMNIST", "torchvision:FashionMNIST",
        )  # fmt: skip
        assert held_out.name == train.name
        row = train.read(0).decode()
        assert isinstance(row, Image.Image)
        assert (row.mode, row.size) == ("RGB", (28, 28))
        assert len({*train.keys, *held_out.keys}) == 80

    def test_the_folder_may_be_named_and_eval_means_the_evaluation_rows(self, cwd: Path) -> None:
        fashion(cwd / "elsewhere")
        train, _ = open_source(f"torchvision:FashionMNIST:{cwd}/elsewhere", name="mine")
        assert train.name == "mine"
        rows, none = open_source("torchvision:FashionMNIST:elsewhere", classes=train.classes, evaluation=True)
        assert (len(rows), none) == (20, None)

    def test_other_names_for_the_classes(self, cwd: Path) -> None:
        fashion(cwd / "data")
        other = [f"garment {number}" for number in range(10)]
        train, held_out = open_source("torchvision:FashionMNIST", classes=other)
        assert held_out is not None
        assert train.label_texts[3] == held_out.label_texts[3] == "garment 3"

    def test_a_set_without_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Few(datasets.FakeData):
            def __init__(self) -> None:
                super().__init__(size=12, image_size=(3, 6, 5), num_classes=3)

        monkeypatch.setattr(datasets, "FakeData", Few)
        train, held_out = open_source("torchvision:FakeData")
        assert held_out is None
        assert (len(train), train.media, train.read(0).decode().size) == (12, "image", (5, 6))
        assert open_source("torchvision:FakeData")[0].keys == train.keys

    def test_evaluation_rows_that_are_not_there_are_a_note(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Halves(datasets.FakeData):
            def __init__(self, root: str, split: str = "train", download: bool = True) -> None:
                assert not download
                if split == "test":
                    raise RuntimeError("Dataset not found. You can use download=True to download it")
                super().__init__(size=12, image_size=(3, 6, 5), num_classes=3)

        monkeypatch.setattr(datasets, "SVHN", Halves)
        train, held_out = open_source("torchvision:SVHN")
        assert held_out is None
        assert "no evaluation rows of SVHN were found in data" in train.notes[0]
        assert "SVHN('data', split='test', download=True)" in train.notes[0]

    def test_every_set_is_one_of_torchvision_and_takes_its_part(self) -> None:
        for name, parts in torchvision_data.PARTS.items():
            takes = torchvision_data._takes(getattr(datasets, name))
            assert {key for part in parts if part for key in part} <= takes, name


def test_a_scan(cwd: Path) -> None:
    fashion(cwd / "data")
    (cwd / "model.py").write_text(MODEL)
    result = CliRunner().invoke(main, ["scan", "torchvision:FashionMNIST", "--model", "model.py:build"])
    assert result.exit_code == 0, result.output
    assert "60 training rows in 10 classes and 20 evaluation rows" in result.output


class TestMessages:
    def check(self, spec: str, kind: type[CurateError], *words: str, **options: object) -> None:
        with pytest.raises(kind) as caught:
            open_source(spec, **options)  # type: ignore[arg-type]
        said = str(caught.value)
        assert all(word in said for word in words), said
        assert said.count("\n") <= 1
        assert caught.value.exit_status == 2

    def test_names(self) -> None:
        self.check("torchvision:FashonMNIST", DataError, "There is no", "Did you mean FashionMNIST")
        self.check("torchvision:cifar-100", DataError, "Did you mean CIFAR100?")
        self.check("torchvision:zzz", DataError, "The sets are CIFAR10, CIFAR100")

    @pytest.mark.parametrize("name", ["CocoDetection", "VOCSegmentation", "CocoCaptions", "CelebA", "Kinetics"])
    def test_sets_that_are_no_classification(self, name: str) -> None:
        self.check(f"torchvision:{name}", DataError, name, "one class for each row")

    def test_folders_have_a_kind_of_their_own(self) -> None:
        self.check("torchvision:ImageFolder:pets", UsageError, "images:FOLDER")

    def test_missing_files(self, cwd: Path) -> None:
        self.check(
            "torchvision:FashionMNIST:nowhere", DataError, "not found in the folder nowhere",
            "torchvision.datasets.FashionMNIST('nowhere', train=True, download=True)",
        )  # fmt: skip
        assert not (cwd / "nowhere").exists()
        self.check("torchvision:CIFAR10", DataError, "in the folder data", "CIFAR10('data', train=True, download=True)")
        self.check("torchvision:ImageNet", DataError, "cannot download ImageNet")

    def test_a_package_that_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Needy:
            def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
                raise RuntimeError("h5py is not found. This dataset needs to have h5py installed")

        monkeypatch.setattr(datasets, "PCAM", Needy)
        self.check("torchvision:PCAM", DataError, "cannot be read: h5py", "Install what it names.")

    def test_options_of_other_kinds(self) -> None:
        self.check("torchvision:MNIST", UsageError, "--label has no meaning", label="y")
        self.check("torchvision:MNIST", UsageError, "--split is of tables", split="s")
