"""`curate init`: from a folder to a `curate.toml` that a scan can work with.

Knows the order: look, write, open what was written, switch off what does not work. ``data``, ``code`` and
``checkpoints`` look, ``text`` writes, the checks are those of `curate doctor`. Importing this brings no torch.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.onboarding.checks import Check
from curate.onboarding.doctor import check_scan
from curate.onboarding.init.checkpoints import choose_checkpoint, name_architecture
from curate.onboarding.init.code import COUNTS, Maker, find_makers
from curate.onboarding.init.data import find_data
from curate.onboarding.init.found import Discovery, FoundSetting, listed
from curate.onboarding.init.project import project_of, rebase
from curate.onboarding.init.text import file_text
from curate.plugs import SOURCES
from curate.settings.merge import ScanSettings, load_settings
from curate.settings.specs import as_typed, near_path, split_code, split_kind, split_model

__all__ = ["Initialised", "initialise"]

FILE = "curate.toml"
MODEL = ("model", "model_args", "weights")


@dataclass
class Initialised:
    """What was written and what became of it. ``missing`` says what a person still has to name."""

    path: Path
    found: Discovery
    outside: bool
    checks: list[Check] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """The status of the first check that failed, else 0."""
        return next((check.exit_status for check in self.checks if check.status == "FAILED"), 0)


def initialise(folder: Path, given: Mapping[str, Any], *, force: bool = False, debug: bool = False) -> Initialised:
    """Look, write a curate.toml, check. ``given`` is what a person said: eval, label, model, weights.

    The file is written into ``folder`` if that is a project, else into the nearest project around it, else into the
    current folder: never among the data alone. Code that lies outside of the current folder is not run unless ``given``
    names it. Raises ``UsageError`` if there is such a file already, ``DataError`` if there is no data; what else fails
    is in the outcome.
    """
    if not folder.is_dir():
        if folder.exists():
            raise UsageError(
                f"{folder.as_posix()} is a file; init looks at a folder.",
                f"Give the folder it lies in: {as_typed(folder.parent.as_posix())}; or look for bad rows at once: "
                f"curate scan {as_typed(folder.as_posix())}",
            )
        raise UsageError(f"{folder.as_posix()} is not there; init looks at a folder.", near_path(folder))
    project = project_of(folder)
    path = project / FILE
    if path.exists() and not force:
        raise UsageError(f"There is a {path.as_posix()} already.", "Give --force to write it anew.")
    outcome = Initialised(path, find_data(folder), not project.resolve().is_relative_to(Path.cwd().resolve()))
    found = outcome.found
    rebase(found, folder, project)
    for key in ("eval", "label"):
        if given.get(key):
            value = _relative(given[key], project) if key == "eval" else given[key]
            found.settings[key] = FoundSetting(value, f"as --{key} says")
    _write(path, found)
    settings = _settings(outcome, project)
    data = next(check_scan(settings, debug=debug))
    if data.status == "FAILED":
        outcome.checks = [data]
        _switch_off(found, _wrong_line(found, settings, debug), data)
        _write(path, found)
        return outcome
    media, classes = _opened(settings)
    makers = _find_model(project, given, found, media, len(classes))
    _write(path, found)
    outcome.checks = [data]
    _check(outcome, project, makers, given, media, len(classes), debug)
    return outcome


def _find_model(folder: Path, given: Mapping[str, Any], found: Discovery, media: str, classes: int) -> list[Maker]:
    """Model, its arguments and weights, as far as the folder holds them; the code that was found."""
    weights = Path(given["weights"]) if given.get("weights") else None
    if weights is not None:
        found.settings["weights"] = FoundSetting(_from(weights, folder), "as --weights says")
    else:
        weights = choose_checkpoint(folder, found)
    if given.get("model"):
        found.settings["model"] = FoundSetting(_relative_code(given["model"], folder), "as --model says")
        return []
    makers = find_makers(folder)
    usable = [maker for maker in makers if maker.runs is None and not set(maker.needs) - COUNTS]
    if usable:
        first = usable[0]
        found.settings["model"] = FoundSetting(first.spec, f"line {first.line} of {first.file}", guess=len(usable) > 1)
        if first.needs:
            why = f"{first.name} needs it; the data has {classes} classes"
            found.settings["model_args"] = FoundSetting(dict.fromkeys(first.needs, classes), why, guess=True)
        if len(usable) > 1:
            found.remark("model", f"also there: {listed([maker.spec for maker in usable[1:]])}")
        return usable
    for maker in makers[:3]:
        why = (
            f"importing {maker.file} runs its line {maker.runs}: put that under `if __name__ == '__main__':`"
            if maker.runs is not None
            else f"it needs {', '.join(maker.needs)}: --model-arg NAME=VALUE"
        )
        found.remark("model", f"{maker.spec} was left alone: {why}")
    if weights is not None and media == "image":
        name_architecture(weights, found, trust=False)
    return []


def _check(
    outcome: Initialised,
    folder: Path,
    makers: list[Maker],
    given: Mapping[str, Any],
    media: str,
    classes: int,
    debug: bool,
) -> None:
    """Open what was written; a model that does not work is switched off and what it said stands in the file."""
    found, path = outcome.found, outcome.path
    needs_model = media in ("image", "array")
    if "model" not in found.settings:
        if "weights" in found.settings:
            said = found.settings["weights"]
            failed = said.failed or "no model to put them into was found"
            found.settings["weights"] = replace(said, failed=failed)
            outcome.missing.append(f"a model for {said.value}: {said.failed or 'name the code that makes it'}")
            _write(path, found)
        elif needs_model:
            outcome.missing.append("a model: without one a scan tells broken files and copies, and judges no label")
        if needs_model:
            return
    elif outcome.outside and not given.get("model"):
        outcome.missing.append("a check of the model: code outside of the current folder is not run unasked")
        return
    checks = list(check_scan(_settings(outcome, folder), debug=debug))
    count = makers[0].count if makers else None
    if _broken(checks) and count is not None and "model_args" not in found.settings:
        # A default that is not the data's: the commonest reason why weights do not fit.
        found.settings["model_args"] = FoundSetting({count: classes}, f"the data has {classes} classes", guess=True)
        _write(path, found)
        again = list(check_scan(_settings(outcome, folder), debug=debug))
        if _broken(again):
            del found.settings["model_args"]
        else:
            checks = again
    outcome.checks = checks
    wrong = _broken(checks)
    if wrong is not None:
        for key in MODEL:
            _switch_off(found, key, wrong)
        _write(path, found)


def _broken(checks: list[Check]) -> Check | None:
    return next((check for check in checks if check.status == "FAILED"), None)


def _settings(outcome: Initialised, folder: Path) -> ScanSettings:
    """As `curate scan FOLDER` has them. Outside of the current folder only a file that was named may name code."""
    return load_settings({"train": folder.as_posix()}, config=outcome.path if outcome.outside else None)


def _opened(settings: ScanSettings) -> tuple[str, list[str]]:
    from curate.process.progress import Progress
    from curate.stages.prepare import open_data

    train = open_data(replace(settings, limit=None), Progress.silent()).train
    return train.media, train.classes


def _wrong_line(found: Discovery, settings: ScanSettings, debug: bool) -> str:
    """Which of the data's settings is to blame."""
    if "eval" in found.settings and next(check_scan(replace(settings, eval=None), debug=debug)).status == "ok":
        return "eval"
    return next((key for key in ("label", "input") if key in found.settings), "train")


