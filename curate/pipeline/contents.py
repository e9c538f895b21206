"""A scan of pictures for which no model was named: what their contents alone tell.

Unreadable rows, one content under several labels, copies between the sets, one class in two spellings. Labels are not
judged, and the report says so.
"""

import torch

from curate.pipeline.record import begin_run
from curate.process.progress import Progress
from curate.rules.finders import find_all
from curate.rules.finders.found import Contents
from curate.rules.rule import rules_asked
from curate.settings.merge import ScanSettings
from curate.stages.agreement import agree
from curate.stages.contents import decoded, read_contents
from curate.stages.prepare import Loaded, Opened, refuse_options_of_models

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
    loaded = Loaded(opened.train, opened.evaluation, None, decoded, torch.device("cpu"), notes, opened)
    agree(settings, loaded)
    with (
        begin_run(settings, loaded) as run,
        progress.steps(("reading", "storing"), f"read {loaded.train.location}") as begin,
    ):
        begin("reading")
        data = read_contents(settings, opened, progress, notes, (UNJUDGED,))
        begin("storing")
        contents = Contents(data)
        found = find_all(contents, rules_asked(settings.rules))
        number = opened.passes.told(lambda: None if run is None else run.id)
        if run is not None:
            run.finish_contents(contents, found, started)
    assert number is not None
    return number
