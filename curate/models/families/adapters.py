"""LoRA adapters of peft: small matrices beside a model that lies elsewhere, added to its weights.

W + s B A with s = alpha / r, or alpha / sqrt(r) if the adapter says so (Hu et al. 2021, arXiv 2106.09685; Kalajdzievski
2023). What was trained whole, a classifier most of the time, stands in the adapter as it is. Knows the files that peft
writes, and needs no peft; other kinds of adapters are told.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curate.errors import ModelError
from curate.files import strict_json
from curate.files.reading import read_text
from curate.models.weights import State, read_state_dict

CONFIG = "adapter_config.json"
FILES = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
_PAIRS = {"lora_A": "lora_B", "lora_embedding_A": "lora_embedding_B"}


@dataclass(frozen=True)
class Adapter:
    """``whole`` are tensors that take the place of the base's, ``low`` pairs (A, B) by the weight that they add to."""

    base: str
    settings: dict[str, Any]
    whole: State
    low: dict[str, tuple[Tensor, Tensor]]
    sha256: str

    @property
    def outputs(self) -> int | None:
        """Rows of the classifier that it holds; None if it holds none."""
        heads = [tensor for name, tensor in self.whole.items() if name.endswith("weight") and tensor.ndim == 2]
        return len(heads[-1]) if heads else None

    def merge(self, module: nn.Module) -> list[str]:
        """Adds itself to the base. Raises `ModelError` if it is another model's. Returns a note."""
        state = module.state_dict()
        odd = [name for name in (*self.low, *self.whole) if name not in state]
        odd += [name for name, tensor in self.whole.items() if name in state and state[name].shape != tensor.shape]
        if odd:
            raise ModelError(f"The adapter does not fit {self.base}: {', '.join(odd[:4])}.", "Is this its base?")
        for name, (a, b) in self.low.items():
            added = self._scale(name, len(a)) * (b.float() @ a.float())
            added = added if added.shape == state[name].shape else added.T  # embeddings, and layers that stand turned
            if added.shape != state[name].shape:
                raise ModelError(f"The adapter does not fit {self.base}: {name}.", "Is this its base?")
            state[name] += added.to(state[name])
        module.load_state_dict({**state, **self.whole})
        whole = f", {len(self.whole)} tensors trained whole" if self.whole else ""
        return [f"the adapter was added to {self.base}: {len(self.low)} low-rank updates{whole}"]

    def _scale(self, name: str, rank: int) -> float:
        layer = name.removesuffix(".weight")
        alphas = self.settings.get("alpha_pattern") or {}
        own = next((value for key, value in alphas.items() if layer == key or layer.endswith(f".{key}")), None)
        alpha = float(own if own is not None else self.settings.get("lora_alpha", rank))
        return alpha / (rank**0.5 if self.settings.get("use_rslora") else rank)


def is_adapter(weights: str | None) -> bool:
    """Whether the weights named are the folder of an adapter."""
    return weights is not None and (Path(weights) / CONFIG).is_file()


def read_adapter(folder: Path, spec: str, base: object) -> Adapter:
    """The adapter in a folder; ``base`` is what a person says of its base. Raises `ModelError`."""
    try:
        settings = strict_json.loads(read_text(folder / CONFIG))
        kind = str(settings.get("peft_type", "LORA")).upper()
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / CONFIG} cannot be read: {error}.", "Copy the adapter again.") from error
    named = str(base or settings.get("base_model_name_or_path") or "another model")
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if kind != "LORA" or settings.get("use_dora") or file is None:
        what = "has no weights beside it" if file is None else f"is of the kind {'DoRA' if kind == 'LORA' else kind}"
        raise ModelError(
            f"{spec} is an adapter of {named}, and {what}.",
            "Merge it first, with peft: AutoPeftModelForSequenceClassification.from_pretrained(ADAPTER)"
            ".merge_and_unload().save_pretrained(FOLDER), and name that folder.",
        )
    state, sha, _ = read_state_dict(file.as_posix())
    whole, low = _parts(state)
    return Adapter(named, settings, whole, low, sha)


def _parts(state: State) -> tuple[State, dict[str, tuple[Tensor, Tensor]]]:
    named = {_plain(name): tensor for name, tensor in state.items()}
    low: dict[str, tuple[Tensor, Tensor]] = {}
    for name in list(named):
        first = next((part for part in _PAIRS if f".{part}" in name), None)
        if first is not None:
            other = name.replace(f".{first}", f".{_PAIRS[first]}")
            if other in named:
                low[f"{name.partition(f'.{first}')[0]}.weight"] = (named.pop(name), named.pop(other))
    return {name: tensor for name, tensor in named.items() if torch.is_tensor(tensor)}, low


def _plain(name: str) -> str:
    """Without what peft puts around the base's names."""
    name = name.removeprefix(PREFIX)
    for part in (".modules_to_save", ".base_layer", ".default"):
        name = name.replace(part, "")
    return name
