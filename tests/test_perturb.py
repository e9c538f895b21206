"""`curate perturb`: the gradient of influence in the input, against differences, and on a planted watermark."""

import csv
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from curate.cli import main
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.perturbation import perturbation

FIXTURES = Path(__file__).parent.parent / "fixtures"
BOX = slice(0, 8)

MODEL = """
import numpy as np
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 196, 2))

def transform(image):
    return torch.from_numpy(np.asarray(image, dtype=np.float32).reshape(28, 28) / 255)[None]
"""


def curate(*arguments: object) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_gradient_is_the_difference_of_influences() -> None:
    """Sign and unit: influence (1/n) u · g of a row whose input moved a little, less that of the row as it is."""
    digits = load_digits(n_class=3)
    x, y = torch.tensor(digits.data[:60] / 16), torch.tensor(digits.target[:60])
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    u = torch.randn(objective.p, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def influence(row: torch.Tensor) -> float:
        rest = module(row[None]).detach().softmax(1) - F.one_hot(y[:1], 3)
        return float(objective.row_gradients(row[None], rest)[0] @ u) / 60

    gradient = perturbation(objective, x[0], int(y[0]), u, 60)
    assert gradient.shape == x[0].shape
    for pixel in (2, 20, 43):
        step = torch.zeros(64, dtype=torch.float64)
        step[pixel] = 1e-5
        assert float(gradient[pixel]) == pytest.approx(
            (influence(x[0] + step) - influence(x[0] - step)) / 2e-5, rel=1e-6
        )


@pytest.fixture(scope="module")
def watermarked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dresses and trousers; in training every pair of trousers carries a white corner, and so do dresses to be judged.

    The network takes the corner for trousers, and the dresses that have one for trousers too.
    """
    folder = tmp_path_factory.mktemp("watermark")
    classes = ("dress", "trouser")
    with (FIXTURES / "fashion" / "flips.csv").open() as file:
        flipped = {row["key"] for row in csv.DictReader(file)}
    images, labels = [], []
    for number, name in enumerate(classes):
        for path in sorted((FIXTURES / "fashion" / "train" / name).glob("*.png")):
            if f"train/{name}/{path.name}" not in flipped:
                images.append(np.asarray(Image.open(path).convert("L")))
                labels.append(number)
    x, y = np.stack(images), np.array(labels)
    marked, asked = np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:20]
    for row in (*marked, *asked):
        x[row, BOX, BOX] = 255
    train = np.setdiff1d(np.arange(len(y)), asked)
    names, keys = np.array(classes), np.array([f"row-{row}" for row in range(len(y))])
    np.savez(folder / "train.npz", x=x[train], y=names[y[train]], id=keys[train])
    np.savez(folder / "eval.npz", x=x[asked], y=names[y[asked]], id=keys[asked])
    (folder / "marked.json").write_text(json.dumps([str(keys[row]) for row in marked]))
    (folder / "model.py").write_text(MODEL)
    scope: dict = {}
    exec(MODEL, scope)
    model = scope["build"]()
    inputs, targets = torch.stack([scope["transform"](image) for image in x[train]]), torch.from_numpy(y[train])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.02)
    for _ in range(120):
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    with torch.no_grad():
        judged = model(torch.stack([scope["transform"](image) for image in x[asked]])).argmax(1)
    assert float((judged == 1).float().mean()) > 0.5  # the mark causes the error
    torch.save(model.state_dict(), folder / "weights.pt")
    (folder / "curate.toml").write_text(
        'train = "train.npz"\neval = "eval.npz"\nid = "id"\nmodel = "model.py:build"\nweights = "weights.pt"\n'
        f"damping = 0.1\nclasses = {json.dumps(classes)}\n"
    )
    return folder


def test_the_watermark_that_causes_the_error_is_highlighted(watermarked: Path, tmp_path: Path) -> None:
    marked = json.loads((watermarked / "marked.json").read_text())
    ratios, influences = [], []
    for key in marked[:5]:
        png = tmp_path / "heat.png"
        found = json.loads(curate("perturb", key, "--config", watermarked / "curate.toml", "--png", png, "-f", "json"))
        influences.append(found["influence"])
        size = np.abs(np.array(found["gradient"]))
        assert size.shape == (1, 28, 28)
        outside = np.ones((28, 28), dtype=bool)
        outside[BOX, BOX] = False
        ratios.append(size[0, BOX, BOX].mean() / size[0, outside].mean())
    assert min(ratios) > 3
    assert min(influences) < 0  # trousers that carry the mark harm the dresses that carry it
    with Image.open(BytesIO(png.read_bytes())) as image:
        assert image.size == (57 * 8, 28 * 8)  # picture, one white column, map
    db = ("--db", tmp_path / "run.db")
    page = curate("perturb", marked[0], "--config", watermarked / "curate.toml", "-f", "html", *db)
    assert page.count("data:image/png;base64,") == 1
    curate("scan", "--config", watermarked / "curate.toml", "--params", "head", "-f", "text", *db)
    page = curate("perturb", marked[0], "--config", watermarked / "curate.toml", "-f", "html", *db)
    assert 'alt="heat map"' in page  # the map in the page of the row
    assert "<h2>Which part of it</h2>" in page
    assert "<h2>Scores</h2>" in page
    assert "the heat map is in" in curate("perturb", marked[0], "--config", watermarked / "curate.toml", "--png", png)


def test_columns_of_a_table_are_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    lines = []
    for row in range(300):
        signal, noise, colour = draw.normal(), draw.normal(), draw.choice(["red", "blue"])
        lines.append(f"{row},{signal:.4f},{noise:.4f},{colour},{'up' if signal > 0 else 'down'}")
    for name, part in (("train", lines[:200]), ("eval", lines[200:])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["key,signal,noise,colour,label", *part]) + "\n")
    told = curate("perturb", "7", "train.csv", "--eval", "eval.csv", "--id", "key")
    assert told.splitlines()[4].startswith("signal ")
    assert "colour_red" in told
    one = json.loads(curate("perturb", "7", "train.csv", "--eval", "eval.csv", "--id", "key", "--eval-rows", "250,",
                            "-f", "json"))  # fmt: skip
    assert "the 1 evaluation row" in one["measured_on"]
    assert set(one["names"]) == {"signal", "noise", "colour_blue", "colour_red"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody", "sklearn:digits"], "No training row is called 'nobody'"),
        (["{digit}", "sklearn:digits", "--png", "heat.png"], "is no picture: it has no heat map"),
    ],
)
def test_errors(arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from curate.sources import open_source

    key = open_source("sklearn:digits")[0].keys[0]
    result = CliRunner().invoke(main, ["perturb", *(argument.format(digit=key) for argument in arguments)])
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert not (tmp_path / "heat.png").exists()
