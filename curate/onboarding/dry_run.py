"""`curate scan --dry-run`: what a scan would read and compute, with time and memory; nothing is scored or stored.

Opens data and model as a scan does, reads some rows, and asks `curate.stages.costs` what all of them will cost.
"""

import contextlib
import time
from dataclasses import dataclass, replace

from curate.errors import CurateError, UnreadableRow
from curate.onboarding.doctor import some_rows
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.sources import Source
from curate.sources.limit import Sample
from curate.stages.costs import Size, cost_of, measured_speed, size_of
from curate.stages.deep import Price, deep_problem
from curate.stages.memory import free_bytes, most_memory
from curate.stages.prepare import Data, Opened, add_model, by_contents, open_data, read, refuse_options_of_models

BRIEF = 2.0
"""Seconds of reading some rows that say little of one."""
KEPT_OF_A_ROW = 2_000
"""Bytes: keys, hashes, a place in lists."""


@dataclass(frozen=True)
class DryRun:
    """What a scan would do: facts by name, and for each step the seconds of one core and what it does."""

    facts: tuple[tuple[str, str], ...]
    steps: tuple[tuple[str, float, str], ...]
    memory: int
    """The most at once, bytes, about."""
    free: int
    """Memory that this machine has for it, bytes."""
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of all steps, one core."""
        return sum(seconds for _, seconds, _ in self.steps)


def dry_run(settings: ScanSettings) -> DryRun:
    """The plan of a scan with these settings. Raises what the scan would raise of its data and model."""
    settings = replace(settings, cache=False)
    opened = open_data(settings, Progress.silent())
    facts = (("training rows", _rows(opened.train)), ("evaluation rows", _rows(opened.evaluation)))
    if by_contents(settings, opened):
        return _of_contents(settings, opened, facts)
    loaded = add_model(settings, opened)
    few = some_rows(loaded.train)

    def seconds(of: Source) -> tuple[float, Data]:
        started = time.process_time()
        data = read(settings, replace(loaded, train=of, evaluation=None), Progress.silent())
        return time.process_time() - started, data

    took, data = seconds(few)
    reading = took / max(len(few), 1)
    half = Sample(few, list(range(0, len(few), 2)))
    if took < BRIEF and len(half) < len(few):  # most of it is what a network takes once, and the first time
        with contextlib.suppress(CurateError):  # half of them may be of one class
            reading = max(seconds(few)[0] - seconds(half)[0], 0.0) / (len(few) - len(half))
    rows, evaluation = _labelled(opened.train), 0 if opened.evaluation is None else _labelled(opened.evaluation)
    problem, price = deep_problem(settings, data, rows)
    size = size_of(settings, data, problem, price, (rows, evaluation))
    speed = measured_speed(data, problem)
    cost = cost_of(size, speed, reading)
    model = "none: a probe on the inputs answers" if loaded.model is None else loaded.model.spec
    if data.network is not None:
        parameters = sum(one.numel() for one in data.network.module.parameters())
        model += f", {parameters:,} parameters, on {loaded.device}"
    does = {
        "reading": f"{rows + evaluation:,} rows, {1000 * reading:.2g} ms each",
        "suspicion": f"{size.classes} classes, {size.features:,} features, at {_depths(size.depths)}",
        "influence": _influence(size, price),
        "checks": "whether influence can be trusted at this checkpoint",
        "storing": settings.db,
    }
    steps = tuple((name, seconds, does[name]) for name, seconds in cost.seconds.items())
    return DryRun((*facts, ("model", model)), steps, cost.memory, free_bytes(), data.warnings)


def _of_contents(settings: ScanSettings, opened: Opened, facts: tuple[tuple[str, str], ...]) -> DryRun:
    """Pictures without a model: every row is read and decoded, and nothing is computed."""
    refuse_options_of_models(settings)
    few = some_rows(opened.train)
    started = time.process_time()
    for row in range(len(few)):
        with contextlib.suppress(UnreadableRow):
            few.read(row).decode()
    reading = (time.process_time() - started) / max(len(few), 1)
    rows = len(opened.train) + (0 if opened.evaluation is None else len(opened.evaluation))
    steps = (
        ("reading", rows * reading, f"{rows:,} rows, {1000 * reading:.2g} ms each"),
        ("storing", 1e-4 * rows, settings.db),
    )
    told = (*facts, ("model", "none: labels are not judged, contents are looked at"))
    return DryRun(told, steps, most_memory() + rows * KEPT_OF_A_ROW, free_bytes(), ())


def _labelled(source: Source) -> int:
    return sum(label >= 0 for label in source.labels)


def _rows(source: Source | None) -> str:
    if source is None:
        return "none given: some training rows serve"
    blank = len(source) - _labelled(source)
    skipped = f", {blank:,} of them without a label" if blank else ""
    return f"{len(source):,}{skipped}, {len(source.classes)} classes, from {source.location}"


def _depths(count: int) -> str:
    return "one depth" if count == 1 else f"{count} depths of the network"


def _influence(size: Size, price: Price | None) -> str:
    if price is None:
        return "at the head, in closed form"
    if not size.parameters:
        return f"at the head, in closed form; {price}"
    how = "layer by layer (EK-FAC)" if size.by_layers else "by a solve"
    return f"through {size.parameters:,} parameters, {how}; --params head leaves it out"
