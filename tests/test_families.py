"""Models of torchvision, timm and transformers by name: filled, prepared for, and never downloaded.

Every checkpoint here is made here, tiny and random; what is tested is that curate asks the same network the same.
"""

import argparse
import builtins
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from curate.cli import main
from curate.errors import ModelError, UsageError
from curate.models.keywords import called_as
from curate.models.loading import load_model
from curate.models.network import inspect_network
from curate.models.training import AsTrained
from curate.models.transforms import _Users
from curate.models.weights import read_checkpoint
from curate.settings.files import Layer
from curate.settings.options import OPTIONS
from curate.settings.specs import split_model

SMALL = "squeezenet1_1"
NET = "shufflenet_v2_x0_5"


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches are empty, and whoever opens a connection fails the test."""

    def refuse(*args: Any, **named: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, str]:
    torch.manual_seed(0)
    module = torchvision.models.get_model(NET, num_classes=3).eval()
    file = tmp_path_factory.mktemp("torchvision") / "w.pt"
    torch.save({"state_dict": {f"model.{name}": value for name, value in module.state_dict().items()}}, file)
    return module, str(file)


@pytest.fixture(scope="module")
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm is an extra")


@pytest.fixture(scope="module")
def transformers() -> Any:
    found = pytest.importorskip("transformers", reason="transformers is an extra")
    found.utils.logging.disable_progress_bar()
    return found


def refused(spec: str, *words: str, kind: type[Exception] = ModelError, **options: Any) -> None:
    with pytest.raises(kind) as caught:
        load_model(spec, **options)
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert said.count("\n") <= 1


def test_specs() -> None:
    assert split_model("torchvision:resnet18") == ("torchvision", "resnet18")
    assert split_model("hf:org/name") == ("hf", "org/name")
    assert split_model("torchvision.models:resnet18") == (None, "torchvision.models:resnet18")
    assert split_model("net.py:build") == (None, "net.py:build")


def test_a_folder_in_a_settings_file_is_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "inner" / "bert").mkdir(parents=True)
    layer = Layer("inner/curate.toml", tmp_path / "inner")
    for given, placed in [
        ("hf:bert", f"hf:{tmp_path}/inner/bert"),
        ("hf:./other", f"hf:{tmp_path}/inner/other"),
        ("hf:org/name", "hf:org/name"),
        ("timm:bert", "timm:bert"),
        ("net.py:build", f"{tmp_path}/inner/net.py:build"),
    ]:
        layer.put(OPTIONS["model"], given, "`model`", from_file=True)
        assert layer.values["model"] == placed


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *args: Any, **named: Any) -> Any:
        if name in ("timm", "transformers"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *args, **named)

    real = builtins.__import__
    monkeypatch.setattr("importlib.import_module", missing)
    refused("timm:resnet18", "timm is not installed", "pip install '.[timm]'")
    refused("hf:bert", "transformers is not installed", "pip install '.[hf]'", media="text")


class TestTorchvision:
    def test_a_fine_tuned_checkpoint(self, fine_tuned: tuple[nn.Module, str], picture: Image.Image) -> None:
        module, file = fine_tuned
        model = load_model(f"torchvision:{NET}", weights=file)
        preset = torchvision.models.get_model_weights(NET).DEFAULT.transforms()
        assert model.transform is not None
        row = model.transform(picture)
        assert torch.equal(row, preset(picture))
        assert torch.equal(model.module(row[None]), module(row[None]))
        assert model.notes == [
            f"pictures: resized to 256, cropped to 224, ImageNet mean and std (torchvision's preset for {NET})",
            "weights taken from the key 'state_dict'",
            "prefix 'model.' removed",
            "3 outputs, as the head of the checkpoint has",
        ]
        network = inspect_network(model.module, torch.stack([row] * 2), 3)
        assert (network.head_name, network.own_classes) == ("fc", True)

    def test_the_number_of_outputs_can_be_said(self, fine_tuned: tuple[nn.Module, str]) -> None:
        _, file = fine_tuned
        assert (
            load_model(f"torchvision:{NET}", weights=file, model_args={"num_classes": "3"}).module.fc.out_features == 3
        )
        refused(f"torchvision:{NET}", "fc.weight (3x1024 in the file, 7x1024 in the model)", weights=file,
                model_args={"num_classes": "7"})  # fmt: skip

    def test_a_rebuilt_head(self, fine_tuned: tuple[nn.Module, str], tmp_path: Path) -> None:
        state = fine_tuned[0].state_dict()
        state["fc.1.weight"] = state.pop("fc.weight")
        save_file(state, tmp_path / "w.safetensors")
        refused(f"torchvision:{NET}", "1 missing: fc.weight", "1 not in the model: fc.1.weight", "file.py:factory",
                weights=str(tmp_path / "w.safetensors"))  # fmt: skip
        state["fc.1.bias"] = state.pop("fc.bias")  # a linear layer behind a dropout
        save_file(state, tmp_path / "w.safetensors")
        model = load_model(f"torchvision:{NET}", weights=str(tmp_path / "w.safetensors"))
        assert torch.equal(model.module.fc.weight, fine_tuned[0].fc.weight)
        assert "the head 'fc.1' of the checkpoint is read as 'fc'" in model.notes
        save_file({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "w.safetensors")
        again = load_model(f"torchvision:{NET}", weights=str(tmp_path / "w.safetensors"))
        assert torch.equal(again.module.fc.weight, fine_tuned[0].fc.weight)
        assert {"prefix 'module.' removed", "the head 'fc.1' of the checkpoint is read as 'fc'"} <= set(again.notes)

    def test_pretrained_weights_come_from_the_cache_or_not_at_all(self, tmp_path: Path, picture: Image.Image) -> None:
        refused(f"torchvision:{SMALL}", "squeezenet1_1-b8a52dc0.pth", "curate does not download", "python -c",
                f"get_model('{SMALL}', weights='IMAGENET1K_V1')", "--weights FILE")  # fmt: skip
        torch.manual_seed(0)
        module = torchvision.models.get_model(SMALL).eval()
        cache = tmp_path / "torch" / "hub" / "checkpoints"
        cache.mkdir(parents=True)
        torch.save(module.state_dict(), cache / "squeezenet1_1-b8a52dc0.pth")
        model = load_model(f"torchvision:{SMALL}", model_args={"weights": "IMAGENET1K_V1"})
        row = model.transform(picture)[None]  # type: ignore[misc]
        assert torch.equal(model.module(row), module(row))
        assert "torchvision's pretrained weights IMAGENET1K_V1, from squeezenet1_1-b8a52dc0.pth" in model.notes
        refused(f"torchvision:{SMALL}", "cannot be built: ValueError", "num_classes", model_args={"num_classes": "3"})

    def test_messages(self) -> None:
        refused("torchvision:resnet19", "torchvision has no model 'resnet19'", "Did you mean resnet18")
        refused("torchvision:fcn_resnet50", "is no classifier of pictures")
        refused("torchvision:resnet18", "has no weights 'V9'", "IMAGENET1K_V1", model_args={"weights": "V9"})
        refused("torchvision:resnet18", "reads pictures; the data holds texts", media="text")
        refused("torchvision:", "names no model", "torchvision:NAME", kind=UsageError)

    def test_identity(self, fine_tuned: tuple[nn.Module, str]) -> None:
        _, file = fine_tuned
        first, again = (load_model(f"torchvision:{NET}", weights=file) for _ in range(2))
        assert (first.source_sha256, first.weights_sha256) == (again.source_sha256, again.weights_sha256)
        other = load_model(f"torchvision:{NET}", weights=file, model_args={"num_classes": "3"})
        assert other.source_sha256 != first.source_sha256
        assert other.weights_sha256 == first.weights_sha256


class TestTimm:
    def test_a_fine_tuned_checkpoint(self, timm: Any, tmp_path: Path, picture: Image.Image) -> None:
        torch.manual_seed(0)
        module = timm.create_model("test_resnet", num_classes=3).eval()
        save_file(module.state_dict(), tmp_path / "w.safetensors")
        model = load_model("timm:test_resnet", weights=str(tmp_path / "w.safetensors"))
        row = model.transform(picture)  # type: ignore[misc]
        wanted = timm.data.create_transform(**timm.data.resolve_model_data_config(module), is_training=False)
        assert torch.equal(row, wanted(picture))
        assert torch.equal(model.module(row[None]), module(row[None]))
        assert model.notes == [
            "pictures: resized to 168, cropped to 160, mean 0.5 and std 0.5 "
            "(timm's evaluation transform for test_resnet)",
            "3 outputs, as the head of the checkpoint has",
        ]

    def test_grey(self, timm: Any, tmp_path: Path, picture: Image.Image) -> None:
        module = timm.create_model("test_resnet", num_classes=3, in_chans=1).eval()
        save_file(module.state_dict(), tmp_path / "w.safetensors")
        model = load_model("timm:test_resnet", weights=str(tmp_path / "w.safetensors"), model_args={"in_chans": "1"})
        row = model.transform(picture)  # type: ignore[misc]
        assert row.shape == (1, 160, 160)
        assert torch.equal(row, model.transform(picture.convert("L")))  # type: ignore[misc]

    def test_pretrained_weights_come_from_the_cache_or_not_at_all(
        self, timm: Any, tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub = pytest.importorskip("huggingface_hub")
        monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
        refused("timm:test_resnet", "timm/test_resnet.r160_in1k", "curate does not download",
                "timm.create_model('test_resnet', pretrained=True)")  # fmt: skip
        refused("timm:test_resnet", "a head with 3 would be a random one", model_args={"num_classes": "3"})
        torch.manual_seed(0)
        module = timm.create_model("test_resnet").eval()
        save_file(module.state_dict(), tmp_path / "model.safetensors")
        monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
        model = load_model("timm:test_resnet")
        row = model.transform(picture)[None]  # type: ignore[misc]
        assert torch.equal(model.module(row), module(row))
        without = load_model("timm:test_resnet", model_args={"num_classes": "0"})
        assert torch.equal(without.module(row), module.forward_head(module.forward_features(row), pre_logits=True))

    def test_messages(self, timm: Any) -> None:
        refused("timm:resnet1", "timm has no model 'resnet1'", "Did you mean")
        refused("timm:resnet18", "reads pictures; the data holds rows of numbers", media="features")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "the", "a", "was", "very"]
TEXTS = ["the film was good", "bad film", "a very very bad film"]


class TestHf:
    @pytest.fixture
    def folder(self, transformers: Any, tmp_path: Path) -> Path:
        place = tmp_path / "bert"
        place.mkdir()
        (place / "vocab.txt").write_text("\n".join(WORDS))
        (place / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        assert tokenizer("good film")["input_ids"] == [2, 5, 7, 3]  # and not two unknown words
        tokenizer.save_pretrained(place)
        return place

    def bert(self, transformers: Any, **settings: Any) -> Any:
        torch.manual_seed(0)
        return transformers.BertConfig(
            vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
            max_position_embeddings=16, **settings,
        )  # fmt: skip

    def classifier(self, transformers: Any, folder: Path, names: str = "neg pos") -> Any:
        labels = dict(enumerate(names.split()))
        config = self.bert(transformers, id2label=labels, label2id={name: i for i, name in labels.items()})
        module = transformers.BertForSequenceClassification(config).eval()
        module.save_pretrained(folder)
        return module

    def rows(self, model: Any) -> tuple[nn.Module, torch.Tensor]:
        transform = _Users(model.transform, model.spec)
        rows = torch.stack([transform(text) for text in TEXTS])
        return called_as(model.module, transform), rows

    def inputs(self, transformers: Any, folder: Path) -> dict[str, torch.Tensor]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        return dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))

    def test_texts(self, transformers: Any, folder: Path) -> None:
        module = self.classifier(transformers, folder)
        model = load_model(f"hf:{folder}", media="text", classes=["neg", "pos"])
        wrapped, rows = self.rows(model)
        torch.testing.assert_close(wrapped(rows).logits, module(**self.inputs(transformers, folder)).logits)
        assert model.notes == ["texts: BertTokenizer, cut and padded to 16 tokens"]
        network = inspect_network(wrapped, rows, 2)
        assert (network.head_name, network.own_classes) == ("classifier", True)
        short = load_model(f"hf:{folder}", media="text", classes=["neg", "pos"], model_args={"max_length": "5"})
        assert short.transform(TEXTS[2])["input_ids"].shape == (5,)  # type: ignore[misc]

    def test_a_checkpoint_takes_the_tokenizer_above_it(self, transformers: Any, folder: Path) -> None:
        """A Trainer without a tokenizer leaves none in its checkpoints; transformers would make one up."""
        checkpoint = folder / "checkpoint-60"
        module = self.classifier(transformers, checkpoint)
        model = load_model(f"hf:{checkpoint}", media="text", classes=["neg", "pos"])
        wrapped, rows = self.rows(model)
        torch.testing.assert_close(wrapped(rows).logits, module(**self.inputs(transformers, folder)).logits)
        assert any("prepared is taken from" in note and str(folder) in note for note in model.notes)

    def test_no_tokenizer_anywhere_is_an_error(self, transformers: Any, tmp_path: Path) -> None:
        self.classifier(transformers, tmp_path / "out" / "model")
        refused(f"hf:{tmp_path}/out/model", "holds a tokenizer", "tokenizer.save_pretrained", media="text")

    def test_the_output_of_a_training_lists_its_checkpoints(self, transformers: Any, folder: Path) -> None:
        out = folder / "out"
        for step in (40, 60, 100):
            self.classifier(transformers, out / f"checkpoint-{step}")
        state = {"best_model_checkpoint": f"elsewhere/{out.name}/checkpoint-60"}
        (out / "checkpoint-100" / "trainer_state.json").write_text(json.dumps(state))
        refused(f"hf:{out}", "checkpoint-100, checkpoint-60 (the best one), checkpoint-40",
                f"--model hf:{out}/checkpoint-60", media="text")  # fmt: skip

    def test_an_adapter_says_whose_it_is(self, transformers: Any, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "bert-base-uncased"}')
        refused(f"hf:{tmp_path}", "an adapter of bert-base-uncased", "merge_and_unload", media="text")

    def test_an_adapter_is_added_to_its_base(
        self, transformers: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As peft writes it: low-rank updates of two layers, and a classifier trained whole."""
        monkeypatch.chdir(tmp_path)
        torch.manual_seed(1)
        transformers.BertForMaskedLM(self.bert(transformers)).save_pretrained(folder)
        trained = transformers.BertForSequenceClassification(self.bert(transformers, num_labels=3)).eval()
        base = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).state_dict()
        state = {f"bert.{name}": tensor for name, tensor in base.items()}
        saved: dict[str, torch.Tensor] = {}
        for name in ("query", "value"):
            layer = f"bert.encoder.layer.0.attention.self.{name}"
            a, b = torch.randn(2, 8), torch.randn(8, 2)
            saved |= {f"base_model.model.{layer}.lora_A.weight": a, f"base_model.model.{layer}.lora_B.weight": b}
            state[f"{layer}.weight"] = state[f"{layer}.weight"] + 16 / 2 * b @ a
        missing = trained.load_state_dict(state, strict=False).missing_keys
        whole = {name: tensor for name, tensor in trained.state_dict().items() if name in missing}
        saved |= {f"base_model.model.{name}": tensor.clone() for name, tensor in whole.items()}
        adapter = tmp_path / "adapter"
        adapter.mkdir()
        save_file(saved, adapter / "adapter_model.safetensors")
        told = {"peft_type": "LORA", "r": 2, "lora_alpha": 16, "base_model_name_or_path": str(folder)}
        (adapter / "adapter_config.json").write_text(json.dumps(told))
        model = load_model(f"hf:{adapter}", media="text", classes=["a", "b", "c"])
        wrapped, rows = self.rows(model)
        torch.testing.assert_close(wrapped(rows).logits, trained(**self.inputs(transformers, folder)).logits)
        assert any("added to" in note and "2 low-rank updates" in note for note in model.notes)
        told["base_model_name_or_path"] = "someone/else"
        (adapter / "adapter_config.json").write_text(json.dumps(told))
        refused(
            f"hf:{adapter}", "an adapter of someone/else, which is not here", "--model-arg base=FOLDER", media="text"
        )
        again = load_model(f"hf:{adapter}", media="text", classes=["a", "b", "c"], model_args={"base": str(folder)})
        torch.testing.assert_close(self.rows(again)[0](rows).logits, wrapped(rows).logits)
        whole_base = transformers.BertForSequenceClassification.from_pretrained(folder)
        torch.save({"model": whole_base.state_dict()}, "base.pt")
        beside = load_model(  # the adapter's folder, and its base in a file
            f"hf:{adapter}", media="text", classes=["a", "b", "c"], model_args={"base": str(folder)}, weights="base.pt"
        )
        torch.testing.assert_close(self.rows(beside)[0](rows).logits, wrapped(rows).logits)
        turned = load_model(f"hf:{folder}", media="text", classes=["a", "b", "c"], weights=str(adapter))
        torch.testing.assert_close(self.rows(turned)[0](rows).logits, wrapped(rows).logits)
        (adapter / "adapter_config.json").write_text(json.dumps({**told, "use_dora": True}))
        refused(f"hf:{adapter}", "is of the kind DoRA", "merge_and_unload", media="text")

    def test_a_scan_of_texts(self, transformers: Any, folder: Path, tmp_path: Path) -> None:
        """From a table of texts to losses: those of the model called by its own library."""
        module = self.classifier(transformers, folder)
        texts = [
            f"{start} {end}" for start in ("the film was", "a very", "bad", "good film", "was") for end in WORDS[5:]
        ]
        labels = ["neg" if "bad" in text else "pos" for text in texts]
        rows = "\n".join(f"{text},{label}" for text, label in zip(texts, labels, strict=True))
        (tmp_path / "t.csv").write_text(f"text,label\n{rows}\n")
        command = [
            "scan",
            str(tmp_path / "t.csv"),
            "--input",
            "text",
            "--model",
            f"hf:{folder}",
            "--db",
            str(tmp_path / "t.db"),
        ]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        with sqlite3.connect(tmp_path / "t.db") as connection:
            found = dict(
                connection.execute(
                    "SELECT e.text, s.loss FROM scores AS s JOIN examples AS e ON e.id = s.example_id"
                ).fetchall()
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        with torch.no_grad():
            logits = module(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        wanted = nn.functional.cross_entropy(
            logits, torch.tensor([label == "pos" for label in labels]).long(), reduction="none"
        )
        torch.testing.assert_close(torch.tensor([found[text] for text in texts]), wanted, atol=1e-4, rtol=1e-4)

    def test_a_network_that_is_no_classifier_gives_the_mean_of_its_tokens(
        self, transformers: Any, folder: Path
    ) -> None:
        torch.manual_seed(0)
        module = transformers.BertModel(self.bert(transformers)).eval()
        module.save_pretrained(folder)
        model = load_model(f"hf:{folder}", media="text", classes=["neg", "pos"])
        wrapped, rows = self.rows(model)
        network = inspect_network(wrapped, rows, 2)
        for i, text in enumerate(TEXTS):
            alone = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
            hidden = module(**alone).last_hidden_state[0]
            torch.testing.assert_close(network(rows)[0][i], hidden.mean(0).detach())
        assert (network.head, network.own_classes) == (None, False)
        assert "BertModel is no classifier: the mean of its last hidden state is taken" in model.notes

    def test_a_checkpoint_beside_the_folder(self, transformers: Any, folder: Path, tmp_path: Path) -> None:
        self.classifier(transformers, folder)
        torch.manual_seed(5)
        tuned = transformers.BertForSequenceClassification(self.bert(transformers, num_labels=4)).eval()
        state = {f"model.{name}": value.clone() for name, value in tuned.state_dict().items()}
        state["model.bert.embeddings.position_ids"] = torch.arange(16)[None]
        torch.save({"state_dict": state}, tmp_path / "w.ckpt")
        model = load_model(f"hf:{folder}", media="text", weights=str(tmp_path / "w.ckpt"))
        wrapped, rows = self.rows(model)
        torch.testing.assert_close(wrapped(rows).logits, tuned(**self.inputs(transformers, folder)).logits)
        assert "4 outputs, as the head of the checkpoint has" in model.notes

    def test_names_in_another_order(self, transformers: Any, folder: Path) -> None:
        self.classifier(transformers, folder, "NEG POS")
        classes = ["pos", "neg"]
        refused(f"hf:{folder}", "outputs are named NEG, POS; the data's classes stand as pos, neg",
                "Give --classes 'neg,pos'", media="text", classes=classes)  # fmt: skip
        model = load_model(f"hf:{folder}", media="text", classes=classes, ordered=True)
        assert "as --classes says" in model.notes[-1]
        assert len(load_model(f"hf:{folder}", media="text", classes=["a", "b"]).notes) == 1

    def test_pictures(self, transformers: Any, tmp_path: Path, picture: Image.Image) -> None:
        torch.manual_seed(0)
        config = transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12, image_size=16,
            patch_size=8, num_labels=3,
        )  # fmt: skip
        place = tmp_path / "vit"
        processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16})
        processor.save_pretrained(place)
        module = transformers.ViTForImageClassification(config).eval()
        module.save_pretrained(place)
        model = load_model(f"hf:{place}", classes=["a", "b", "c"])
        row = model.transform(picture)  # type: ignore[misc]
        wanted = processor(images=picture, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(row[None], wanted)
        torch.testing.assert_close(model.module(row[None]).logits, module(wanted).logits)
        assert "resized to 16, mean 0.5 and std 0.5" in model.notes[0]
        transformers.ViTModel(config).eval().save_pretrained(place)
        bare = load_model(f"hf:{place}", classes=["a", "b", "c"])
        hidden = bare.module.inner(wanted).last_hidden_state
        torch.testing.assert_close(bare.module(wanted), hidden.mean(1))

    def test_messages(self, transformers: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        refused(f"hf:{folder}", "there is no config.json", media="text")
        refused("hf:nobody/nothing", "curate does not download", "snapshot_download('nobody/nothing')", media="text")
        refused(f"hf:{folder}x", "There is no folder", "Did you mean", media="text")
        refused(f"hf:{folder}", "reads texts or pictures; the data holds rows of numbers", media="features")
        refused(f"hf:{folder}", "rows of columns", "--input", media="record")
        self.classifier(transformers, folder)
        refused(f"hf:{folder}", "--model-arg width is no setting of a bert model", media="text",
                model_args={"width": "3"})  # fmt: skip
        (folder / "model.safetensors").unlink()
        refused(f"hf:{folder}", "holds no weights", "save_pretrained", media="text")
        transformers.BertModel(self.bert(transformers)).save_pretrained(folder)
        text = (folder / "config.json").read_text().replace('"BertModel"', '"BertForSequenceClassification"')
        (folder / "config.json").write_text(text)
        refused(f"hf:{folder}", "its weights lack classifier.bias, classifier.weight", media="text")

    def test_code_of_a_repository_is_not_run(self, transformers: Any, folder: Path) -> None:
        (folder / "config.json").write_text('{"model_type": "odd", "auto_map": {"AutoConfig": "odd.Config"}}')
        (folder / "odd.py").write_text("raise RuntimeError('was run')")
        refused(f"hf:{folder}", "Python code of its own repository, which curate does not run", media="text")

    def test_identity(self, transformers: Any, folder: Path) -> None:
        self.classifier(transformers, folder)
        first, again = (load_model(f"hf:{folder}", media="text") for _ in range(2))
        assert (first.source_sha256, first.weights_sha256) == (again.source_sha256, again.weights_sha256)
        tuned = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        tuned.classifier.bias.data += 1
        tuned.save_pretrained(folder)
        other = load_model(f"hf:{folder}", media="text")
        assert other.weights_sha256 != first.weights_sha256


def losses_of(folder: Path, *options: str) -> tuple[dict[str, float], str]:
    database = folder.parent / "scan.db"
    result = CliRunner().invoke(main, ["scan", str(folder), "--db", str(database), "--no-cache", *options])
    assert result.exit_code == 0, result.output
    with sqlite3.connect(database) as connection:
        (notes,) = connection.execute("SELECT notes FROM runs ORDER BY id DESC LIMIT 1").fetchone()
        return dict(
            connection.execute(
                "SELECT e.key, s.loss FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
                "WHERE s.run_id = (SELECT max(id) FROM runs)"
            ).fetchall()
        ), notes


def test_a_scan_asks_the_model_as_its_library_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is an extra")
    generator = np.random.default_rng(0)
    wanted = {}
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12, image_size=16, patch_size=8,
        num_labels=3, id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2},
    )  # fmt: skip
    module = transformers.ViTForImageClassification(config).eval()
    processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16})
    for saved in (module, processor):
        saved.save_pretrained(tmp_path / "vit")
    for number in range(36):
        label = number % 3
        place = tmp_path / "pictures" / "abc"[label]
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(generator.integers(0, 255, (20 + number % 2, 24, 3), np.uint8))
        picture.save(place / f"{number}.png")
        with torch.no_grad():
            logits = module(processor(images=picture, return_tensors="pt")["pixel_values"]).logits
        wanted[f"{'abc'[label]}/{number}.png"] = float(nn.functional.cross_entropy(logits, torch.tensor([label])))
    for options in (("--solver", "exact"), ("--params", "head")):
        found, notes = losses_of(tmp_path / "pictures", "--model", f"hf:{tmp_path}/vit", *options)
        assert found == pytest.approx(wanted, rel=1e-4)
        assert "resized to 16" in notes


