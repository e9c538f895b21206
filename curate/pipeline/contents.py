"""A scan of pictures for which no model was named: what their contents alone tell.

Unreadable rows, one content under several labels, copies between the sets, one class in two spellings. Labels are not
judged, and the report says so.
"""

import time

import torch

from curate.pipeline.record import begin_run
from curate.process.progress import Progress
from curate.rules.finders.found import Contents
from curate.settings.merge import ScanSettings
from curate.sources import Source
from curate.stages.forward import Forward, Pass
from curate.stages.groups import read_groups
from curate.stages.prepare import Data, Loaded, Opened, refuse_options_of_models

UNJUDGED = (
    "labels were not judged: no model says what to see in the pictures. Name yours with `--model file.py:factory "
    "--weights FILE`, or one that torchvision has with `--model torchvision:resnet18 --weights FILE`; "
    "`curate init` looks for them"
)


def scan_contents(settings: ScanSettings, opened: Opened, progress: Progress, started: float) -> int:
    """Read, hash and decode every row, store what that tells, and return the run's id. Raises as a scan does."""
    refuse_options_of_models(settings)
    sets = [opened.train, *([opened.evaluation] if opened.evaluation else [])]
    notes = (*opened.notes, *(note for source in sets for note in source.notes))
    loaded = Loaded(opened.train, opened.evaluation, None, _decoded, torch.device("cpu"), notes, opened)
    with (
        begin_run(settings, loaded) as run,
        progress.steps(("reading", "storing"), f"read {loaded.train.location}") as begin,
    ):
        begin("reading")
        train = _read(opened.train, "Reading training rows", settings, progress)
        own = opened.evaluation is None
        evaluation = train.first(0) if own else _read(opened.evaluation, "Reading evaluation rows", settings, progress)
        begin("storing")
        groups, found = read_groups(settings.group, train, evaluation, own)
        data = Data(train, evaluation, own, None, (*notes, *found), (UNJUDGED,), groups=groups)
        run.finish_contents(Contents(data), time.monotonic() - started)
    return run.id


def _read(source: Source | None, title: str, settings: ScanSettings, progress: Progress) -> Forward:
    assert source is not None
    cpu = torch.device("cpu")
    return Pass(None, _decoded, cpu, progress, strict=settings.strict).through(source, title)


def _decoded(row: object) -> torch.Tensor:
    """No feature: that the row could be decoded is all that is asked."""
    return torch.empty(0)
