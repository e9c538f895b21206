"""``curate.scan``: a scan from Python, of data and a model in memory or as the command line names them.

Knows what a caller may give and how it becomes settings; leaves the work to ``curate.pipeline.story``. It installs no
signal handler, writes nothing to stdout, and raises the exceptions of ``curate.errors``.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from curate.api.run import Run
from curate.errors import CurateError, ModelError, UsageError, of_environment
from curate.settings.merge import ScanSettings, given_settings, load_settings
from curate.settings.options import OPTIONS
from curate.settings.specs import MEMORY, did_you_mean

NOT_HERE = {
    "format": "Run.to_html() and Run.report tell of the run",
    "top": "Run.report and Run.to_html() take it",
    "verbose": "Run.report holds all of it",
    "quiet": "nothing is printed",
    "exit_zero": "there is no exit status",
}
"""Settings of the command line that mean nothing in Python, and what there is instead."""


def scan(
    train: Any,
    evaluation: Any = None,
    *,
    model: Any = None,
    transform: Callable[[Any], Any] | None = None,
    weights: Any = None,
    label: str | None = None,
    features: Any = None,
    pred_probs: Any = None,
    progress: bool | None = None,
    **settings: Any,
) -> Run:
    """Find the rows of ``train`` that are probably mislabeled, and those that harm; store the run, and return it.

    ``train`` and ``evaluation``: a path or spec as on the command line; arrays ``(x, y)``; a map-style data set of
    ``(input, label)`` or ``(input, label, key)``; a table of pandas, polars, pyarrow or the library datasets, whose
    column ``label`` holds the labels. With ``features``, also labels alone.

    ``model``: a torch module, which stays as it is (a copy is scanned), a fitted scikit-learn estimator, whose features
    or probabilities rows are compared by, or a spec as on the command line. ``transform`` makes a tensor of one row,
    for a module. ``weights``: files of trained weights. Without a model the inputs, or ``features`` ``[n, d]``, are
    what rows are compared by; ``features=(train, evaluation)`` are those of two sets.
    ``pred_probs`` ``[n, classes]``: out-of-sample probabilities of your own for the training rows, as one more expert;
    columns in the order of the classes, which are sorted unless ``classes`` gives their order.

    All other settings are those of the command line with ``_`` for ``-`` (``seed=1``, ``noise_rate="5%"``,
    ``db="other.db"``, ``name="intents"``, ``thumbnails=False``). Files of settings and the environment are read if
    ``train`` is a path or spec. A notebook shows a bar of how far it is; ``progress=True`` tells it on stderr
    elsewhere, False nowhere.

    Raises ``CurateError``: ``UsageError``, ``DataError``, ``ModelError``, ``NumericalError`` or ``NothingScanned``.
    """
    given = {
        "train": train,
        "evaluation": evaluation,
        "features": features,
        "pred_probs": pred_probs,
        "model": model,
        "weights": weights,
        "label": label,
        **settings,
    }
    try:
        return _scan({name: _plain(value) for name, value in given.items()}, transform, progress)
    except CurateError:
        raise
    except Exception as error:
        told = of_environment(error)
        if told is None:
            raise
        raise told from error


def _scan(given: dict[str, Any], transform: Callable[[Any], Any] | None, progress: bool | None) -> Run:
    from curate.models.loading import GivenModel
    from curate.pipeline.story import scan_opened
    from curate.process.progress import Progress
    from curate.sources.memory import GivenRows
    from curate.stages.prepare import Held, open_data

    found = _held(given)
    settings = _settings(given, found)
    rows = GivenRows(**{name: found.get(name) for name in _ROWS})
    held = Held(rows, GivenModel(transform=transform, **_as_model(found, transform)))
    told = Progress.of_caller(progress)
    with own_torch():
        return Run(Path(settings.db), scan_opened(settings, open_data(settings, told, held), told), held=held)


def _as_model(found: Mapping[str, Any], transform: Callable[[Any], Any] | None) -> dict[str, Any]:
    """The model that the caller holds, as a module or as an estimator."""
    from torch import nn

    from curate.models.estimators import GivenEstimator

    model = found.get("model")
    if model is None or isinstance(model, nn.Module):
        return {"module": model}
    if transform is not None:
        raise UsageError("A transform makes tensors for a torch module.", "Let the estimator be a pipeline with it.")
    return {"estimator": GivenEstimator(model, (found.get("train"), found.get("evaluation")))}


@contextmanager
def own_torch() -> Iterator[None]:
    """Torch as a process of its own finds it, whatever the caller has set: gradients on, tensors made on the CPU."""
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


_ROWS = ("train", "evaluation", "features", "evaluation_features", "pred_probs")


def _plain(value: Any) -> Any:
    """Paths as texts, also those in a list."""
    if isinstance(value, list | tuple) and value and all(isinstance(part, PathLike) for part in value):
        return [fspath(part) for part in value]
    return fspath(value) if isinstance(value, PathLike) else value


def _held(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of it is in memory, and not a text that names it."""
    from torch import nn

    from curate.models.estimators import is_estimator

    held = {
        name: given[name]
        for name in ("train", "evaluation", "features", "pred_probs", "model")
        if given[name] is not None and not isinstance(given[name], str)
    }
    if given["train"] is None:
        raise UsageError("Train is None: no data set was named.", "Give a path, arrays (x, y), a data set or a table.")
    model = held.get("model")
    if model is not None and (isinstance(model, type) or not (isinstance(model, nn.Module) or is_estimator(model))):
        raise ModelError(
            f"Model is a {type(model).__name__}, neither a torch module nor an estimator like scikit-learn's, nor a "
            "text that names a model.",
            "Of other models give what they say: features=, and pred_probs= of held-out folds.",
        )
    if isinstance(given["features"], str):
        raise UsageError("Features is a text.", "Give an array, [rows, features]; a file is scanned as train itself.")
    if given["features"] is not None and given["model"] is not None:
        raise UsageError("Features and a model were given.", "Rows are compared by one of them: leave out the other.")
    pair = held.get("features")
    if isinstance(pair, tuple):
        if len(pair) != 2:
            raise UsageError(f"Features is a tuple of {len(pair)}.", "Those of two sets: features=(train, evaluation).")
        held["features"], held["evaluation_features"] = pair
    for name, made in (("train", "features"), ("evaluation", "evaluation_features")):
        held |= _labelled(held, name, made)
    return held