KEYWORDS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.fc = nn.Embedding(256, 6), nn.Linear(6, outputs)
    def forward(self, *, input_ids, scale):
        assert input_ids.dtype == torch.int64
        return {"logits": self.fc((self.embedding(input_ids) * scale).mean(1))}

def transform(row):
    return {"input_ids": torch.as_tensor(row).long(), "scale": torch.as_tensor(row[:1, None]).float() / 10}
"""


@pytest.mark.parametrize("solver", ["exact", "lissa"])
def test_a_scan_of_a_model_called_by_keyword(tmp_path: Path, solver: str) -> None:
    (tmp_path / "net.py").write_text(KEYWORDS)
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 256, (45, 5)).astype(float), np.arange(45) % 3
    np.savez(tmp_path / "rows.npz", x=x, y=np.array(["a", "b", "c"])[y], id=np.arange(45))
    scope: dict = {}
    exec(KEYWORDS, scope)
    with torch.no_grad():
        logits = scope["Net"]()(
            input_ids=torch.as_tensor(x).long(), scale=torch.as_tensor(x[:, :1, None]).float() / 10
        )["logits"]
    wanted = nn.functional.cross_entropy(logits, torch.as_tensor(y), reduction="none")
    options = ("--id", "id", "--model", f"{tmp_path}/net.py:Net", "--solver", solver, "--params", "all")
    found, _ = losses_of(tmp_path / "rows.npz", *options)
    assert found == pytest.approx({str(i): float(loss) for i, loss in enumerate(wanted)}, rel=1e-4)


def test_a_model_with_more_classes_than_the_data(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(KEYWORDS)
    x, y = np.random.default_rng(0).integers(0, 256, (45, 5)).astype(float), np.arange(45) % 3
    np.savez(tmp_path / "rows.npz", x=x, y=np.array(["a", "b", "c"])[y], id=np.arange(45))
    options = ("--id", "id", "--model", f"{tmp_path}/net.py:Net", "--model-arg", "outputs=5")
    _, notes = losses_of(tmp_path / "rows.npz", *options)
    assert "name all 5 in their order with --classes" in notes
    named, notes = losses_of(tmp_path / "rows.npz", *options, "--classes", "z,a,b,c,y")
    assert "feature extractor" not in notes
    assert all(loss > 0 for loss in named.values())


def test_size_is_the_size_of_the_preset(fine_tuned: tuple[nn.Module, str], picture: Image.Image) -> None:
    pytest.importorskip("timm")
    for spec, weights in ((f"torchvision:{NET}", fine_tuned[1]), ("timm:test_resnet", None)):
        if weights is None:
            import timm

            module = timm.create_model("test_resnet", num_classes=3)
            weights = str(Path(fine_tuned[1]).with_name("timm.pt"))
            torch.save(module.state_dict(), weights)
        model = load_model(spec, model_args={"size": "48"}, weights=weights, media="image", classes=["a", "b", "c"])
        assert model.transform is not None
        assert model.transform(picture).shape == (3, 48, 48)
        assert "cropped to 48" in " ".join(model.notes)
        with pytest.raises(ModelError, match="size is 0"):
            load_model(spec, model_args={"size": "0"}, weights=weights, media="image", classes=["a", "b", "c"])


@pytest.mark.parametrize(
    ("kept", "key"),
    [
        (argparse.Namespace(model=NET, val_crop_size=40, val_resize_size=48, lr=0.1), "args"),
        ({"image_size": 40, "optimizer": "adamw"}, "hyper_parameters"),
        ({"input_size": (3, 40, 40), "mean": (0.5, 0.5, 0.5), "std": [0.25, 0.25, 0.25]}, "args"),
    ],
)
def test_a_checkpoint_tells_the_size_of_its_training(
    fine_tuned: tuple[nn.Module, str], picture: Image.Image, tmp_path: Path, kept: object, key: str
) -> None:
    file = tmp_path / "best.pth"
    torch.save({"model": fine_tuned[0].state_dict(), key: kept, "epoch": 3}, file)

    def asked(**arguments: str) -> tuple[torch.Tensor, str]:
        spec = f"torchvision:{NET}"
        model = load_model(spec, model_args=arguments, weights=str(file), media="image", classes=["a", "b", "c"])
        assert model.transform is not None
        return model.transform(picture), " ".join(model.notes)

    row, notes = asked()
    assert row.shape == (3, 40, 40)
    assert f"of 40 pixels{' and their mean and std' if 'mean' in str(kept) else ''}, as the checkpoint's" in notes
    assert ("mean 0.5 and std 0.25" in notes) == ("mean" in str(kept))
    assert ("resized to 48" in notes) == isinstance(kept, argparse.Namespace)
    assert "left unread" not in notes
    row, notes = asked(size="32")  # a person knows better
    assert row.shape == (3, 32, 32)
    assert "40" not in notes


def test_a_size_that_no_network_was_trained_on_is_not_believed(
    fine_tuned: tuple[nn.Module, str], tmp_path: Path
) -> None:
    for said in ({"img_size": True}, {"img_size": 3}, {"input_size": (3, 40, 64)}, {"img_size": "40"}, {"mean": [0.5]}):
        torch.save({"model": {"w": torch.ones(1)}, "args": said}, tmp_path / "w.pt")
        assert read_checkpoint(str(tmp_path / "w.pt")).trained == AsTrained()
