"""`curate init` through its real entry point: what it writes for each kind of folder, and that a scan takes it."""

import tomllib
from functools import partial
from pathlib import Path

import command
import numpy as np
import pytest
import torch
import torchvision
from click.testing import Result
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from curate.onboarding.init.code import find_makers
from curate.onboarding.init.found import Discovery
from curate.onboarding.init.text import file_text, toml

NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()

class Net(nn.Module):
    def __init__(self, num_classes{default}):
        super().__init__()
        self.block = Block(3)
        self.fc = nn.Linear({inputs}, num_classes)

    def forward(self, x):
        return self.fc(x.flatten(1))
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


curate = partial(command.curate, status=None)


def init(*arguments: object, status: int = 0) -> Result:
    result = curate("init", *arguments)
    assert result.exit_code == status, result.output
    return result


def written(folder: Path) -> dict:
    return tomllib.loads((folder / "curate.toml").read_text())


def scanned(folder: object, said: str, *more: object) -> None:
    """The promise: what was written works with `curate scan FOLDER`."""
    result = curate("scan", folder, "--db", "c.db", *more)
    assert result.exit_code == 0, result.output
    assert said in result.output


def pictures(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6, size: int = 4) -> None:
    draw = np.random.default_rng(len(folder.as_posix()))
    for shade, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = draw.integers(0, 100, (size, size, 3)) + 50 * shade
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


def table(path: Path, label: str, rows: int = 30, seed: int = 0) -> None:
    draw = np.random.default_rng(seed)
    lines = [f"{draw.normal() + row % 2:.3f},{draw.normal():.3f},{'ab'[row % 2]}" for row in range(rows)]
    path.write_text("\n".join([f"p,q,{label}", *lines]))


