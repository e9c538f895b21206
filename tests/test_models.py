"""Models by spec, checkpoints as people save them, and the transform between row and tensor."""

import hashlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from curate.errors import CurateError, ModelError, UnreadableRow, UsageError
from curate.models.loading import LoadedModel, load_model
from curate.models.transforms import make_transform
from curate.sources import open_source

FIXTURE = Path(__file__).parent.parent / "fixtures" / "fashion"

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=3, bias=True):
        super().__init__()
        self.body = nn.Linear(2, width, bias=bias)
        self.fc = nn.Linear(width, 2)
    def forward(self, x):
        return self.fc(self.body(x))

ready = Net()
number = 5

def broken():
    raise RuntimeError("no such file: lookup.json")

def nothing():
    return {"a": 1}
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(CODE)
    return str(tmp_path / "model.py")


@pytest.fixture
def state(code: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return load_model(f"{code}:Net").module.state_dict()


def saved(tmp_path: Path, content: object) -> str:
    torch.save(content, tmp_path / "w.pt")
    return str(tmp_path / "w.pt")


class TestCode:
    def test_the_fixture_loads_in_eval_mode(self) -> None:
        weights = FIXTURE / "weights.safetensors"
        model = load_model(f"{FIXTURE}/model.py:build", weights=str(weights))
        assert not model.module.training
        assert model.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert model.notes == ["transform taken from the model's file"]
        assert all(p.requires_grad and p.dtype == torch.float32 for p in model.module.parameters())
        assert not (FIXTURE / "__pycache__").exists()

    def test_arguments_are_literals_where_they_are_some(self, code: str) -> None:
        module = load_model(f"{code}:Net", model_args={"width": "7", "bias": "false"}).module
        assert module.body.weight.shape == (7, 2)
        assert module.body.bias is None

    def test_an_instance_is_copied(self, code: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
        model = load_model(f"{code}:ready", weights=saved(tmp_path, state))
        assert torch.equal(model.module.body.weight, state["body.weight"])

    def test_a_module_of_the_current_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mine_for_this_test.py").write_text(CODE)
        monkeypatch.chdir(tmp_path)
        model = load_model("mine_for_this_test:Net")
        assert "no weights given" in model.notes[0]
        assert model.weights_sha256 is None

    def test_neighbours_of_the_file_can_be_imported_and_count_for_the_hash(self, tmp_path: Path) -> None:
        (tmp_path / "layers_for_this_test.py").write_text("from torch import nn\nwidth = 3\n")
        (tmp_path / "net.py").write_text(
            "from layers_for_this_test import nn, width\ndef make():\n    return nn.Linear(2, width)\n"
        )
        spec = f"{tmp_path}/net.py:make"
        first = load_model(spec).source_sha256
        assert load_model(spec).source_sha256 == first
        (tmp_path / "layers_for_this_test.py").write_text("from torch import nn\nwidth = 4\n")
        assert load_model(spec).source_sha256 != first

    def test_the_hash_knows_the_arguments(self, code: str) -> None:
        assert (
            load_model(f"{code}:Net").source_sha256 != load_model(f"{code}:Net", model_args={"width": 3}).source_sha256
        )

    def test_half_precision_becomes_float32(self, tmp_path: Path) -> None:
        (tmp_path / "half.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(2, 2).half()\n")
        model = load_model(f"{tmp_path}/half.py:make")
        assert next(model.module.parameters()).dtype == torch.float32
        assert "parameters turned into float32" in model.notes


class TestWeights:
    @pytest.mark.parametrize(
        ("wrap", "said"),
        [
            (lambda s: s, []),
            (lambda s: {"state_dict": s, "epoch": 3}, ["weights taken from the key 'state_dict'"]),
            (lambda s: {"model": {"state_dict": s}}, ["the key 'state_dict'", "the key 'model'"]),
            (lambda s: {"model_ema": s, "epoch": 3}, ["'model_ema'"]),
            (lambda s: {"model": s, "ema": s}, ["averaged weights were not used", "#ema"]),
            (lambda s: {f"module.{k}": v for k, v in s.items()}, ["prefix 'module.' removed"]),
            (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, ["prefix '_orig_mod.' removed"]),
            (lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()}, ["'_orig_mod.'", "'module.'"]),
            (lambda s: {f"model.module.{k}": v for k, v in s.items()}, ["prefix 'model.module.' removed"]),
            (
                lambda s: {"state_dict": {f"net.{k}": v for k, v in s.items()} | {"loss.weight": torch.ones(2)}},
                ["prefix 'net.' removed (1 beside it left out: loss.weight)"],
            ),
            (lambda s: {f"student.{k}": v for k, v in s.items()}, ["prefix 'student.' removed"]),
            (lambda s: {"n_averaged": torch.tensor(4)} | {f"module.{k}": v for k, v in s.items()}, ["'module.'"]),
        ],
    )
    def test_state_dicts_are_found_and_it_is_said_how(
        self, code: str, state: dict[str, torch.Tensor], tmp_path: Path, wrap: object, said: list[str]
    ) -> None:
        model = load_model(f"{code}:Net", weights=saved(tmp_path, wrap(state)))  # type: ignore[operator]
        assert all(torch.equal(value, state[name]) for name, value in model.module.state_dict().items())
        notes = " / ".join(model.notes)
        assert all(words in notes for words in said), notes
        assert len(model.notes) >= len(said)

    def test_safetensors(self, code: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
        save_file(state, tmp_path / "w.safetensors")
        model = load_model(f"{code}:Net", weights=str(tmp_path / "w.safetensors"))
        assert torch.equal(model.module.fc.weight, state["fc.weight"])

    def test_a_trusted_pickle_may_hold_the_whole_model(self, code: str, tmp_path: Path) -> None:
        file = saved(tmp_path, nn.Sequential(OrderedDict(body=nn.Linear(2, 3), fc=nn.Linear(3, 2))))
        model = load_model(f"{code}:Net", weights=file, trust_checkpoint=True)
        assert "weights taken from the Sequential in the checkpoint" in model.notes


class TestMessages:
    def check(self, spec: str, *words: str, kind: type[CurateError] = ModelError, **options: object) -> None:
        with pytest.raises(kind) as caught:
            load_model(spec, **options)  # type: ignore[arg-type]
        said = str(caught.value)
        assert all(word in said for word in words), said
        assert said.count("\n") <= 1
        assert caught.value.exit_status == 2

    def test_no_name(self, code: str) -> None:
        self.check(code, "does not say what makes the model", "Net, ready, broken, nothing", "model.py:NAME")

    def test_unknown_name(self, code: str) -> None:
        self.check(f"{code}:Nett", "has no 'Nett'", "Did you mean Net?")

    def test_missing_file_and_module(self, code: str) -> None:
        self.check(code.replace("model.py", "modle.py") + ":Net", "There is no model file", "Did you mean", "model.py")
        self.check("not_a_module.here:f", "no Python module 'not_a_module'", "file.py:factory")
        self.check("a folder/x:f", "names no Python code", kind=UsageError)

    def test_code_that_raises_is_blamed_by_line(self, code: str, tmp_path: Path) -> None:
        self.check(f"{code}:broken", "model.py:17", "RuntimeError: no such file: lookup.json", "own code")
        (tmp_path / "bad.py").write_text("x = 1\nimport not_a_module\n")
        self.check(f"{tmp_path}/bad.py:make", "bad.py:2", "ModuleNotFoundError")
        (tmp_path / "odd.py").write_text("x = 1\ndef f(:\n")
        self.check(f"{tmp_path}/odd.py:f", "odd.py:2", "SyntaxError")
        (tmp_path / "end.py").write_text("import sys\nsys.exit(3)\n")
        self.check(f"{tmp_path}/end.py:f", "end.py:2", "SystemExit")

    def test_what_is_no_model(self, code: str) -> None:
        self.check(f"{code}:nothing", "returned a dict")
        self.check(f"{code}:number", "is a int, neither a model")

    def test_arguments_that_do_not_fit(self, code: str) -> None:
        self.check(f"{code}:Net", "unexpected keyword argument 'depth'", "--model-arg", model_args={"depth": "3"})
        self.check(f"{code}:ready", "a model already", kind=UsageError, model_args={"depth": "3"})

    def test_weights_that_are_not_there(self, code: str, tmp_path: Path) -> None:
        saved(tmp_path, {})
        self.check(f"{code}:Net", "no weights file", "Did you mean", "w.pt", weights=str(tmp_path / "v.pt"))

    def test_weights_that_do_not_fit(self, code: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
        del state["body.bias"]
        file = saved(tmp_path, {**state, "extra": torch.ones(1), "fc.weight": torch.ones(10, 3)})
        self.check(
            f"{code}:Net", "1 missing: body.bias", "1 not in the model: extra",
            "fc.weight (10x3 in the file, 2x3 in the model)", "--model-arg", weights=file,
        )  # fmt: skip

    def test_two_models_in_one_file(self, code: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
        both = {f"{who}.{name}": value for who in ("student", "teacher") for name, value in state.items()}
        self.check(f"{code}:Net", "'student.', 'teacher.'", "alike", weights=saved(tmp_path, both))

    def test_refused_pickle(self, code: str, tmp_path: Path) -> None:
        file = saved(tmp_path, {"model": nn.Linear(2, 2)})
        self.check(f"{code}:Net", "torch.nn.modules.linear.Linear", "refused", "--trust-checkpoint", weights=file)

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
    @pytest.mark.parametrize("keep", [0, 100])
    def test_truncated(self, code: str, state: dict[str, torch.Tensor], tmp_path: Path, name: str, keep: int) -> None:
        path = tmp_path / name
        save_file(state, path) if name.endswith("s") else torch.save(state, path)
        path.write_bytes(path.read_bytes()[:keep])
        self.check(f"{code}:Net", "cut short" if keep else "is empty", weights=str(path))

    def test_no_state_dict(self, code: str, tmp_path: Path) -> None:
        self.check(f"{code}:Net", "its keys are epoch", "state_dict", weights=saved(tmp_path, {"epoch": 3}))
        self.check(f"{code}:Net", "holds a list", weights=saved(tmp_path, [1]))

    def test_nan(self, code: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
        state["fc.bias"][0] = torch.nan
        self.check(f"{code}:Net", "'fc.bias' holds NaN", weights=saved(tmp_path, state))

    def test_lfs_pointer(self, code: str, tmp_path: Path) -> None:
        (tmp_path / "w.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
        self.check(f"{code}:Net", "git lfs pull", weights=str(tmp_path / "w.pt"))

    def test_transform_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "m.py").write_text(CODE + "\ntransform = 3\n")
        self.check(f"{tmp_path}/m.py:Net", "`transform` of the model's file is a int")


def model_of(module: nn.Module, transform: object = None) -> LoadedModel:
    return LoadedModel(module, transform, "net.py:make", None, "0", [])  # type: ignore[arg-type]


class TestTransform:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("a", "b"):
            (tmp_path / "data" / name).mkdir(parents=True)
            Image.new("RGB", (4, 3), (255, 0, 0)).save(tmp_path / "data" / name / "1.png")
        return tmp_path / "data"

    @pytest.mark.parametrize(
        ("module", "channels"),
        [(nn.Conv2d(1, 2, 3), 1), (nn.Conv2d(3, 2, 3), 3), (nn.Linear(12, 2), 1), (nn.Linear(36, 2), 3)],
    )
    def test_pictures_have_the_channels_of_the_first_layer(
        self, folder: Path, module: nn.Module, channels: int
    ) -> None:
        source, _ = open_source(str(folder))
        transform, notes = make_transform(model_of(module), source)
        row = transform(source.read(0).decode())
        assert row.shape == (channels, 3, 4)
        assert row.dtype == torch.float32
        assert 0 <= row.min() <= row.max() <= 1
        assert "no transform given" in notes[0]

    @pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 1), (2, 3, 4, 3), (2, 3, 4, 4)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_arrays_that_are_pictures(self, tmp_path: Path, shape: tuple[int, ...], channels: int) -> None:
        np.savez(tmp_path / "a.npz", x=np.full(shape, 51, np.uint8), y=np.array(["a", "b"]))
        source, _ = open_source(str(tmp_path / "a.npz"))
        row = make_transform(model_of(nn.Conv2d(channels, 2, 3)), source)[0](source.read(0).decode())
        assert row.shape == (channels, 3, 4)
        torch.testing.assert_close(row, torch.full_like(row, 0.2))

    def test_numbers_are_float32_with_and_without_a_model(self) -> None:
        source, _ = open_source("sklearn:iris")
        for model in (None, model_of(nn.Linear(4, 3))):
            row = make_transform(model, source)[0](source.read(0).decode())
            assert (row.dtype, row.shape) == (torch.float32, (4,))

    def test_pictures_without_a_model(self, folder: Path) -> None:
        with pytest.raises(ModelError, match=r"no model says what to see.*\n.*--model file.py:factory"):
            make_transform(None, open_source(str(folder))[0])

    def test_channels_that_no_picture_has(self, folder: Path) -> None:
        with pytest.raises(ModelError, match="takes 4 channels; these"):
            make_transform(model_of(nn.Conv2d(4, 1, 1)), open_source(str(folder))[0])

    def test_a_persons_transform_that_fails_makes_the_row_unreadable(self, folder: Path) -> None:
        def transform(picture: Image.Image) -> torch.Tensor:
            raise ValueError("too small")

        call, _ = make_transform(model_of(nn.Linear(2, 2), transform), open_source(str(folder))[0])
        with pytest.raises(UnreadableRow, match=r"failed at test_models.py:\d+ with ValueError: too small"):
            call(Image.new("RGB", (2, 2)))

    def test_a_persons_transform_gives_a_tensor(self, folder: Path) -> None:
        source, _ = open_source(str(folder))
        with pytest.raises(ModelError, match="gave a Image, not a tensor"):
            make_transform(model_of(nn.Linear(2, 2), lambda picture: picture), source)[0](Image.new("RGB", (2, 2)))
        row = make_transform(model_of(nn.Linear(2, 2), lambda picture: np.ones(3)), source)[0](None)
        assert row.dtype == torch.float32
