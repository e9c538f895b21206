"""Settings of a scan: command line, environment, files and defaults -> one frozen ``ScanSettings``.

Knows the options, their types, where files of settings are found and what a file may ask for. Leaves the flags'
spelling and help to ``curate.cli``, and what the settings mean to ``curate.pipeline.story``. Standard library only.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from curate.errors import UsageError
from curate.settings.files import Layer, file_layers
from curate.settings.options import OPTIONS, option_named
from curate.settings.specs import in_order

BASELINE = "curate-baseline.json"
"""Where findings are accepted: beside the file of settings, else in the current folder."""

_OF_THE_MODEL = frozenset({"model", "model_args", "weights", "trust_checkpoint", "head", "output"})
_NOT_OF_THE_RUN = frozenset({"db", "format", "top", "verbose", "quiet", "rank_timeout"})


@dataclass(frozen=True)
class ScanSettings:
    """Everything a scan was asked for; None means that ``curate.pipeline.story`` chooses. Paths are relative to the
    cwd."""

    train: str
    eval: str | None = None
    input: str | None = None
    label: str | None = None
    id: str | None = None
    split: str | None = None
    group: str | None = None
    header: bool = True
    limit: int | None = None
    strict: bool = False
    classes: tuple[str, ...] | None = None
    name: str | None = None
    model: str | None = None
    model_args: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    weights: tuple[str, ...] = ()
    trust_checkpoint: bool = False
    head: str | None = None
    output: str | None = None
    loss: str = "softmax"
    pred_probs: str | None = None
    votes: tuple[str, ...] = ()
    params: str = "auto"
    solver: str = "auto"
    curvature: str = "ggn"
    damping: float | None = None
    neighbours: int | None = None
    eval_rows: int | str = 32
    slice: str | None = None
    expected_precision: float | None = None
    noise_rate: tuple[float, float] | None = None
    rules: tuple[str, ...] = ()
    seed: int = 0
    device: str = "auto"
    batch_size: int | None = None
    autocast: bool = False
    memory: int | None = None
    rank_timeout: float = 600.0
    db: str = ".curate/curate.db"
    cache: bool = True
    thumbnails: bool = True
    text: bool = True
    media_root: tuple[str, ...] = ()
    fail_on: tuple[str, ...] = ()
    max_findings: str | None = None
    max_noise_rate: tuple[str, ...] = ()
    baseline: str = BASELINE
    new_only: bool = False
    changed_rows: bool = False
    since: str | None = None
    exit_zero: bool = False
    top: int = 20
    verbose: bool = False
    quiet: bool = False
    format: tuple[str, ...] = ()

    @property
    def asks_network(self) -> str | None:
        """The option that asks for influence through the network, not at a head in closed form; None if none does."""
        if self.params not in ("auto", "head"):
            return f"--params {self.params}"
        if self.solver not in ("auto", "exact"):
            return f"--solver {self.solver}"
        return f"--curvature {self.curvature}" if self.curvature != "ggn" else None

    @property
    def sliced_by(self) -> str | None:
        """The column whose values are slices of their own; None where --slice names one value, or is not given."""
        return self.slice if self.slice is not None and "=" not in self.slice else None

    def as_json(self) -> dict[str, Any]:
        """Plain values for the run's record; where the results were written to is no part of the run."""
        plain: dict[str, Any] = {}
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.name in _NOT_OF_THE_RUN:
                continue
            if isinstance(value, tuple):
                value = list(value)
            plain[setting.name] = dict(value) if isinstance(value, Mapping) else value
        return plain


def stored_settings(stored: Mapping[str, Any]) -> ScanSettings:
    """Settings as a run keeps them (``as_json``); those of other versions are left out."""
    known = {setting.name for setting in fields(ScanSettings)}
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items() if name in known
    }
    return ScanSettings(**plain)