def linear(path: Path, inputs: int, outputs: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_file(nn.Linear(inputs, outputs).state_dict() | {}, path)


def net_weights(path: Path, inputs: int, outputs: int) -> None:
    linear(path, inputs, outputs)
    torch.manual_seed(0)
    save_file({f"fc.{name}": tensor for name, tensor in nn.Linear(inputs, outputs).state_dict().items()}, path)


# The data


def test_class_folders_with_code_and_weights(here: Path) -> None:
    pictures(here / "photos")
    (here / "photos" / "model.py").write_text(NET.format(default="", inputs=48))
    net_weights(here / "photos" / "checkpoints" / "best.safetensors", 48, 2)
    net_weights(here / "photos" / "checkpoints" / "last.safetensors", 48, 2)
    (here / "photos" / "checkpoints" / "optimizer.pt").write_bytes(b"no weights")
    result = init("photos")
    assert written(here / "photos") == {
        "train": ".",
        "model": "model.py:Net",
        "model-arg": {"num_classes": 2},
        "weights": "checkpoints/best.safetensors",
    }
    assert "guessed  weights" in result.stdout
    assert "also there: checkpoints/last.safetensors" in result.stdout
    assert "optimizer" not in (here / "photos" / "curate.toml").read_text()
    assert result.stdout.endswith("next: curate scan photos\n")
    scanned("photos", "12 training rows in 2 classes")


def test_the_current_folder_is_the_default(here: Path) -> None:
    table(here / "rows.csv", "label")
    assert init().stdout.endswith("next: curate scan\n")
    result = curate("scan", "--db", "c.db")
    assert result.exit_code == 0, result.output


def test_train_and_val_folders(here: Path) -> None:
    pictures(here / "d" / "train")
    pictures(here / "d" / "val", count=3)
    (here / "d" / "net.py").write_text(NET.format(default="=2", inputs=48))
    init("d")
    assert written(here / "d") == {"train": ".", "model": "net.py:Net"}
    scanned("d", "12 training rows in 2 classes and 6 evaluation rows")


def test_a_split_that_is_called_otherwise(here: Path) -> None:
    pictures(here / "d" / "train")
    pictures(here / "d" / "validation", count=3)
    (here / "d" / "net.py").write_text(NET.format(default="=2", inputs=48))
    init("d")
    assert written(here / "d") == {"train": ".", "model": "net.py:Net"}
    scanned("d", "12 training rows in 2 classes and 6 evaluation rows")


def test_class_folders_below(here: Path) -> None:
    pictures(here / "d" / "images")
    (here / "d" / "docs").mkdir()
    Image.new("RGB", (2, 2)).save(here / "d" / "docs" / "figure.png")
    init("d")
    assert written(here) == {"train": "d/images"}


def test_a_table_with_a_usual_label(here: Path) -> None:
    (here / "d").mkdir()
    table(here / "d" / "train.csv", "Target")
    table(here / "d" / "test.csv", "Target", seed=1)
    table(here / "d" / "other.csv", "Target", seed=2)
    result = init("d")
    assert written(here) == {"train": "d/train.csv", "eval": "d/test.csv", "label": "Target"}
    assert "found    label" in result.stdout
    assert "also there: other.csv" in result.stdout
    scanned(".", "30 training rows in 2 classes and 30 evaluation rows")


def test_a_table_without_a_usual_label(here: Path) -> None:
    table(here / "rows.csv", "kind")
    result = init()
    assert written(here) == {"train": "rows.csv", "label": "kind"}
    assert 'guessed  label = "kind"  (the last column, none has a usual name; columns: p, q, kind)' in result.stdout
    assert "# A guess: the last column" in (here / "curate.toml").read_text()
    scanned(".", "30 training rows in 2 classes")


def test_a_table_without_a_header(here: Path) -> None:
    (here / "iris.csv").write_text("\n".join(f"{row % 7}.5,{row % 5}.25,{'ab'[row % 2]}" for row in range(30)))
    init()
    assert written(here) == {"train": "iris.csv", "label": -1, "header": False}
    scanned(".", "30 training rows in 2 classes")


def test_a_label_that_was_named(here: Path) -> None:
    (here / "rows.csv").write_text("\n".join(["kind,p", *(f"{'ab'[row % 2]},{row}.5" for row in range(30))]))
    init("--label", "kind")
    assert written(here)["label"] == "kind"


def test_a_guess_that_is_wrong_is_switched_off(here: Path) -> None:
    (here / "rows.csv").write_text("\n".join(["kind,p", *(f"{'ab'[row % 2]},{row}.5" for row in range(30))]))
    result = init(status=2)
    text = (here / "curate.toml").read_text()
    assert written(here) == {"train": "rows.csv"}
    assert '# label = "p"' in text
    assert "# Switched off, it did not work: rows.csv: 'p' holds numbers that are not whole" in text
    assert "FAILED: data" in result.stdout
    assert "off      label" in result.stdout


def test_an_evaluation_set_that_does_not_fit_is_switched_off(here: Path) -> None:
    table(here / "train.csv", "label")
    (here / "val.csv").write_text("a,b\n1,2\n")
    init(status=2)
    assert written(here) == {"train": "train.csv", "label": "label"}
    assert '# eval = "val.csv"' in (here / "curate.toml").read_text()


def test_arrays_with_usual_and_unusual_names(here: Path) -> None:
    draw = np.random.default_rng(0)
    rows, labels = draw.normal(size=(30, 3)), np.arange(30) % 3
    (here / "a").mkdir()
    (here / "b").mkdir()
    np.savez(here / "a" / "set.npz", x=rows, y=labels)
    np.savez(here / "b" / "set.npz", x_train=rows, y_train=labels, number=np.arange(30))
    init("a")
    assert written(here) == {"train": "a/set.npz"}
    scanned(".", "30 training rows in 3 classes")
    init("b", "--force")
    assert written(here) == {"train": "b/set.npz", "input": "x_train", "label": "y_train"}
    scanned(".", "30 training rows in 3 classes")


def test_a_folder_with_nothing_in_it(here: Path) -> None:
    result = init(status=2)
    assert "holds no data" in result.stderr
    assert list(here.iterdir()) == []


def test_a_folder_that_is_none(here: Path) -> None:
    (here / "file").write_text("")
    refused = init("file", status=2).stderr
    assert "file is a file" in refused
    assert "curate scan file" in refused
    assert "nothing is not there" in init("nothing", status=2).stderr


# The file


def test_a_file_that_is_there_stays_without_force(here: Path) -> None:
    table(here / "rows.csv", "label")
    (here / "curate.toml").write_text("seed = 3\n")
    result = init(status=2)
    assert result.stderr == "curate: error: There is a curate.toml already.\nGive --force to write it anew.\n"
    assert (here / "curate.toml").read_text() == "seed = 3\n"
    init("--force")
    assert written(here)["train"] == "rows.csv"


def test_the_file_holds_what_was_found_and_says_where_the_rest_is_told(here: Path) -> None:
    table(here / "rows.csv", "label")
    init()
    text = (here / "curate.toml").read_text()
    assert {line.partition(" ")[0] for line in text.splitlines() if line and line[0] != "#"} == {"train", "label"}
    assert "docs/reference/commands.md" in text
    assert "# Found: " in text
    assert max(map(len, text.splitlines())) <= 120


def test_what_was_left_alone_is_told_without_a_setting() -> None:
    found = Discovery()
    found.remark("model", "train.py:Net was left alone\nseed = 3")
    text = file_text(found)
    assert tomllib.loads(text) == {}
    assert "# model: train.py:Net was left alone" in text


@pytest.mark.parametrize("value", ['a "b"\\c', "ü\n\t", "\x7f", -1, 0.5, True, ["a", "b"], {"n": 2, "s": "x"}])
def test_values_as_toml(value: object) -> None:
    assert tomllib.loads(f"v = {toml(value)}") == {"v": value}


# The model


def test_pictures_without_a_model_are_told_what_is_missing(here: Path) -> None:
    pictures(here / "photos")
    result = init("photos")
    assert written(here) == {"train": "photos"}
    assert "missing: a model" in result.stdout
    assert "next: curate init photos --force --model FILE.py:NAME" in result.stdout


def test_model_and_weights_that_were_named(here: Path) -> None:
    pictures(here / "photos")
    (here / "code.py").write_text(
        "from torch import nn\ndef f(): return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))\n"
    )
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).state_dict(), here / "w.pt")
    init("photos", "--model", "code.py:f", "--weights", "w.pt")
    assert written(here) == {"train": "photos", "model": "code.py:f", "weights": "w.pt"}
    scanned(".", "12 training rows in 2 classes")


