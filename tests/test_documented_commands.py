"""Every command that README and the pages show is run, in a folder that holds what it names.

A scan is run up to its first row (`--dry-run`): its data are listed, its model is built and takes its weights. What
asks for a terminal, a browser or minutes of refits is read by its parser alone, and so is a model of timm or of the
hub, whose files are not at hand, and a ResNet, whose plan takes half a minute.
"""

import contextlib
import json
import re
import shlex
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from command import curate
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from curate.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
LINE = re.compile(r"^(?:\$ |- |.*&& )?curate ([a-z][a-z-]*(?: .*)?)$")
STARTED = (["init", "photos"], ["scan"])
KEYS = {"KEY": "train/trouser/0022.png"}
CLASSES = ("dress", "shirt", "trouser")
READ_ALONE = {"review", "serve", "verify", "retrain-check", "perturb"}
NOT_AT_HAND = ("hf:", "timm:", "torchvision:CIFAR10", "torchvision:resnet18")
CODE = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))

def make_data():
    draw = torch.Generator().manual_seed(0)
    return torch.utils.data.TensorDataset(torch.randn(60, 4, generator=draw), torch.arange(60) % 3)

def fit(data, seed):
    return Net()
"""


def commands(page: Path) -> list[list[str]]:
    """The arguments of each command in the blocks of code of a page."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = [LINE.match(line.strip()) for block in blocks for line in block.splitlines()]
    return [shlex.split(line[1], comments=True) for line in lines if line is not None]


