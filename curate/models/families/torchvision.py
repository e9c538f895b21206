"""``torchvision:NAME``: a classifier of torchvision, with the preprocessing of its pretrained weights.

``--model-arg weights=IMAGENET1K_V1`` takes other pretrained weights, and their preprocessing, than the newest;
A network that was fine-tuned on pictures of another size than the preset's is given these: its checkpoint says how
large they were if torchvision's reference script wrote it, else ``--model-arg size=64`` does.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from curate.errors import ModelError
from curate.models.families.common import (
    Built,
    ModelSpec,
    building,
    checkpoint_of,
    fill,
    image_size,
    no_download,
    normalised,
    only_pictures,
    side,
)
from curate.models.families.common import picture as as_picture
from curate.models.training import AsTrained
from curate.models.weights import read_state_dict
from curate.settings.specs import did_you_mean


def build_torchvision(asked: ModelSpec) -> Built:
    """The model of this name in torchvision."""
    only_pictures(asked)
    name = _known(asked.name)
    arguments = dict(asked.arguments)
    weights = _weights(name, arguments.pop("weights", "DEFAULT"))
    given = checkpoint_of(asked)
    trained = given.trained if given is not None else AsTrained()
    one_size = name.startswith("vit_")
    if one_size and trained.size is not None and not {"size", "image_size"} & set(arguments):
        arguments["image_size"] = trained.size
    size = image_size(asked, arguments, kept=one_size)
    preset = weights.transforms(**_as_told(size, trained))
    notes = [_preprocessing(name, preset), *([trained.note] if trained.note and size in (None, trained.size) else [])]

    def build(outputs: int | None) -> nn.Module:
        chosen = arguments if outputs is None else {**arguments, "num_classes": outputs}
        with building(asked.spec):
            module: nn.Module = torchvision.models.get_model(name, weights=None, **chosen)
        return module

    if given is not None:
        said = arguments.get("num_classes")
        module, sha, found = fill(asked, given, build, said if isinstance(said, int) else 1000, said is not None)
        notes += found
    else:
        file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        if not file.is_file():
            fetch = f"import torchvision; torchvision.models.get_model('{name}', weights='{weights.name}')"
            raise no_download(asked, file.name, str(file.parent), fetch)
        _, sha, _ = read_state_dict(str(file))  # refuses a pickle that holds more than tensors
        with building(asked.spec):
            module = torchvision.models.get_model(name, weights=weights, progress=False, **arguments)
        notes.append(f"torchvision's pretrained weights {weights.name}, from {file.name}")
    return Built(module, _Preset(preset), sha, f"torchvision {torchvision.__version__} {preset}", notes)


def _as_told(size: int | None, trained: AsTrained) -> dict[str, Any]:
    """Options of a preset: ``size`` as a person said it, else what the checkpoint says of its training."""
    if size is not None and size != trained.size:
        told: dict[str, Any] = {"crop_size": size, "resize_size": size}
    elif trained.size is not None:
        told = {"crop_size": trained.size, "resize_size": trained.resized or trained.size}
    else:
        told = {}
    return told if trained.mean is None else told | {"mean": trained.mean, "std": trained.std}


class _Preset:
    def __init__(self, preset: Callable[[Any], Any]) -> None:
        self.preset = preset

    def __call__(self, sample: Any) -> torch.Tensor:
        result: torch.Tensor = self.preset(as_picture(sample))
        return result


def _known(name: str) -> str:
    classifiers = torchvision.models.list_models(module=torchvision.models)
    if name.lower() in classifiers:
        return name.lower()
    if name.lower() in torchvision.models.list_models():
        raise ModelError(f"torchvision:{name} is no classifier of pictures.", "curate reads single-label classifiers.")
    raise ModelError(f"torchvision has no model '{name}'.", did_you_mean(name.lower(), classifiers))


def _weights(name: str, chosen: object) -> Any:
    known = torchvision.models.get_model_weights(name)
    try:
        return known[str(chosen).rpartition(".")[2]]
    except KeyError:
        raise ModelError(
            f"torchvision:{name} has no weights '{chosen}' (--model-arg weights).",
            f"There is: {', '.join(known.__members__)}",
        ) from None


def _preprocessing(name: str, preset: Any) -> str:
    try:
        return (
            f"pictures: resized to {side(preset.resize_size)}, cropped to {side(preset.crop_size)}, "
            f"{normalised(preset.mean, preset.std)} (torchvision's preset for {name})"
        )
    except AttributeError:
        return f"pictures: torchvision's preset for {name}"