@pytest.mark.parametrize("place", [".", "project"])
@pytest.mark.parametrize("deep", ["photos", "data/photos"])
def test_code_and_weights_beside_or_above_the_data(here: Path, place: str, deep: str) -> None:
    """The layout of every tutorial: train.py, net.py and best.pt around the pictures. The data stays as it is."""
    project = here / place
    data = project / deep
    pictures(data)
    (project / "net.py").write_text(NET.format(default="=2", inputs=48))
    (project / "train.py").write_text("from net import Net\nfor epoch in range(9):\n    print(epoch)\n")
    net_weights(project / "best.safetensors", 48, 2)
    before = sorted(data.rglob("*"))
    result = init(data.relative_to(here))
    assert written(project) == {"train": deep, "model": "net.py:Net", "weights": "best.safetensors"}
    assert result.stdout.endswith(f"next: curate scan{'' if place == '.' else ' project'}\n")
    assert sorted(data.rglob("*")) == before
    assert len((project / "curate.toml").read_text().splitlines()) <= 15
    scanned(place, "12 training rows in 2 classes")


def test_data_elsewhere_is_named_from_here(here: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere")
    (here / "net.py").write_text(NET.format(default="=2", inputs=48))
    init(tmp_path / "elsewhere")
    assert written(here) == {"train": "../elsewhere", "model": "net.py:Net"}
    assert not list((tmp_path / "elsewhere").glob("*.toml"))
    scanned(".", "12 training rows in 2 classes")


def test_a_default_that_is_not_the_datas_is_set_right(here: Path) -> None:
    pictures(here / "photos", classes=("a", "b", "c"))
    (here / "photos" / "net.py").write_text(NET.format(default="=10", inputs=48))
    net_weights(here / "photos" / "w.safetensors", 48, 3)
    init("photos")
    assert written(here / "photos")["model-arg"] == {"num_classes": 3}


def test_a_model_that_does_not_work_is_switched_off(here: Path) -> None:
    pictures(here / "photos")
    (here / "photos" / "net.py").write_text(NET.format(default="=2", inputs=7))
    result = init("photos", status=2)
    assert written(here / "photos") == {"train": "."}
    text = (here / "photos" / "curate.toml").read_text()
    assert '# model = "net.py:Net"' in text
    assert "# Switched off, it did not work: the model failed on a batch of shape" in text
    assert "FAILED: rows" in result.stdout
    assert "curate doctor photos" in result.stdout


def test_code_is_read_and_what_works_when_imported_is_left_alone(here: Path) -> None:
    pictures(here / "photos")
    touched = here / "touched"
    (here / "photos" / "train.py").write_text(
        NET.format(default="=2", inputs=48) + f"\nfor name in ['x']:\n    open({str(touched)!r}, 'w').close()\n"
    )
    result = init("photos")
    assert not touched.exists()
    assert "train.py:Net was left alone: importing train.py runs its line 18" in result.stdout
    assert "missing: a model" in result.stdout


def test_code_outside_of_the_current_folder_is_not_run(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    pictures(outside)
    touched = tmp_path / "touched"
    code = NET.format(default="=2", inputs=48) + f"\nfile = open({str(touched)!r}, 'w')\nfile = file.close()\n"
    (outside / "net.py").write_text(code)
    result = init("../outside")
    assert not touched.exists()
    assert written(outside)["model"] == "net.py:Net"
    assert "outside of the current folder" in result.stdout
    assert "next: curate doctor ../outside --config ../outside/curate.toml" in result.stdout
    assert curate("scan", "../outside", "--db", "c.db").exit_code == 2
    scanned("../outside", "12 training rows", "--config", "../outside/curate.toml")


def test_makers_are_ranked(here: Path) -> None:
    (here / "things.py").write_text(
        "import torchvision\nfrom torch import nn\nfrom torchvision import models\n"
        "class Head(nn.Module): pass\n"
        "class Base(nn.Module):\n    def __init__(self, width): self.head = Head()\n"
        "class Big(Base): pass\n"
        "def helper(x): return x\n"
        "def _hidden() -> nn.Module: ...\n"
        "def annotated(size) -> 'nn.Module': ...\n"
        "def build():\n    net = models.resnet18()\n    net.fc = nn.Linear(512, 2)\n    return net\n"
        "net_object = nn.Sequential(nn.Linear(2, 2))\n"
    )
    (here / "broken.py").write_text("def (")
    names = [maker.name for maker in find_makers(here)]
    assert names[0] == "build"
    assert set(names) == {"build", "annotated", "Big", "Base", "Head", "net_object"}
    assert names.index("Big") < names.index("Head")


# Checkpoints of known networks


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few networks are known: test_recognise.py asks all of them."""
    few = ["mobilenet_v3_large", "mobilenet_v3_small", "shufflenet_v2_x0_5"]
    monkeypatch.setattr(torchvision.models, "list_models", lambda **_: few)


def test_a_checkpoint_of_a_known_network(here: Path, known: None) -> None:
    pictures(here / "photos", count=5, size=32)
    state = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=2).state_dict()
    lightning = {"epoch": 3, "state_dict": {f"model.{name}": tensor for name, tensor in state.items()}}
    torch.save(lightning, here / "photos" / "epoch=3.ckpt")
    result = init("photos")
    text = (here / "photos" / "curate.toml").read_text()
    assert 'guessed  model = "torchvision:shufflenet_v2_x0_5"' in result.stdout
    assert "2 outputs. Pictures are prepared as torchvision does" in " ".join(text.replace("\n# ", " ").split())
    assert written(here / "photos") == {
        "train": ".",
        "model": "torchvision:shufflenet_v2_x0_5",
        "weights": "epoch=3.ckpt",
    }
    scanned("photos", "10 training rows in 2 classes", "--params", "head")


def test_a_known_body_with_another_head(here: Path, known: None) -> None:
    pictures(here / "photos")
    module = torchvision.models.mobilenet_v3_small(weights=None)
    module.classifier = nn.Sequential(nn.Linear(576, 2))
    torch.save(module.state_dict(), here / "photos" / "w.pt")
    result = init("photos")
    assert (
        "w.pt is a mobilenet_v3_small with a head of its own (classifier.0.bias, classifier.0.weight)" in result.stdout
    )
    assert "missing: a model for w.pt" in result.stdout
    assert written(here / "photos") == {"train": "."}


def test_a_checkpoint_that_cannot_be_read(here: Path) -> None:
    pictures(here / "photos")
    (here / "photos" / "w.pt").write_bytes(b"this is no checkpoint")
    result = init("photos")
    assert "missing: a model for w.pt: photos/w.pt is no checkpoint" in result.stdout
    assert written(here / "photos") == {"train": "."}
