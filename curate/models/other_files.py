"""Files that are taken for models and are none that curate can differentiate: what each is, and the way to one.

Knows endings and folders; loads nothing but a whole module of torch from a checkpoint that its user trusts.
"""

from pathlib import Path

import torch
from torch import nn

from curate.errors import ModelError
from curate.models.weight_files import SUFFIXES

_OWN = "Write its architecture down and load its weights: --model file.py:NAME --weights FILE."
_ENDINGS = {
    (".onnx",): (
        "ONNX, a graph without gradients",
        "Give the PyTorch model that it was exported from, with its weights.",
    ),
    (".keras", ".h5", ".hdf5", ".tflite", ".pb"): (
        "of Keras or TensorFlow",
        "Only PyTorch models are read. Without one: --pred-probs FILE with its class probabilities, or its features as "
        "an .npz (x, y), which need no model.",
    ),
    (".pt2",): ("a graph that torch.export wrote", "Give the module that it was exported from, with its weights."),
    (".engine", ".trt", ".mlmodel", ".mlpackage", ".gguf", ".ggml", ".xml"): (
        "made for inference alone",
        "Give the PyTorch model that it was made from, with its weights.",
    ),
}
"""By endings: what such a file is, and what to give in its place."""
_SCRIPT = "python -c \"import torch; torch.save(torch.jit.load('{name}').state_dict(), 'weights.pth')\""


def refuse_weights(path: Path) -> None:
    """Raise ``ModelError`` for a file of weights of another library."""
    for endings, (what, way) in _ENDINGS.items():
        if path.suffix.lower() in endings:
            raise ModelError(f"{path.as_posix()} is {what}: no weights of a PyTorch model.", way)


def is_scripted(path: Path, message: str) -> ModelError | None:
    """The error for a TorchScript archive, if that is what ``message`` of torch speaks of."""
    if "TorchScript" not in message:
        return None
    line = _SCRIPT.format(name=path.as_posix())
    return ModelError(f"{path.as_posix()} is a TorchScript archive.", f"Save its weights alone: {line}.")


def refuse_model(spec: str) -> None:
    """Raise ``ModelError`` if the model is named by a file or a folder that stands for none; with the way to one."""
    path = Path(spec)
    if path.is_dir():
        _refuse_folder(path)
    if not path.is_file() or path.suffix == ".py":
        return
    for endings, (what, way) in _ENDINGS.items():
        if path.suffix.lower() in endings:
            raise ModelError(f"--model {spec} is {what}.", way)
    if path.suffix.lower() in SUFFIXES:
        raise ModelError(
            f"--model {spec} is a file of weights.",
            f"Say what they are of: --model file.py:NAME --weights {spec} (or torchvision:resnet18 ...); a whole "
            "module in it is loaded with --trust-checkpoint, which may run any code.",
        )


def _refuse_folder(path: Path) -> None:
    if any((path / name).is_file() for name in ("config.json", "adapter_config.json")) or any(
        path.glob("checkpoint-*")
    ):
        raise ModelError(
            f"--model {path.as_posix()} is a folder.", f"Of transformers it is --model hf:{path.as_posix()}."
        )
    if (path / "saved_model.pb").is_file():
        what, way = _ENDINGS[".keras", ".h5", ".hdf5", ".tflite", ".pb"]
        raise ModelError(f"--model {path.as_posix()} is {what}.", way)


def whole_module(spec: str) -> nn.Module:
    """The module that ``torch.save(model)`` wrote into a file that its user trusts. Raises ``ModelError``."""
    try:
        loaded = torch.load(spec, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{spec} needs Python code that is not here: {error}.", "Run curate where that code can be imported."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise is_scripted(Path(spec), str(error)) or ModelError(
            f"{spec} is no checkpoint, or was cut short ({str(error).splitlines()[0][:160]}).", "Copy or save it again."
        ) from error
    if isinstance(loaded, torch.jit.ScriptModule):
        line = _SCRIPT.format(name=spec)
        raise ModelError(f"{spec} is a TorchScript archive.", f"Save its weights alone: {line}.")
    if not isinstance(loaded, nn.Module):
        raise ModelError(f"{spec} holds a {type(loaded).__name__}, no module.", _OWN)
    return loaded
