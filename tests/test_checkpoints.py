"""Ten ways in which trainers wrap their weights: each loads, and says how, or is refused with one clear message."""

import argparse
import datetime
import json
import pathlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from curate.errors import ModelError, UsageError
from curate.models.loading import LoadedModel, load_model
from curate.settings.merge import load_settings

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.fc = nn.Linear(3, outputs)
    def forward(self, x):
        return self.fc(self.body(x))

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.fc = nn.Linear(2, 2)
    def forward(self, x):
        return self.fc(self.second(self.first(x)))
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(CODE)
    return f"{tmp_path}/model.py"


@pytest.fixture
def net(code: str) -> nn.Module:
    torch.manual_seed(1)
    module = load_model(f"{code}:Net").module
    module.body[1].running_mean += torch.rand(3)
    return module


def loaded(code: str, content: object, name: str = "Net", **options: object) -> LoadedModel:
    file = Path(code).parent / "w.ckpt"
    torch.save(content, file)
    return load_model(f"{code}:{name}", weights=str(file), **options)  # type: ignore[arg-type]


def refused(code: str, content: object, *words: str, name: str = "Net") -> str:
    with pytest.raises(ModelError) as caught:
        loaded(code, content, name)
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert said.count("\n") <= 1
    return said


def assert_same(model: LoadedModel, net: nn.Module) -> None:
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in model.module.state_dict().items())


def lightning(state: dict[str, torch.Tensor], attribute: str) -> dict[str, object]:
    """The keys of a checkpoint of pytorch_lightning 2, with the objects that people put into it."""
    return {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict((f"{attribute}.{name}", value) for name, value in state.items()),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best": torch.tensor(0.2), "dirpath": Path("runs/1")}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "folder": pathlib.PurePosixPath("data"),
            "rate": np.float64(0.1),
            "table": np.arange(3),
            "args": argparse.Namespace(width=3),
            "when": datetime.datetime(2026, 1, 1),
            "activation": nn.ReLU(),
        },
    }


@pytest.mark.parametrize("attribute", ["model", "net", "classifier"])
def test_lightning(code: str, net: nn.Module, attribute: str) -> None:
    model = loaded(code, lightning(net.state_dict(), attribute))
    assert_same(model, net)
    assert "weights taken from the key 'state_dict'" in model.notes
    assert f"prefix '{attribute}.' removed" in model.notes
    note = next(note for note in model.notes if "left unread" in note)
    assert note.startswith("the checkpoint's other objects were left unread (datetime.datetime, ")


def test_lightning_in_torch_s_old_format(code: str, net: nn.Module, tmp_path: Path) -> None:
    content = lightning(net.state_dict(), "model")
    del content["hyper_parameters"]["activation"]  # modules had their source code beside them in that format
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert_same(load_model(f"{code}:Net", weights=str(tmp_path / "old.ckpt")), net)


class Evil:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (f"open({str(self.place)!r}, 'w').close()",)


def test_no_code_of_the_checkpoint_runs(code: str, net: nn.Module, tmp_path: Path) -> None:
    model = loaded(code, {"state_dict": net.state_dict(), "hyper_parameters": Evil(tmp_path / "was here")})
    assert_same(model, net)
    refused(code, {"state_dict": Evil(tmp_path / "was here")}, "exec", "was refused")
    refused(code, {**net.state_dict(), "fc.weight": Evil(tmp_path / "was here")}, "exec", "was refused")
    refused(code, Evil(tmp_path / "was here"), "exec", "was refused")
    assert not (tmp_path / "was here").exists()


def test_data_parallel_and_compiled(code: str, net: nn.Module) -> None:
    assert_same(loaded(code, nn.DataParallel(net).state_dict()), net)
    compiled = loaded(code, torch.compile(net).state_dict())
    assert_same(compiled, net)
    assert "prefix '_orig_mod.' removed (torch.compile)" in compiled.notes


def test_averaged_weights_alone_are_taken_and_beside_others_left(code: str, net: nn.Module) -> None:
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    assert_same(loaded(code, averaged.state_dict()), net)
    assert_same(loaded(code, {"ema": averaged.state_dict(), "epoch": 1}), net)
    others = {name: value + 1 for name, value in net.state_dict().items()}
    model = loaded(code, {"model": net.state_dict(), "model_ema": others})
    assert_same(model, net)
    assert any("averaged weights were not used (--weights" in note and "#model_ema)" in note for note in model.notes)


def test_a_whole_pickled_module_is_refused(code: str) -> None:
    refused(code, nn.Linear(2, 2), "torch.nn.modules.linear.Linear", "was refused", "--trust-checkpoint")
    refused(code, {"model": nn.Linear(2, 2), "epoch": 1}, "torch.nn.modules.linear.Linear", "--trust-checkpoint")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision(code: str, net: nn.Module, kind: torch.dtype) -> None:
    half = {name: value.to(kind) if value.is_floating_point() else value for name, value in net.state_dict().items()}
    model = loaded(code, half)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert all(torch.equal(value.to(half[name]), half[name]) for name, value in model.module.state_dict().items())


