"""``timm:NAME``: a classifier of timm, with the evaluation transform of its data configuration."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from curate.errors import ModelError
from curate.models.families.common import (
    Built,
    ModelSpec,
    building,
    checkpoint_of,
    fill,
    image_size,
    library,
    no_download,
    normalised,
    only_pictures,
    picture,
    side,
)
from curate.models.pictures import input_channels
from curate.models.training import AsTrained
from curate.models.weights import read_state_dict
from curate.settings.specs import did_you_mean

WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def build_timm(asked: ModelSpec) -> Built:
    """The model of this name in timm."""
    only_pictures(asked)
    timm = library("timm", "timm")
    if not timm.is_model(asked.name):
        known = timm.list_models()
        raise ModelError(f"timm has no model '{asked.name}'.", did_you_mean(asked.name.lower(), known))

    arguments = dict(asked.arguments)
    size = image_size(asked, arguments)
    given = checkpoint_of(asked)
    trained = given.trained if given is not None and "img_size" not in arguments else AsTrained()

    def build(outputs: int | None, **options: Any) -> Any:
        chosen = arguments if outputs is None else {**arguments, "num_classes": outputs}
        with building(asked.spec):
            return timm.create_model(asked.name, **{"pretrained": False, **chosen, **options})

    said = asked.arguments.get("num_classes")
    if given is not None:
        usual = said if isinstance(said, int) else int(build(None).num_classes)
        module, sha, notes = fill(asked, given, build, usual, said is not None)
    else:
        file = _pretrained(asked, build(None), said)
        _, sha, _ = read_state_dict(str(file))  # refuses a pickle that holds more than tensors
        module = build(None, pretrained=True, pretrained_cfg_overlay={"file": str(file), "hf_hub_id": None, "url": ""})
        notes = [f"timm's pretrained weights, from {file.name}"]
    transform, said_of_it = _transform(timm, module, asked, size, trained)
    notes += [trained.note] if trained.note and size in (None, trained.size) else []
    return Built(module, transform, sha, f"timm {timm.__version__} {said_of_it}", [said_of_it, *notes])


def _pretrained(asked: ModelSpec, module: nn.Module, outputs: object) -> Path:
    """The file of the pretrained weights, where this machine has it."""
    config: dict[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    hub_id, url, usual = config.get("hf_hub_id"), config.get("url"), config.get("num_classes")
    if outputs not in (None, 0, usual):
        raise ModelError(
            f"{asked.spec}: its pretrained weights have {usual} outputs; a head with {outputs} would be a random one.",
            "Give --weights FILE for the fine-tuned model, or leave num_classes out.",
        )
    if not hub_id and not url:
        raise ModelError(f"{asked.spec} has no pretrained weights.", "Pass --weights FILE.")
    hub = library("huggingface_hub", "timm")
    if hub_id:
        names = (config["hf_hub_filename"],) if config.get("hf_hub_filename") else WEIGHTS_FILES
        for name in names:
            found = hub.try_to_load_from_cache(hub_id, name)
            if isinstance(found, str):
                return Path(found)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / str(url or "").rpartition("/")[2]
    if url and cached.is_file():
        return cached
    fetch = f"import timm; timm.create_model('{asked.name}', pretrained=True)"
    where = hub.constants.HF_HUB_CACHE if hub_id else str(cached.parent)
    raise no_download(asked, str(hub_id or cached.name), where, fetch)


class _Transform:
    def __init__(self, transform: Any, mode: str) -> None:
        self.transform, self.mode = transform, mode

    def __call__(self, sample: Any) -> torch.Tensor:
        result: torch.Tensor = self.transform(picture(sample, self.mode))
        return result


def _transform(
    timm: Any, module: nn.Module, asked: ModelSpec, size: int | None, trained: AsTrained
) -> tuple[_Transform, str]:
    with building(asked.spec):
        config = timm.data.resolve_model_data_config(module)
        side_of = size or trained.size
        if side_of is not None:
            config |= {"input_size": (config["input_size"][0], side_of, side_of)}
            if side_of != trained.size:
                config |= {"crop_pct": 1.0}
            elif trained.resized is not None:
                config |= {"crop_pct": side_of / trained.resized}
        if trained.mean is not None:
            config |= {"mean": trained.mean, "std": trained.std}
        channels = input_channels(module) or config["input_size"][0]  # timm does not count in_chans in
        if channels == 1:  # timm's mean and std are those of colours
            config |= {key: (sum(config[key]) / len(config[key]),) for key in ("mean", "std")}
        transform = timm.data.create_transform(**config, is_training=False)
    if channels not in (1, 3):
        raise ModelError(f"{asked.spec} takes {channels} channels; pictures have 1 or 3.", "Leave in_chans out.")
    steps = {type(step).__name__: step for step in getattr(transform, "transforms", ())}
    resized = getattr(steps.get("Resize"), "size", None)
    text = (
        f"pictures: {'grey, ' if channels == 1 else ''}"
        f"{f'resized to {side(resized)}, ' if resized else ''}cropped to {side(config['input_size'][1:])}, "
        f"{normalised(config['mean'], config['std'])} (timm's evaluation transform for {asked.name})"
    )
    return _Transform(transform, "L" if channels == 1 else "RGB"), text
