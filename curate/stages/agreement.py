"""What must be the same wherever a part of a scan is computed: the rows, the model, the versions. Told by its name."""

import hashlib
from collections.abc import Iterable, Mapping

import torch

from curate.engine.passes import Passes
from curate.errors import UsageError
from curate.process.progress import Progress
from curate.process.ranks import machine
from curate.process.versions import versions
from curate.settings.merge import ScanSettings
from curate.sources import Source
from curate.stages.prepare import Data, Held, Loaded, load, read


def read_by_all(
    settings: ScanSettings, progress: Progress, passes: Passes | None = None, held: Held | None = None
) -> tuple[Loaded, Data]:
    """Open and read what the settings name, or a caller holds. Raises `UsageError` as `agree` does, before any row."""
    loaded = load(settings, progress, held, passes)
    agree(settings, loaded)
    return loaded, read(settings, loaded, progress)


def agree(settings: ScanSettings, loaded: Loaded) -> None:
    """Raise `UsageError` in all processes if one of them sees something else than the first, and name it."""
    asked = sorted((key, str(value)) for key, value in settings.as_json().items())
    mine = {
        "instructions of the processor": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "settings": digest(text for pair in asked for text in pair),
        **seen(loaded),
    }
    told = loaded.opened.passes.gathered((machine(), mine))
    _, first = told[0]
    for number, (host, other) in enumerate(told):
        odd = differences(other, first)
        if odd:
            raise UsageError(
                f"Rank {number} of {len(told)} on {host} sees something else than the first process: {odd}",
                "All processes scan the same data with the same weights, settings and versions.",
            )


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """What is seen otherwise, as ``weights: 1c2d, not 3e4f; ...``; empty if nothing is."""
    odd = [name for name in there if here.get(name) != there[name]]
    return "; ".join(f"{name}: {_short(here.get(name, 'none'))}, not {_short(there[name])}" for name in odd)


def seen(loaded: Loaded) -> dict[str, str]:
    """What features rest on beside the settings, by the name that a message gives it."""
    model, opened = loaded.model, loaded.opened
    return {
        **{f"version of {name}": version for name, version in versions().items()},
        "kind of device": loaded.device.type,
        "training rows": _rows(opened.train),
        "evaluation rows": "none" if opened.evaluation is None else _rows(opened.evaluation),
        "classes": digest(opened.train.classes),
        "preparation of the rows": digest(loaded.prepared),
        "weights": str(loaded.identity[1]),
        "code of the model": str(None if model is None else model.source_sha256),
    }


def digest(texts: Iterable[str]) -> str:
    """A short hash of texts in this order."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _rows(source: Source) -> str:
    """The list of rows, in order, with their labels."""
    told = (text for row in zip(source.keys, source.label_texts, strict=True) for text in row)
    return f"{len(source):,} ({digest(text or '' for text in told)})"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:12]}..."