def test_tied_weights_may_stand_under_one_name(code: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    tied = load_model(f"{code}:Tied").module
    save_model(tied, str(tmp_path / "tied.safetensors"))
    model = load_model(f"{code}:Tied", weights=str(tmp_path / "tied.safetensors"))
    assert_same(model, tied)
    assert model.module.first.weight is model.module.second.weight
    only_second = {name: value for name, value in tied.state_dict().items() if name != "first.weight"}
    assert_same(loaded(code, only_second, "Tied"), tied)
    del only_second["second.weight"]
    refused(code, only_second, "2 missing: first.weight, second.weight", name="Tied")


def test_another_head_and_missing_names(code: str, net: nn.Module) -> None:
    other = net.state_dict() | {"fc.weight": torch.ones(5, 3), "fc.bias": torch.ones(5)}
    refused(code, other, "fc.weight (5x3 in the file, 2x3 in the model)", "--model-arg")
    assert loaded(code, other, model_args={"outputs": "5"}).module.fc.out_features == 5
    missing = net.state_dict()
    del missing["body.0.weight"], missing["body.1.running_mean"]
    refused(code, missing, "2 missing: body.0.weight, body.1.running_mean")


def test_plain(code: str, net: nn.Module, tmp_path: Path) -> None:
    model = loaded(code, net.state_dict())
    assert_same(model, net)
    assert model.notes == []
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    assert_same(load_model(f"{code}:Net", weights=str(tmp_path / "w.safetensors")), net)


class TestSeveralInOneFile:
    @pytest.fixture
    def other(self) -> dict[str, torch.Tensor]:
        return nn.Sequential(nn.Conv2d(1, 1, 1)).state_dict()

    def test_the_one_that_fits_is_found_wherever_it_lies(
        self, code: str, net: nn.Module, other: dict[str, torch.Tensor]
    ) -> None:
        model = loaded(code, {"critic": other, "parts": {"actor": net.state_dict()}, "epoch": 3})
        assert_same(model, net)
        assert "weights taken from the key 'parts.actor', whose names fit" in model.notes
        assert_same(loaded(code, {"model": other, "classifier": net.state_dict()}), net)

    def test_several_that_fit_are_listed_and_one_is_chosen(self, code: str, net: nn.Module, tmp_path: Path) -> None:
        changed = {name: value + 1 for name, value in net.state_dict().items()}
        said = refused(code, {"a": net.state_dict(), "b.c": changed}, "holds 2 state dicts, that fit the model alike")
        assert "--weights" in said
        assert "#a" in said
        torch.save({"a": net.state_dict(), "b.c": changed}, tmp_path / "two.pt")
        assert_same(load_model(f"{code}:Net", weights=f"{tmp_path}/two.pt#a"), net)
        wrong = load_model(f"{code}:Net", weights=f"{tmp_path}/two.pt#b.c")
        assert torch.equal(next(iter(wrong.module.state_dict().values())), next(iter(changed.values())))
        with pytest.raises(ModelError, match=r"has no key 'd'.*\nThere is: a, b\.c"):
            load_model(f"{code}:Net", weights=f"{tmp_path}/two.pt#d")

    def test_averaged_weights_are_taken_by_their_key(self, code: str, net: nn.Module, tmp_path: Path) -> None:
        plain = {name: value + 1 for name, value in net.state_dict().items()}
        torch.save({"model": plain, "ema": net.state_dict()}, tmp_path / "c.pt")
        assert_same(load_model(f"{code}:Net", weights=f"{tmp_path}/c.pt#ema"), net)


class TestFolders:
    def test_shards_are_joined_by_their_index(self, code: str, net: nn.Module, tmp_path: Path) -> None:
        state = net.state_dict()
        names, place = list(state), tmp_path / "checkpoint-7"
        place.mkdir()
        for number, part in enumerate((names[::2], names[1::2])):
            save_file({name: state[name] for name in part}, place / f"model-{number}.safetensors")
        weights = {name: f"model-{row % 2}.safetensors" for row, name in enumerate(names)}
        index = place / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": weights}))
        for location in (index, place):
            model = load_model(f"{code}:Net", weights=str(location))
            assert_same(model, net)
            assert "weights joined from 2 shards" in model.notes
        (place / "model-1.safetensors").unlink()
        with pytest.raises(ModelError, match=r"names model-1\.safetensors, which is not there"):
            load_model(f"{code}:Net", weights=str(place))

    def test_what_trainers_leave_beside_weights_is_not_taken(self, code: str, net: nn.Module, tmp_path: Path) -> None:
        for name in ("optimizer.pt", "rng_state.pth", "training_args.bin"):
            (tmp_path / name).write_bytes(b"")
        torch.save(net.state_dict(), tmp_path / "epoch3.pt")
        assert_same(load_model(f"{code}:Net", weights=str(tmp_path)), net)
        torch.save(net.state_dict(), tmp_path / "epoch4.pt")
        with pytest.raises(ModelError, match=r"are epoch3\.pt, epoch4\.pt"):
            load_model(f"{code}:Net", weights=str(tmp_path))

    def test_a_pattern_means_checkpoints_in_the_order_of_their_steps(self, here: Path) -> None:
        for step in (1000, 60, 200):
            (here / f"checkpoint-{step}").mkdir()
        settings = load_settings({"train": "x.csv", "weights": ("checkpoint-*/",)})
        assert settings.weights == ("checkpoint-60", "checkpoint-200", "checkpoint-1000")
        with pytest.raises(UsageError, match="no file or folder is called so"):
            load_settings({"train": "x.csv", "weights": ("epoch-*",)})