def _labelled(held: dict[str, Any], name: str, made: str) -> dict[str, Any]:
    """Labels alone become the labels of the features, which then are the inputs."""
    from curate.sources.memory import is_labels, is_pair

    value: Any = held.get(name)
    alone = is_pair(value) and value[0] is None
    if not alone and not is_labels(value):
        return {}
    if held.get(made) is None:
        raise UsageError(
            f"{name} holds labels alone: rows are compared by what they are, not by their labels"
            + (" and pred_probs." if held.get("pred_probs") is not None else "."),
            "Give (x, y), or the numbers that a network makes of the rows by features=.",
        )
    return {name: (held[made], value[1] if alone else value), made: None}


def _settings(given: dict[str, Any], held: Mapping[str, Any]) -> ScanSettings:
    """What holds a word in the settings for what is in memory; from files only for data that lies in files."""
    for name, instead in NOT_HERE.items():
        if name in given:
            raise UsageError(f"{name} has no meaning in Python: {instead}.", "Leave it out.")
    words = {name: f"{MEMORY}:{name}" for name in held}
    if "model" in held:
        words["model"] = f"{MEMORY}:{type(held['model']).__name__}"
    asked = {"eval" if name == "evaluation" else name: words.get(name, value) for name, value in given.items()}
    asked.pop("features")
    for name in asked:
        if name not in OPTIONS:
            raise UsageError(f"There is no setting '{name}'.", did_you_mean(name, OPTIONS))
    return given_settings(asked) if "train" in held else load_settings(asked)
