"""Rows read for their contents alone, where no model says what to see in them: hashed and decoded, without features."""

import torch

from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.forward import Pass
from curate.stages.groups import read_groups
from curate.stages.prepare import Data, Opened


def read_contents(
    settings: ScanSettings, opened: Opened, progress: Progress, notes: tuple[str, ...], warnings: tuple[str, ...] = ()
) -> Data:
    """Every row as it was decoded; ``notes`` and ``warnings`` are added to what its groups tell."""
    reading = Pass(None, decoded, torch.device("cpu"), progress, strict=settings.strict, passes=opened.passes)
    train = reading.through(opened.train, "Reading training rows")
    own = opened.evaluation is None
    given = opened.evaluation
    evaluation = train.first(0) if given is None else reading.through(given, "Reading evaluation rows")
    groups, said = read_groups(settings.group, train, evaluation, own)
    return Data(train, evaluation, own, None, (*notes, *said), warnings, passes=opened.passes, groups=groups)


def decoded(row: object) -> torch.Tensor:
    """No feature: that the row could be decoded is all that is asked."""
    return torch.empty(0)
