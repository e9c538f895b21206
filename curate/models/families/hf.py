"""``hf:ID-OR-FOLDER``: a model of transformers for the texts or the pictures of a data set.

A classifier where the configuration's architectures name one, else the bare network with the masked mean of its last
hidden state: a feature extractor. Nothing is fetched, and no Python code of a model's repository is run.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from curate.errors import ModelError
from curate.files import strict_json
from curate.files.reading import read_text
from curate.models.families.adapters import CONFIG, Adapter, is_adapter, read_adapter
from curate.models.families.common import (
    Built,
    ModelSpec,
    building,
    checkpoint_of,
    fill,
    holds,
    library,
    normalised,
    picture,
    side,
)
from curate.settings.specs import near_path

TOKENS = 128
HEADS = {"text": "ForSequenceClassification", "image": "ForImageClassification"}
_WEIGHTS = ("*.safetensors", "*.bin")
_SMALL = ("*.json", "*.txt", "*.model", "*.jinja")
PREPARING = {
    "text": (
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "tokenizer.model",
        "sentencepiece.bpe.model",
    ),
    "image": ("preprocessor_config.json", "processor_config.json"),
}
"""Files that say how texts or pictures are prepared: without one transformers makes something up."""


def build_hf(asked: ModelSpec) -> Built:
    """The model of a folder or of the cache of transformers."""
    if asked.media not in HEADS:
        hint = " Name the column of the text with --input." if asked.media == "record" else ""
        raise ModelError(f"{asked.spec} reads texts or pictures; the data holds {holds(asked.media)}.", hint.strip())
    transformers = library("transformers", "hf")
    arguments = dict(asked.arguments)
    adapter, folder, places = _places(asked, arguments.pop("base", None))
    if is_adapter(asked.weights):  # the weights are the folder's own, and the adapter's
        asked = replace(asked, weights=None)
    if adapter is not None and adapter.outputs is not None:
        arguments.setdefault("num_labels", adapter.outputs)
    length = arguments.pop("max_length", None)
    if "num_classes" in arguments:
        arguments["num_labels"] = arguments.pop("num_classes")
    prepared = _preparing(places, asked)
    with _silent(transformers), building(asked.spec):
        config = _config(transformers, folder, asked, arguments)
        prepare: _Tokens | _Pictures = (
            _Tokens.of(transformers, prepared, config, length)
            if asked.media == "text"
            else _Pictures(transformers.AutoImageProcessor.from_pretrained(prepared, local_files_only=True))
        )
        if asked.weights is not None:
            module, sha, notes = _filled(transformers, config, asked, "num_labels" in arguments, adapter)
        else:
            module, sha, notes = _pretrained(transformers, folder, config, asked, adapter)
    if isinstance(prepare, _Tokens):
        module.config.pad_token_id = prepare.tokenizer.pad_token_id
    classifies = not isinstance(module, Pooled)
    if classifies:
        notes += _same_order(config, asked)
    identity = f"transformers {transformers.__version__} {_sha(folder, _SMALL)}"
    if prepared != folder:
        identity += _sha(prepared, _SMALL)
        notes.append(f"how {holds(asked.media)} are prepared is taken from {prepared}")
    return Built(module, prepare, sha, identity, [prepare.described, *notes])


class Pooled(nn.Module):
    """The mean of a network's last hidden state over the tokens that the attention mask shows, ``[b d]``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @property
    def config(self) -> Any:
        """The inner model's configuration."""
        return self.inner.config

    def forward(self, *args: Tensor, **inputs: Tensor) -> Tensor:
        """The mean of the last hidden state over what is no padding."""
        hidden: Tensor = self.inner(*args, **inputs).last_hidden_state
        if hidden.ndim == 4:  # [b d h w], a convolutional network
            return hidden.mean((2, 3))
        mask = inputs.get("attention_mask")
        if mask is None:
            return hidden.mean(1)
        weight = mask[:, :, None].to(hidden)
        return (hidden * weight).sum(1) / weight.sum(1).clamp_min(1)


class _Tokens:
    """A text -> its token ids, attention mask and the like, padded to one length."""

    def __init__(self, tokenizer: Any, length: int) -> None:
        self.tokenizer, self.length = tokenizer, length
        self.described = f"texts: {type(tokenizer).__name__}, cut and padded to {length} tokens"

    @classmethod
    def of(cls, transformers: Any, folder: Path, config: Any, asked: object) -> "_Tokens":
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if isinstance(asked, int):
            return cls(tokenizer, asked)
        positions = getattr(config, "max_position_embeddings", None) or TOKENS
        if "roberta" in str(config.model_type):  # its positions start behind the padding's number
            positions -= (config.pad_token_id or 0) + 1
        return cls(tokenizer, min(TOKENS, tokenizer.model_max_length, positions))

    def __call__(self, text: str) -> dict[str, Tensor]:
        found = self.tokenizer(text, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt")
        return {name: value[0] for name, value in found.items()}

    def beyond(self, text: str) -> tuple[int, int]:
        """Tokens of a text that are read, and that are cut off."""
        if len(text) < self.length:  # a token has one letter at least
            return len(text), 0
        count = len(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])
        return min(count, self.length), max(0, count - self.length)


