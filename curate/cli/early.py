"""Slips that need no torch to be told: data that is not there, a device that the machine has not."""

from curate.process.devices import refuse_device
from curate.settings.merge import ScanSettings


def refuse_early(settings: ScanSettings) -> None:
    """Raise ``DataError`` or ``UsageError`` before seconds are spent on imports."""
    from curate.sources import refuse_missing  # numpy

    refuse_missing(settings.train, settings.eval)
    refuse_device(settings.device)
