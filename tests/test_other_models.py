"""Models of several inputs, whole in a file, of another library; and doctor tells what scan tells."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from curate.cli import main
from curate.errors import CurateError, ModelError
from curate.models.keywords import called_as
from curate.models.loading import load_model
from curate.models.transforms import make_transform
from curate.sources import open_source

CODE = """
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Linear(5, 8), nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, numbers, tokens):
        return self.head(torch.relu(self.a(numbers) + self.b(tokens).mean(1)))


class Pairs(Dataset):
    def __len__(self):
        return 30

    def row(self, i):
        draw = torch.Generator().manual_seed(i)
        return torch.randn(5, generator=draw), torch.randint(0, 20, (7,), generator=draw), i % 3

    def __getitem__(self, i):
        numbers, tokens, label = self.row(i)
        return (numbers, tokens), label


class Named(Pairs):
    def __getitem__(self, i):
        numbers, tokens, label = self.row(i)
        return {"tokens": tokens, "numbers": numbers, "label": label}


class Tokens(Pairs):
    def __getitem__(self, i):
        return {"input_ids": self.row(i)[1].tolist(), "attention_mask": [1] * 7, "labels": i % 3, "length": 7}


def triples():
    rows = [Pairs().row(i) for i in range(30)]
    return TensorDataset(*(torch.stack([torch.as_tensor(row[k]) for row in rows]) for k in range(3)))


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.b, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, input_ids=None, attention_mask=None):
        return self.head((self.b(input_ids) * attention_mask[..., None]).mean(1))
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("net.py").write_text(CODE)
    return tmp_path / "here"


class TestSeveralInputs:
    @pytest.mark.parametrize(("name", "asked"), [("Pairs", None), ("Named", "numbers,tokens"), ("triples", None)])
    def test_a_data_set_gives_them_and_the_model_is_called_with_them(self, name: str, asked: str | None) -> None:
        source, _ = open_source(f"python:net.py:{name}", input=asked)
        model = load_model("net.py:Two", media=source.media)
        transform, _ = make_transform(model, source)
        rows = torch.stack([transform(source.read(row).decode()) for row in range(4)])
        given = [open_source("python:net.py:Pairs")[0].read(row).decode().given for row in range(4)]
        wanted = model.module(torch.stack([row[0] for row in given]), torch.stack([row[1] for row in given]))
        torch.testing.assert_close(called_as(model.module, transform)(rows), wanted)
        assert (source.label_texts[:4], len(set(source.keys))) == (["0", "1", "2", "0"], 30)

    def test_what_a_tokenizer_gives_is_known(self) -> None:
        source, _ = open_source("python:net.py:Tokens")
        transform, _ = make_transform(load_model("net.py:Reads", media=source.media), source)
        assert transform(source.read(0).decode()).shape == (14,)
        assert transform.layout.parts.keys() == {"input_ids", "attention_mask"}  # type: ignore[attr-defined]

    def test_a_label_with_a_place_for_each_class_is_no_second_input(self) -> None:
        Path("data.py").write_text("import torch\nmake = [(torch.ones(2), torch.eye(3)[i % 3], i) for i in range(6)]\n")
        with pytest.raises(CurateError, match="one-hot labels"):
            open_source("python:data.py:make")


class TestOtherFiles:
    @pytest.mark.parametrize(
        ("name", "what", "way"),
        [
            ("m.onnx", "is ONNX", "that it was exported from"),
            ("m.keras", "is of Keras", "--pred-probs FILE"),
            ("m.h5", "is of Keras", "--pred-probs FILE"),
            ("m.pt2", "that torch.export wrote", "exported from"),
            ("m.gguf", "made for inference alone", "PyTorch model"),
            ("m.pth", "is a file of weights", "--model file.py:NAME --weights m.pth"),
            ("f/config.json", "is a folder", "--model hf:f."),
            ("f/checkpoint-3/config.json", "is a folder", "--model hf:f."),
            ("f/saved_model.pb", "is of Keras", "--pred-probs FILE"),
        ],
    )
    def test_as_the_model_they_name_the_way(self, name: str, what: str, way: str) -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"{}")
        with pytest.raises(ModelError) as refused:
            load_model(name.split("/")[0])
        assert what in refused.value.message
        assert way in refused.value.hint

    @pytest.mark.parametrize(("name", "what"), [("w.onnx", "is ONNX"), ("w.h5", "of Keras or TensorFlow")])
    def test_as_weights_too(self, name: str, what: str) -> None:
        Path(name).write_bytes(b"\x08\x07pytorch")
        with pytest.raises(ModelError, match=what):
            load_model("net.py:Two", weights=name)

    @pytest.mark.filterwarnings("ignore:.*torch.jit.*")
    def test_torchscript_says_the_line_that_saves_its_weights(self) -> None:
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save("m.pt")
        with pytest.raises(ModelError, match="is a TorchScript archive") as refused:
            load_model("net.py:Two", weights="m.pt")
        assert "torch.jit.load('m.pt').state_dict()" in refused.value.hint

    def test_a_whole_module_is_loaded_if_it_is_trusted(self) -> None:
        module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        torch.save(module, "m.pt")
        model = load_model("m.pt", trust_checkpoint=True)
        torch.testing.assert_close(model.module(torch.ones(1, 4)), module(torch.ones(1, 4)))
        assert any("as --trust-checkpoint allows" in note for note in model.notes)
        with pytest.raises(ModelError, match="is a file of weights"):
            load_model("m.pt")
        torch.save({"a": 1}, "m.pt")
        with pytest.raises(ModelError, match="holds a dict, no module"):
            load_model("m.pt", trust_checkpoint=True)