class _Pictures:
    def __init__(self, processor: Any) -> None:
        self.processor = processor
        parts = []
        if getattr(processor, "do_resize", False):
            parts.append(f"resized to {_sides(processor.size)}")
        if getattr(processor, "do_center_crop", False):
            parts.append(f"cropped to {_sides(processor.crop_size)}")
        if getattr(processor, "do_normalize", False):
            parts.append(normalised(processor.image_mean, processor.image_std))
        self.described = f"pictures: {', '.join(parts) or 'as they are'} ({type(processor).__name__})"

    def __call__(self, sample: Any) -> Tensor:
        result: Tensor = self.processor(images=picture(sample), return_tensors="pt")["pixel_values"][0]
        return result


def _sides(size: Any) -> str:
    found = dict(size)
    if found.get("height") and found.get("width"):
        return side((found["height"], found["width"]))
    return str(next((value for value in found.values() if value), "?"))


@contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """transformers reports on stderr what is said in notes and errors here."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(50)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _folder(asked: ModelSpec) -> Path:
    """The folder with the model's files: the one named, or the local cache's of that id."""
    path = Path(asked.name)
    if not path.is_dir():
        if asked.name.startswith((".", "/", "~")) or "\\" in asked.name or asked.name.count("/") > 1:
            raise ModelError(f"There is no folder {asked.name} (--model {asked.spec}).", near_path(path))
        hub = library("huggingface_hub", "hf")
        try:
            path = Path(hub.snapshot_download(asked.name, local_files_only=True))
        except Exception as error:  # LocalEntryNotFoundError, or an id that cannot be one
            raise _not_here(asked, "its files") from error
    if not (path / "config.json").is_file():
        _refuse_trainers(path, asked)
        raise ModelError(
            f"{asked.spec}: there is no config.json in {path}.",
            "Save model and tokenizer with save_pretrained(FOLDER).",
        )
    return path


def _places(asked: ModelSpec, base: object) -> tuple[Adapter | None, Path, list[Path]]:
    """The adapter if the folder named holds one, the model's own folder, and where preparation is looked for."""
    named = Path(asked.name)
    if is_adapter(asked.weights):
        assert asked.weights is not None
        adapter = read_adapter(Path(asked.weights), asked.spec, asked.name)
        folder = _folder(asked)
        return adapter, folder, [folder, Path(asked.weights), folder.parent]
    if not (named / CONFIG).is_file() or (named / "config.json").is_file():
        folder = _folder(asked)
        return None, folder, [folder, folder.parent]
    adapter = read_adapter(named, asked.spec, base)
    beside = named / adapter.base
    where = beside.as_posix() if not Path(adapter.base).is_dir() and beside.is_dir() else adapter.base
    try:
        folder = _folder(replace(asked, name=where))
    except ModelError as error:
        raise ModelError(
            f"{asked.spec} is an adapter of {adapter.base}, which is not here.",
            "Say where its base lies: --model-arg base=FOLDER; or merge the two with peft, merge_and_unload().",
        ) from error
    return adapter, folder, [named, named.parent, folder]


def _refuse_trainers(path: Path, asked: ModelSpec) -> None:
    """Raises for the output of a training that holds checkpoints."""
    numbered = [(child.name.partition("-")[2], child) for child in path.glob("checkpoint-*")]
    steps = [
        (int(number), child)
        for number, child in numbered
        if number.isdecimal() and any((child / name).is_file() for name in ("config.json", CONFIG))
    ]
    if not steps:
        return
    newest = max(steps)[1]
    best = Path(str(_told(newest / "trainer_state.json").get("best_model_checkpoint") or "")).name
    named = {child.name: child for _, child in sorted(steps, reverse=True)}
    first = named.get(best, newest)
    listed = ", ".join(f"{name} (the best one)" if name == best else name for name in list(named)[:6])
    raise ModelError(
        f"{asked.spec} is the output of a training, with its checkpoints inside: {listed}.",
        f"Name one: --model hf:{first.as_posix()}.",
    )


