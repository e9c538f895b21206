"""The run, start to end: one screen that tells the whole story.

Knows the order of the stages; leaves every number to the stage that makes it and the writing to `record`.
"""

import time

from curate.engine.neighbours import Neighbours
from curate.engine.passes import Passes
from curate.pipeline.contents import scan_contents
from curate.pipeline.record import OfTables, begin_run
from curate.process.allocator import give_back_freed_memory
from curate.process.progress import Progress
from curate.rules.finders import find_all
from curate.rules.finders.found import Scan
from curate.rules.rule import rules_asked
from curate.settings.merge import ScanSettings
from curate.stages.agreement import agree
from curate.stages.checkpoints import with_earlier
from curate.stages.costs import expected_seconds
from curate.stages.diagnostics import diagnose
from curate.stages.heads import doubts, fit_heads
from curate.stages.influence import evaluation_influence, network_self_influence
from curate.stages.plan import ScanPlan
from curate.stages.prepare import Loaded, Opened, add_model, by_contents, open_data, read
from curate.stages.suspicion import judge_rows, with_network, with_verdicts

STEPS = ("reading", "suspicion", "influence", "checks", "storing")


def scan(
    settings: ScanSettings,
    progress: Progress | None = None,
    passes: Passes | None = None,
    plan: ScanPlan | None = None,
) -> int:
    """Scan, store, and return the id of the finished run in ``settings.db``.

    ``passes``: this process is one of several that scan together. The first alone writes, after all others are done:
    they return the id of a run that may not be finished yet. ``plan``: nothing else is scanned than was planned.

    Raises `CurateError` with the exit status that the failure deserves; a run that was begun is then marked failed,
    or interrupted. Nothing is stored of a row before all stages are through: a run is whole, or is none.
    """
    progress = progress or Progress()
    started = time.monotonic()
    opened = open_data(settings, progress, passes=passes)
    if plan is not None:
        loaded = add_model(settings, opened)
        plan.refuse_other(loaded)
        return scan_loaded(settings, loaded, progress, started)
    return scan_opened(settings, opened, progress, started)


def scan_opened(settings: ScanSettings, opened: Opened, progress: Progress, started: float | None = None) -> int:
    """Scan data sets that are opened already: pictures without a model by their contents alone. As ``scan`` else."""
    started = time.monotonic() if started is None else started
    if by_contents(settings, opened):
        return scan_contents(settings, opened, progress, started)
    return scan_loaded(settings, add_model(settings, opened), progress, started)


def scan_loaded(settings: ScanSettings, loaded: Loaded, progress: Progress, started: float | None = None) -> int:
    """Scan what is opened already; ``started`` is when its opening began, by ``time.monotonic``. As ``scan`` else."""
    started = time.monotonic() if started is None else started
    agree(settings, loaded)
    with begin_run(settings, loaded) as run, progress.steps(STEPS, f"scanned {loaded.train.location}") as begin:
        begin("reading")
        data = read(settings, loaded, progress)
        give_back_freed_memory()
        begin("suspicion")
        progress.expect(lambda: expected_seconds(settings, data))
        heads = fit_heads(data, settings.damping)
        give_back_freed_memory()
        data = data.warned(doubts(data, heads))
        neighbours = Neighbours(data.train.features, settings.seed, passes=data.passes)
        judged = judge_rows(data, heads, neighbours, progress, settings.seed, settings.expected_precision)
        judged = with_earlier(settings, loaded.opened, data, heads, judged, progress)
        known = data.passes.told(lambda: None if run is None else run.known_level(data.train, settings.noise_rate))
        judged = with_verdicts(judged, known, data.train, settings.expected_precision)
        judged = with_network(judged, network_self_influence(settings, data, progress))
        give_back_freed_memory()
        begin("influence")
        influence = evaluation_influence(settings, data, heads, neighbours, judged.train.suggested, progress)
        give_back_freed_memory()
        begin("checks")
        diagnostics = diagnose(settings, data, heads, influence, progress)
        begin("storing")
        scanned = Scan(data, judged, influence, neighbours)
        found = find_all(scanned, rules_asked(settings.rules))
        tables = None if run is None else OfTables.of(scanned, found, heads)
        number = data.passes.told(lambda: None if run is None else run.id)  # from here on the first is alone
        if run is not None and tables is not None:
            run.finish(scanned, found, heads, tables, diagnostics, started)
    assert number is not None
    return number
