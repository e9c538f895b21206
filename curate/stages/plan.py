"""A scan's reading in parts, on machines that share nothing but files: what they must have in common, and one part.

The parts are the cache's (`cache`): named by their content, checksummed, written beside and renamed, and one that is
there is not read again. Knows the plan's file and a run of rows; whoever scans with the plan finds them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from curate.engine.passes import Alone, run_of
from curate.errors import UsageError
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings, stored_settings
from curate.stages.agreement import differences, seen
from curate.stages.prepare import Loaded, load, reading

FORM = 1


@dataclass(frozen=True)
class ScanPlan:
    """The settings of a scan, and what all that compute a part of it must see."""

    settings: ScanSettings
    sees: Mapping[str, str]

    @classmethod
    def of(cls, settings: ScanSettings, progress: Progress) -> "ScanPlan":
        """That of a scan with these settings. Raises what the scan would raise of its data and model."""
        loaded = load(settings, progress)
        if loaded.model is None:
            raise UsageError(
                "Without a model the rows are their own features: there is nothing to compute in parts.",
                "`curate scan` reads them at once, also in several processes (torchrun).",
            )
        return cls(settings, seen(loaded))

    @classmethod
    def read(cls, file: str) -> "ScanPlan":
        """The plan in a file. Raises `UsageError` if there is none."""
        try:
            found = json.loads(Path(file).read_text(encoding="utf-8"))
            settings, sees = found["settings"], found["sees"]
            if found["curate_plan"] != FORM or not all(isinstance(one, str) for one in sees.values()):
                raise ValueError(f"its form is not {FORM}")
            return cls(stored_settings(settings), dict(sees))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"--plan {file} is no plan of a scan: {error}", "`curate plan` writes one.") from error

    def text(self) -> str:
        """As its file has it."""
        plain = {"curate_plan": FORM, "settings": self.settings.as_json(), "sees": dict(self.sees)}
        return json.dumps(plain, indent=1, sort_keys=True) + "\n"

    def refuse_other(self, loaded: Loaded) -> None:
        """Raise `UsageError` if this machine sees something else than the one that planned."""
        odd = differences(seen(loaded), self.sees)
        if odd:
            raise UsageError(
                f"This is not what was planned: {odd}",
                "Plan anew, or scan the same data with the same weights and versions.",
            )


@dataclass(frozen=True)
class PartRead:
    """A part of the rows that is in the cache now."""

    rows: int
    reused: int
    """Of them, those that were there before."""
    unreadable: int


@dataclass(frozen=True)
class Shard(Alone):
    """One of ``count`` parts of the rows, on its own."""

    def own(self, n: int) -> slice:
        return run_of(n, self.number, self.count)


def read_shard(plan: ScanPlan, settings: ScanSettings, shard: Shard, progress: Progress) -> PartRead:
    """Send a part of the rows through the network, into the cache beside ``settings.db``."""
    loaded = load(settings, progress, passes=shard)
    plan.refuse_other(loaded)
    how, moving = reading(settings, loaded, progress)
    if how.cache is None:
        raise UsageError(
            f"Nothing is kept of this part: {moving or 'the code of the model cannot be told from other code'}.",
            "Scan in one go, also in several processes (torchrun).",
        )
    sets = [(loaded.train, "Reading training rows"), (loaded.evaluation, "Reading evaluation rows")]
    found = [how.kept(source, title) for source, title in sets if source is not None]
    if how.cache.notes:
        raise UsageError(f"This part was not kept: {how.cache.notes[0]}.", "Free some space, and read it again.")
    return PartRead(*(sum(column) for column in zip(*found, strict=True)))