SHOWN = {" ".join(line): line for page in PAGES for line in commands(page)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files that the pages name, and one finished scan of its pictures."""
    home = tmp_path_factory.mktemp("world")
    draw = np.random.default_rng(0)
    _pictures(home / "photos", draw)
    for name in ("net.py", "train.py"):
        (home / name).write_text(CODE)
    _tables(home, draw)
    shutil.copytree(ROOT / "fixtures" / "fashion", home / "fixtures" / "fashion")
    (home / "data" / "FashionMNIST" / "raw").mkdir(parents=True)
    _started(home / "started", draw)
    shutil.copytree(home / "photos" / "train", home / "flowers5")
    for file in sorted((home / "photos").rglob("*.png")):
        scan = home / "scans" / file.parent.relative_to(home / "photos") / f"patient{file.stem}.png"
        scan.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, scan)
    _roses(home / "roses", draw)
    _scanned(home)
    for part, count in (("train", 60), ("t10k", 30)):
        raw = home / "data" / "FashionMNIST" / "raw"
        _idx(raw / f"{part}-images-idx3-ubyte", draw.integers(0, 256, (count, 28, 28)))
        _idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return home


def _pictures(to: Path, draw: np.random.Generator) -> None:
    for split, count in (("train", 50), ("val", 5)):
        for number, name in enumerate(CLASSES):
            (to / split / name).mkdir(parents=True)
            for place in range(count):
                pixels = draw.integers(0, 40, (28, 28, 3)) + 100 * number
                Image.fromarray(pixels.astype(np.uint8)).save(to / split / name / f"{place:04}.png")


def _started(to: Path, draw: np.random.Generator) -> None:
    """Pictures, a model and its weights, as `init` finds them."""
    _pictures(to / "photos", draw)
    (to / "net.py").write_text(CODE)
    scope: dict[str, object] = {}
    exec(CODE, scope)
    torch.save(scope["build"]().state_dict(), to / "best.pt")  # type: ignore[operator]


def _roses(to: Path, draw: np.random.Generator) -> None:
    """Pictures of which two are one, looked at without a model."""
    for place in range(24):
        (to / "flowers" / ("rose", "tulip")[place % 2]).mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(draw.integers(0, 256, (8, 8, 3)).astype(np.uint8))
        small.resize((96, 96)).save(to / "flowers" / ("rose", "tulip")[place % 2] / f"{place // 2}.jpg")
    Image.open(to / "flowers" / "rose" / "1.jpg").save(to / "flowers" / "rose" / "copy of 1.jpg", quality=60)
    with contextlib.chdir(to):
        curate("scan", "flowers")


def _scanned(home: Path) -> None:
    """A scan with findings of the kind that the pages mark: two dresses lie among the trousers."""
    for place in range(20, 22):
        picture = home / "photos" / "train" / "dress" / f"{place:04}.png"
        picture.replace(home / "photos" / "train" / "trouser" / f"dress {place}.png")
    with contextlib.chdir(home):
        line = ["scan", "photos", "--model", "net.py:build", "--weights", "best.pt", "--params", "head"]
        _checkpoint(line, "net.py:build")
        curate(*line)


def _idx(to: Path, values: np.ndarray) -> None:
    """A file as MNIST's are."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    to.write_bytes(head + values.astype(np.uint8).tobytes())


def _tables(home: Path, draw: np.random.Generator) -> None:
    rows = [(f"row {place} of {CLASSES[place % 3]}", CLASSES[place % 3], place) for place in range(60)]
    _csv(home / "data" / "tickets.csv", ["text", "intent"], [(text, label) for text, label, _ in rows])
    _csv(home / "reviews.csv", ["text", "sentiment"], [(text, label) for text, label, _ in rows])
    people = [(f"{draw.normal():.3f}", ("north", "south")[n % 2], label) for _, label, n in rows]
    _csv(home / "customers.csv", ["spent", "region", "churned"], people)
    _csv(home / "held-out.csv", ["spent", "region", "churned"], people[::-1][:30])
    visits = [(f"p{n // 3}", f"{draw.normal():.3f}", label) for _, label, n in rows]
    _csv(home / "visits.csv", ["patient", "dose", "label"], visits)
    _csv(home / "later-visits.csv", ["patient", "dose", "label"], visits[::-1][:30])
    (home / "measured.csv").write_text("\n".join(f"{n},{n % 3},{label}" for _, label, n in rows) + "\n")
    files = [(f"photos/train/{name}/{place:04}.png", name) for name in CLASSES for place in range(20)]
    _csv(home / "pictures.csv", ["file", "label"], files)
    parts = [{"text": text, "label": label, "part": ("train", "val")[n % 4 == 0]} for text, label, n in rows]
    (home / "intents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in parts))
    (home / "keys.txt").write_text("val/shirt/0003.png\nval/dress/0001.png\n")
    numbers = draw.normal(size=(60, 4)).astype(np.float32)
    for name in ("train", "val"):
        np.savez(home / f"{name}.npz", x=numbers, y=np.arange(60) % 3)
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    for name in ("tickets", "held-out"):
        table = pyarrow.table({"text": [row[0] for row in rows], "intent": [row[1] for row in rows]})
        pyarrow.parquet.write_table(table, home / f"{name}.parquet")


def _csv(to: Path, names: list[str], rows: list[tuple[str, ...]]) -> None:
    to.parent.mkdir(exist_ok=True)
    to.write_text("\n".join([",".join(names), *(",".join(row) for row in rows)]) + "\n")


def _checkpoint(line: list[str], model: str) -> None:
    """Weights of this very model under the name that the line gives: the pages have one name for many models."""
    torch.manual_seed(0)
    file, _, name = model.partition(":")
    scope: dict[str, object] = {}
    exec(Path(file).read_text(), scope)
    built: nn.Module = scope[name]()  # type: ignore[operator]
    to = Path(line[line.index("--weights") + 1])
    torch.save(built.state_dict(), to) if to.suffix == ".pt" else save_file(built.state_dict(), to)


def _answered(to: Path) -> None:
    """The tasks of Label Studio as it exports them after somebody skipped each."""
    curate("export", "-f", "label-studio:out.json")
    tasks = json.loads(Path("out.json").read_text())
    skipped = {"id": 1, "completed_by": 3, "was_cancelled": True, "result": [], "updated_at": "2026-01-31T10:00:00Z"}
    to.write_text(json.dumps([{**task, "id": 7, "annotations": [skipped]} for task in tasks]))


def test_the_pages_show_commands() -> None:
    assert len(SHOWN) > 50


@pytest.mark.parametrize("line", SHOWN.values(), ids=SHOWN)
def test_a_command_that_is_shown_runs(world: Path, line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world / ("roses" if "--cluster" in line else "started" if line in STARTED else "."))
    _parsed(line)
    if line[0] in READ_ALONE or any(word.startswith(NOT_AT_HAND) for word in line):
        return
    if any(word.endswith(".parquet") and not Path(word).exists() for word in line):
        pytest.skip("pyarrow is not installed")
    if line[0] == "export":
        for made in map(Path, ("cleaned", "tasks.json", "tasks.xml")):
            shutil.rmtree(made, ignore_errors=True) if made.is_dir() else made.unlink(missing_ok=True)
    elif line[0] == "init":
        Path("curate.toml").unlink(missing_ok=True)
    elif line in STARTED and not Path("curate.toml").exists():
        curate(*STARTED[0])
    elif "--undo" in line:
        curate("mark", "--flagged", "mislabeled", "-v", "unsure", status=None)  # none is left if all are marked
    elif "--from" in line:
        _answered(Path(line[-1]))
    elif "--plan" in line:
        curate(*next(shown for shown in SHOWN.values() if shown[0] == "plan"))
    if line[0] == "scan":
        if "--weights" in line:
            _checkpoint(line, line[line.index("--model") + 1])
        curate(*line, *([] if "--shard" in line else ["--dry-run"]))
    else:
        curate(*[KEYS.get(word, word) for word in line])


def _parsed(line: list[str]) -> None:
    """Raises click's own error if the command does not take these arguments."""
    command = main.get_command(click.Context(main), line[0])
    assert command is not None, f"curate has no command {line[0]}"
    command.make_context(line[0], list(line[1:]))