def _pictures(ending: str = "png", broken: bool = False) -> None:
    for place, label in enumerate("ab"):
        Path("d", label).mkdir(parents=True)
        for row in range(4):
            path = Path("d", label, f"{row}.{ending}")
            Image.new("RGB", (8, 8), (90 * place + row, 0, 0)).save(path, "PNG")
            if broken:
                path.write_bytes(b"no picture")


def _table(text: str, name: str = "t.csv") -> None:
    Path(name).write_text(text)


def _rows(cell: str = "{0}", label: str = "{1}") -> str:
    return "".join(f"{cell.format(i)},{label.format(i, 'xy'[i % 2])}\n" for i in range(30))


PICTURES = "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))\n"
FAILS = PICTURES + "\n\ndef transform(picture):\n    raise KeyError('colour')\n"
WRONG = PICTURES.replace("192", "7")
BAD = {
    "nothing there": (lambda: None, "none.csv", ""),
    "an empty folder": (lambda: Path("d").mkdir(), "d", ""),
    "an empty table": (lambda: _table(""), "t.csv", ""),
    "a table without rows": (lambda: _table("a,label\n"), "t.csv", ""),
    "no label": (lambda: _table("a,b\n" + _rows()), "t.csv", ""),
    "no such label": (lambda: _table("a,label\n" + _rows()), "t.csv --label lable", ""),
    "one class": (lambda: _table("a,label\n" + _rows(label="x")), "t.csv", ""),
    "blank labels": (lambda: _table("a,label\n" + _rows(label=" ")), "t.csv", ""),
    "a measurement as label": (lambda: _table("a,label\n" + _rows(label="{0}.5")), "t.csv", ""),
    "several labels": (lambda: _table("a,label\n" + _rows(label="{1}") + "1,x|y\n" * 4), "t.csv", ""),
    "a first line that is a row": (lambda: _table(_rows()), "t.csv", ""),
    "rows of other widths": (lambda: _table("a,label\n" + _rows(cell="{0},{0}")), "t.csv", ""),
    "many broken lines": (lambda: _table("a,label\n" + _rows() + "1,2,3\n" * 20), "t.csv", ""),
    "no JSON": (lambda: _table("{", "t.json"), "t.json", ""),
    "an unknown ending": (lambda: _table("x", "t.xlsx"), "t.xlsx", ""),
    "a kind that is none": (lambda: None, "tabel:t.csv", ""),
    "no files of the names": (
        lambda: _table("file,label\n" + _rows("i{0}.png")),
        "t.csv --model net.py:build",
        PICTURES,
    ),
    "addresses": (lambda: _table("file,label\n" + _rows("https://x/{0}.png")), "t.csv --model net.py:build", PICTURES),
    "broken pictures": (lambda: _pictures(broken=True), "d --model net.py:build", PICTURES),
    "a transform that fails": (_pictures, "d --model net.py:build", FAILS),
    "a model that fails": (_pictures, "d --model net.py:build", WRONG),
    "a model of another library": (_pictures, "d --model net.onnx", PICTURES),
    "no such function": (_pictures, "d --model net.py:built", PICTURES),
    "no weights": (_pictures, "d --model net.py:build --weights w.pt", PICTURES),
    "weights of another model": (_pictures, "d --model net.py:build --weights other.pt", PICTURES),
    "a split without train": (lambda: _table("a,label\n" + _rows()), "t.csv --split a", ""),
    "no such pattern": (lambda: None, "part-*.csv", ""),
    "an archive that is none": (lambda: _table("x", "d.zip"), "d.zip", ""),
    "code without the name": (lambda: None, "python:net.py:nothing", ""),
}
"""What is read and cannot be: how it is made, the command's arguments, and the model's code."""


@pytest.mark.parametrize("case", BAD)
def test_doctor_and_scan_name_the_same_fault_and_the_same_remedy(case: str) -> None:
    make, arguments, model = BAD[case]
    Path("net.py").write_text("from torch import nn\n\n\n" + model)
    Path("net.onnx").write_bytes(b"x")
    torch.save(nn.Linear(3, 3).state_dict(), "other.pt")
    make()
    scanned = CliRunner().invoke(main, ["scan", *arguments.split(), "--no-cache"])
    doctored = CliRunner().invoke(main, ["doctor", *arguments.split(), "--format", "json"])
    failed = [check for check in json.loads(doctored.stdout)["checks"] if check["status"] == "FAILED"]
    assert (scanned.exit_code, doctored.exit_code) in ((2, 2), (5, 5)), (scanned.output, doctored.output)
    told = scanned.stderr.removeprefix("Error: ").strip()
    assert len(failed) == 1
    for part in (failed[0]["error"], failed[0].get("hint", "")):
        assert " ".join(part.split()) in " ".join(told.split())
    assert len(told.splitlines()) <= 2