def _told(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none."""
    try:
        found = strict_json.loads(read_text(file))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _preparing(places: list[Path], asked: ModelSpec) -> Path:
    """The first folder whose files say how rows are prepared: the model's, the one above, an adapter's base."""
    for place in places:
        if any((place / name).is_file() for name in PREPARING[asked.media]):
            return place
    what = "tokenizer" if asked.media == "text" else "image processor"
    raise ModelError(
        f"{asked.spec}: neither {places[0]} nor the folder above holds a {what}.",
        f"Save it beside the model: {what.split()[-1]}.save_pretrained('{places[0].as_posix()}').",
    )


def _not_here(asked: ModelSpec, what: str) -> ModelError:
    hub = library("huggingface_hub", "hf")
    return ModelError(
        f"{asked.spec}: there is no such folder, {what} are not in {hub.constants.HF_HUB_CACHE}, "
        "and curate does not download.",
        f"Fetch them with `python -c \"import huggingface_hub; huggingface_hub.snapshot_download('{asked.name}')\"`.",
    )


def _config(transformers: Any, folder: Path, asked: ModelSpec, arguments: dict[str, object]) -> Any:
    try:
        config, unknown = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, return_unused_kwargs=True, **arguments
        )
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ModelError(
            f"{asked.spec} needs Python code of its own repository, which curate does not run.",
            "Load it in a file of yours: --model file.py:factory.",
        ) from error
    if unknown:
        raise ModelError(
            f"{asked.spec}: --model-arg {next(iter(unknown))} is no setting of a {config.model_type} model.",
            f"Its settings are those of {asked.name}'s config.json, and max_length.",
        )
    return config


def _classifier(transformers: Any, media: str) -> Any:
    return getattr(transformers, f"AutoModel{HEADS[media]}")


def _filled(
    transformers: Any, config: Any, asked: ModelSpec, said: bool, adapter: Adapter | None
) -> tuple[Any, str, list[str]]:
    def build(outputs: int | None) -> nn.Module:
        if outputs is not None:
            config.num_labels = outputs
        module: nn.Module = _classifier(transformers, asked.media).from_config(config, attn_implementation="eager")
        return module

    given = checkpoint_of(asked)
    assert given is not None
    if adapter is not None:  # the file is its base: what was trained whole stands in the adapter
        whole = {name: tensor for name, tensor in given.state.items() if name not in adapter.whole}
        given = replace(given, state={**whole, **adapter.whole})
    module, sha, notes = fill(asked, given, build, config.num_labels, said)
    return _adapted(module, sha, notes, adapter)


def _pretrained(
    transformers: Any, folder: Path, config: Any, asked: ModelSpec, adapter: Adapter | None
) -> tuple[Any, str, list[str]]:
    files = sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))
    if not files:
        if not Path(asked.name).is_dir():
            raise _not_here(asked, "its weights")
        raise ModelError(
            f"{asked.spec}: the folder holds no weights (model.safetensors).",
            "Save the model with save_pretrained(FOLDER), or pass --weights FILE.",
        )
    architectures = getattr(config, "architectures", None) or []
    classifies = adapter is not None or any(name.endswith(HEADS[asked.media]) for name in architectures)
    maker = _classifier(transformers, asked.media) if classifies else transformers.AutoModel
    module, report = maker.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        attn_implementation="eager",
        output_loading_info=True,
        ignore_mismatched_sizes=adapter is not None,  # another number of classes, which the adapter's head has
    )
    # the mean of the last hidden state does not pass the pooler
    missing = sorted(name for name in map(str, report["missing_keys"]) if classifies or "pooler" not in name)
    mismatched = [str(found[0]) for found in report.get("mismatched_keys", ())]
    supplied = set(adapter.whole) if adapter is not None else set()
    missing = [name for name in dict.fromkeys([*missing, *mismatched]) if name not in supplied]
    if missing:  # transformers would fill them with random numbers
        raise ModelError(
            f"{asked.spec}: its weights lack {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}.",
            "Take the folder of the fine-tuned model, or pass --weights FILE.",
        )
    notes = []
    if not classifies:
        notes.append(
            f"{', '.join(architectures) or 'the model'} is no classifier: the mean of its last hidden state is taken"
        )
        module = Pooled(module)
    sha = _sha(folder, _WEIGHTS)
    return _adapted(module, sha, notes, adapter)


def _adapted(module: nn.Module, sha: str, notes: list[str], adapter: Adapter | None) -> tuple[Any, str, list[str]]:
    if adapter is None:
        return module, sha, notes
    return module, hashlib.sha256(f"{sha} {adapter.sha256}".encode()).hexdigest(), [*notes, *adapter.merge(module)]


def _same_order(config: Any, asked: ModelSpec) -> list[str]:
    """The configuration's names of the outputs against the data's classes. Raises where only their order differs."""
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    own = {name.casefold(): name for name in asked.classes}
    order = [own.get(name.casefold(), "") for name in names]
    if sorted(order) != sorted(asked.classes) or order == list(asked.classes):
        return []
    said = f"the model's outputs are named {', '.join(names)}; the data's classes stand as {', '.join(asked.classes)}"
    if asked.ordered:
        return [f"{said}, as --classes says"]
    raise ModelError(f"{asked.spec}: {said}.", f"Give --classes '{','.join(order)}'.")


def _sha(folder: Path, patterns: tuple[str, ...]) -> str:
    """Over the names and contents of the files that match: one file alone is its own sha256."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    found = []
    for file in files:
        with file.open("rb") as opened:
            found.append((file.name, hashlib.file_digest(opened, "sha256").hexdigest()))
    return found[0][1] if len(found) == 1 else hashlib.sha256(repr(found).encode()).hexdigest()