@dataclass(frozen=True)
class FoundSettings:
    """What was asked for before defaults: ``values`` by key, and ``origins``: the place that each comes from."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    beside: Path = Path()
    """The folder of the strongest file of settings, else the current one."""

    def checked(self) -> ScanSettings:
        """With defaults, for a scan. Raises ``UsageError`` where no data set was named."""
        if not self.values.get("train"):
            raise UsageError(
                "No data set was named.",
                "Give a folder of class folders, an .npz file, sklearn:digits or python:file.py:name: "
                "curate scan DATA.",
            )
        values = {"baseline": (self.beside / BASELINE).as_posix(), **self.values}
        try:
            values["weights"] = in_order(values.get("weights", ()))
        except ValueError as error:
            raise UsageError(f"--weights {error}: no file or folder is called so.", "Quote the pattern.") from error
        return ScanSettings(**values)


def load_settings(
    given: Mapping[str, Any],
    *,
    config: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> ScanSettings:
    """Settings from ``given`` (the command line; None: not given), ``CURATE_<OPTION>``, files, defaults, in this order.

    A place that names another model takes nothing about the model from weaker places. ``config`` is a file of
    settings to read instead of pyproject.toml and curate.toml. Raises ``UsageError``.
    """
    return find_settings(given, config=config, environ=environ, cwd=cwd).checked()


def given_settings(given: Mapping[str, Any]) -> ScanSettings:
    """Settings from ``given`` alone, for data that no file of settings was written for; only the database is found."""
    line, _ = _asked(given, {}, Path.cwd())
    return ScanSettings(**{"db": setting("db"), **line.values})


def find_settings(
    given: Mapping[str, Any],
    *,
    config: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> FoundSettings:
    """The same, with the place that each comes from; naming no data set is no error yet."""
    cwd = cwd or Path.cwd()
    layers = _asked(given, os.environ if environ is None else environ, cwd)
    if config is None:
        config = (os.environ if environ is None else environ).get("CURATE_CONFIG") or None
    named = next((layer.values["train"] for layer in layers if "train" in layer.values), None)
    overruled = frozenset(key for layer in layers for key in layer.values)
    if "model" in overruled:
        overruled |= _OF_THE_MODEL
    files = file_layers(cwd, Path(config) if config is not None else None, named, overruled)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in reversed([*layers, *files]):
        if "model" in layer.values:
            merged = {key: value for key, value in merged.items() if key not in _OF_THE_MODEL}
        merged.update(layer.values)
        origins.update(dict.fromkeys(layer.values, layer.where))
    of_folder = next((layer for layer in files if layer.of_train), None)
    if of_folder is not None:
        # `scan DIR`: DIR names the folder of the settings, and they may name the data in it.
        merged["train"] = of_folder.values.get("train", named)
        if "train" in of_folder.values:
            origins["train"] = of_folder.where
    beside = next((layer.base for layer in files if layer.values and not layer.strangers), Path())
    return FoundSettings(merged, {key: origins[key] for key in merged}, beside)


def setting(
    key: str,
    given: Any = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    files: bool = True,
) -> Any:
    """One setting for commands that only read (``db``, ``format`` ...), found as ``load_settings`` finds it.

    Without ``files`` only the command line and the environment are asked, and None says that they are silent.
    """
    cwd = cwd or Path.cwd()
    layers = _asked({key: given}, os.environ if environ is None else environ, cwd)
    layers += file_layers(cwd, None, None) if files else []
    default = next((f.default for f in fields(ScanSettings) if f.name == key and files), None)
    return next((layer.values[key] for layer in layers if key in layer.values), default)


def _asked(given: Mapping[str, Any], environ: Mapping[str, str], cwd: Path) -> list[Layer]:
    """The command line's and the environment's layers."""
    line = Layer("the command line", cwd)
    for key, value in given.items():
        if value is not None and value != ():
            line.put(OPTIONS[key], value, f"--{OPTIONS[key].flag}")
    around = Layer("the environment", cwd)
    for variable, text in environ.items():
        if not variable.startswith("CURATE_") or not text:
            continue
        found = option_named(variable.removeprefix("CURATE_").lower())
        if found is not None:  # other variables belong to other commands
            around.put(found[0], text, variable, turned=found[1])
    return [line, around]
