"""`curate doctor`: everything up to the first numbers of a scan, one check after another, and nothing stored.

Knows the order of the checks and what each shows; the work is `prepare`'s, so that what passes here passes in a scan.
torch is imported only inside: where it is broken, that is an answer too.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from curate.onboarding.checks import Check, Facts, check, skipped
from curate.onboarding.environment import add_database, add_devices, add_versions
from curate.process.numbers import duration, percent
from curate.settings.merge import FoundSettings, ScanSettings, find_settings

if TYPE_CHECKING:
    from curate.models.network import Network
    from curate.sources import Source
    from curate.stages.prepare import Loaded, Opened

TRIED_ROWS = 256
"""Rows that are read and sent through the model."""
SHOWN_CLASSES = 10
USUALLY_RIGHT = 0.8
"""Accuracy on the given labels from which the pictures are taken to be prepared as in training."""


def doctor(given: Mapping[str, Any], config: str | None, *, debug: bool = False) -> Iterator[Check]:
    """The checks, each when it is done. ``given`` is what the command line says."""
    yield check("versions", add_versions, debug)
    devices = check("devices", add_devices, debug)
    yield devices
    found: list[FoundSettings] = []
    settings = check("settings", lambda facts: _add_settings(facts, given, config, found), debug)
    yield settings
    if not found:
        yield from (skipped(name, "the settings cannot be followed") for name in ("database", "data", "model", "rows"))
        return
    database = found[0].values.get("db", ScanSettings.__dataclass_fields__["db"].default)
    yield check("database", lambda facts: add_database(facts, database), debug)
    if not found[0].values.get("train"):
        if any(given.get(key) for key in ("eval", "model", "weights")):  # it was asked for, so it was to work
            yield check("data", lambda facts: _no_data(found[0]), debug)
            yield from (skipped(name, "no data set was named") for name in ("model", "rows"))
        else:
            yield from (skipped(name, "no data set was named") for name in ("data", "model", "rows"))
        return
    if devices.status != "ok":
        yield from (skipped(name, "torch cannot be used") for name in ("data", "model", "rows"))
        return
    yield from check_scan(found[0].checked(), debug=debug)


def check_scan(settings: ScanSettings, *, debug: bool = False) -> Iterator[Check]:
    """Data, model, and some rows through it, as a scan with these settings would take them."""
    steps = _Steps(replace(settings, limit=None, cache=False))
    works: dict[str, Callable[[Facts], None]] = {"data": steps.data, "model": steps.model, "rows": steps.rows}
    failed: str | None = None
    for name, work in works.items():
        if failed is not None:
            yield skipped(name, f"the {failed} cannot be used")
            continue
        done = check(name, work, debug)
        failed = name if done.status == "FAILED" else None
        if name == "model" and settings.model is None and done.status == "ok":
            done = replace(done, status="skipped")
        yield done


def _no_data(found: FoundSettings) -> None:
    found.checked()


def _add_settings(facts: Facts, given: Mapping[str, Any], config: str | None, found: list[FoundSettings]) -> None:
    settings = find_settings(given, config=config)
    found.append(settings)
    for setting in fields(ScanSettings):
        if setting.name in settings.values:
            value = settings.values[setting.name]
            facts.append((setting.name.replace("_", "-"), f"{_shown(value)}  ({settings.origins[setting.name]})"))
    facts.append(("all others" if facts else "all", "not given: the defaults"))


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={part}" for name, part in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass
class _Steps:
    """The three steps that need one another's results."""

    settings: ScanSettings
    opened: "Opened | None" = None
    loaded: "Loaded | None" = None

    def data(self, facts: Facts) -> None:
        from curate.process.progress import Progress
        from curate.stages.prepare import open_data

        self.opened = opened = open_data(self.settings, Progress.silent())
        train = opened.train
        facts += [("kind", f"{train.kind}, rows are {_media(train.media)}"), *_rows("training rows", train)]
        counts = Counter(text for text, label in zip(train.label_texts, train.labels, strict=True) if label >= 0)
        told = ", ".join(f"{name} {counts.get(name, 0):,}" for name in train.classes[:SHOWN_CLASSES])
        more = len(train.classes) - SHOWN_CLASSES
        facts.append(("classes", f"{len(train.classes)}: {told}" + (f" and {more:,} more" if more > 0 else "")))
        if opened.evaluation is None:
            facts.append(("evaluation rows", "none given: some training rows serve"))
        else:
            facts += _rows("evaluation rows", opened.evaluation)
        for note in (*train.notes, *(opened.evaluation.notes if opened.evaluation else ())):
            facts.append(("note", note))

    def model(self, facts: Facts) -> None:
        from curate.stages.prepare import add_model

        assert self.opened is not None
        if self.settings.model is None:
            facts.append(("model", "none: the inputs are features, a probe on them answers"))
        self.loaded = loaded = add_model(self.settings, self.opened)
        facts.append(("device", str(loaded.device)))
        model = loaded.model
        if model is None:
            return
        parameters = list(model.module.parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        facts += [
            ("model", model.spec),
            ("parameters", f"{sum(p.numel() for p in parameters):,}, {trained:,} of them trained"),
            ("weights", _weights(self.settings, model.weights_sha256)),
        ]
        of_data = {*self.opened.train.notes, *(self.opened.evaluation.notes if self.opened.evaluation else ())}
        facts += [("note", note) for note in loaded.notes if note not in of_data]

    def rows(self, facts: Facts) -> None:
        import torch

        from curate.process.progress import Progress
        from curate.stages.diagnosis import better_preparation
        from curate.stages.prepare import read

        assert self.loaded is not None
        loaded = self.loaded
        few = some_rows(loaded.train)
        started = time.monotonic()
        data = read(self.settings, replace(loaded, train=few, evaluation=None), Progress.silent())
        each = (time.monotonic() - started) / max(len(few), 1)
        total = len(loaded.train) + (len(loaded.evaluation) if loaded.evaluation else 0)
        rows = data.train
        x = rows.inputs.batch(torch.arange(min(len(rows), self.settings.batch_size or 128)))
        facts.append(
            ("read", f"{len(rows):,} rows" + (f", {len(rows.unreadable)} unreadable" if rows.unreadable else ""))
        )
        facts.append(("input", f"{_shape(x)} {str(x.dtype).removeprefix('torch.')} on {x.device}"))
        values = x.cpu().double()  # some accelerators have no float64
        facts.append(
            ("values", f"{float(values.min()):.4g} to {float(values.max()):.4g}, mean {float(values.mean()):.4g}")
        )
        if data.network is not None:
            assert rows.logits is not None
            begun = time.monotonic()
            data.network(x)[1].cpu()  # an accelerator answers before it is done
            facts.append(("batch", f"{time.monotonic() - begun:.3f} s for {len(x)} rows through the model"))
            facts.append(("head", _head(data.network)))
            facts.append(("output", f"{_shape(rows.logits[: len(x)])} {str(rows.logits.dtype).removeprefix('torch.')}"))
            if data.network.own_classes:
                right = int((rows.logits.argmax(1) == rows.labels).sum())
                most = int(torch.bincount(rows.labels).max())
                told = f"{percent(right / len(rows))} of {len(rows):,} rows"
                facts.append(("outputs are", "the classes of the data"))
                facts.append(("accuracy", f"{told}; the largest class alone {percent(most / len(rows))}"))
                better = better_preparation(data.network, rows) if right < USUALLY_RIGHT * len(rows) else None
                if better is not None:
                    what, before, after, tried = better
                    facts.append(
                        ("more right", f"{what}: {percent(after)} of {tried:,} rows, instead of {percent(before)}")
                    )
            else:
                facts.append(("outputs are", "not the classes of the data: its features serve, a probe answers"))
        told = f"{1000 * each:.3g} ms a row with reading"
        facts.append(("time", f"{told}, about {duration(each * total)} for a pass over all {total:,}"))
        facts += [("note", note) for note in data.notes if note not in loaded.notes]
        facts += [("warning", warning) for warning in data.warnings]


def some_rows(source: "Source") -> "Source":
    """Up to ``TRIED_ROWS`` labelled rows, each class by its share, from all over the data; no row is read for it."""
    from curate.sources.limit import Sample, shared_out

    by_class: dict[int, list[int]] = {}
    for row, label in enumerate(source.labels):
        if label >= 0:
            by_class.setdefault(label, []).append(row)
    if sum(map(len, by_class.values())) <= TRIED_ROWS:
        return source
    shares = shared_out(TRIED_ROWS, {label: len(rows) for label, rows in by_class.items()})
    chosen = [rows[k * len(rows) // shares[label]] for label, rows in by_class.items() for k in range(shares[label])]
    return Sample(source, sorted(chosen))


def _rows(what: str, source: "Source") -> Facts:
    blank = sum(label < 0 for label in source.labels) - len(source.malformed)
    told = f"{len(source):,}"
    told += f", {blank:,} with a blank label" if blank else ""
    return [(what, told + (f", {len(source.malformed):,} malformed" if source.malformed else ""))]


def _media(media: str) -> str:
    names = {"image": "pictures", "text": "texts", "features": "rows of numbers", "record": "cells of a table"}
    return names.get(media, "arrays")


def _weights(settings: ScanSettings, sha256: str | None) -> str:
    if sha256 is None:
        return "none given: is the model trained?"
    where = settings.weights[-1] if settings.weights else "the library's own"
    return f"{where}, sha256 {sha256[:12]}"


def _head(network: "Network") -> str:
    if network.head is None:
        return "none: the outputs are features"
    name = network.head_name or "the model itself"
    return f"{name}: {network.head.in_features} features to {network.head.out_features} outputs"


def _shape(tensor: "Any") -> str:
    return "x".join(map(str, tensor.shape))