def _switch_off(found: Discovery, key: str, check: Check) -> None:
    if key in found.settings:
        told = " ".join(f"{check.error} {check.hint}".split())
        found.settings[key] = replace(found.settings[key], failed=told)


def _write(path: Path, found: Discovery) -> None:
    text = file_text(found)
    try:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"{path.as_posix()} cannot be written: {error.strerror or error}.", "Check its rights."
        ) from error


def _relative(spec: str, folder: Path) -> str:
    """Data named from the current folder, as the file in ``folder`` names it."""
    kind, location = split_kind(spec)
    if kind == "python":
        return f"python:{_relative_code(location, folder)}"
    if kind is not None and not (kind in SOURCES and SOURCES[kind].path):
        return spec
    return (f"{kind}:" if kind else "") + _from(Path(location), folder)


def _relative_code(spec: str, folder: Path) -> str:
    family, location = split_model(spec)
    if family is not None:
        return f"{family}:{_from(Path(location), folder)}" if family == "hf" and Path(location).is_dir() else spec
    where, name = split_code(spec)
    return _from(Path(where), folder) + (f":{name}" if name else "") if where.endswith(".py") else spec


def _from(path: Path, folder: Path) -> str:
    return path.as_posix() if path.is_absolute() else Path(os.path.relpath(path, folder)).as_posix()
