"""``curate bench``: a table of detectors on planted flips, as text or JSON.

Knows the layout; leaves planting and judging to ``curate.experiments.bench``.
"""

from typing import TYPE_CHECKING, Any

import click

from curate.cli.early import refuse_early
from curate.cli.options import Sections, config_option, form_option, put, scan_options
from curate.errors import UsageError
from curate.process.numbers import percent
from curate.reports.words import clean
from curate.settings.merge import load_settings

if TYPE_CHECKING:
    from curate.experiments.bench import Bench
    from curate.experiments.planting import RulesBench
    from curate.settings.merge import ScanSettings


@click.command(cls=Sections)
@click.argument("train", required=False, metavar="[TRAIN]")
@scan_options("Data", "Model", "Numbers")
@config_option
@click.option("--noise", metavar="SHARE", default="10%", show_default=True, help="Share of labels that are changed.")
@click.option(
    "--plant",
    type=click.Choice(["labels", "rows"]),
    default="labels",
    show_default=True,
    help="Wrong labels, or copies and spoilt rows: pictures and texts.",
)
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="Times that flips are drawn.")
@form_option("text", "json")
def bench(config: str | None, noise: str, plant: str, rounds: int, form: str, **given: Any) -> None:
    """Which detector finds wrong labels best on TRAIN? Changes labels on purpose, looks for them, stores nothing.

    With --plant rows: which copies and spoilt rows do the rules find? Rows of yours are copied with an edit (JPEG, a
    crop, another word) or spoilt (dark, blurred, tags), and looked for among the others.

    Labels are changed to any other class (uniform) and to the class that each is most taken for (look-alike). Rows that
    are flagged as they are stand aside. Where cleanlab is installed it stands in the table, on five-fold predictions of
    the probe.
    """
    share = _share(noise)
    settings = load_settings(given, config=config)
    refuse_early(settings)

    if plant == "rows":
        _rows(settings, form)
        return
    from curate.experiments.bench import bench as run  # torch
    from curate.stages.joining import together

    with together(settings) as process:
        found = run(settings, noise=share, rounds=rounds, progress=process.progress, passes=process.passes)
    if process.passes.first:
        put(_json(found) if form == "json" else _text(found))


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 0.5:
        raise UsageError(f"--noise {text}: a share above 0 and up to a half", "Like 10% or 0.1.")
    return share


def _rows(settings: "ScanSettings", form: str) -> None:
    """Plants rows, and tells what the rules say of them."""
    from dataclasses import asdict

    from curate.experiments.planting import bench_rows  # torch
    from curate.process.progress import Progress
    from curate.process.ranks import refuse_several
    from curate.reports.json import SCHEMA_VERSION, dump

    refuse_several("`curate bench --plant rows`")
    found = bench_rows(settings, Progress(quiet=settings.quiet))
    put(dump({"schema_version": SCHEMA_VERSION, **asdict(found)}) if form == "json" else _table(found))


def _table(found: "RulesBench") -> str:
    planted = sum(score.planted for score in found.scores)
    lines = [
        f"{found.rows:,} rows, and {planted:,} copies and spoilt rows planted among them.",
        "",
        f"{'rule':18}{'planted':26}{'found':>10}   besides",
    ]
    last = None
    for score in found.scores:
        first = score.rule != last
        besides = f"{found.besides[score.rule]:,}" if first else ""
        share = f"{score.found} of {score.planted}"
        lines.append(f"{score.rule if first else '':18}{score.kind:26}{share:>10}   {besides}")
        last = score.rule
    lines += [
        "",
        "besides: rows that nothing was done to and that the rule names, false or real; `curate scan` shows them.",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _json(found: "Bench") -> str:
    from dataclasses import asdict

    from curate.reports.json import SCHEMA_VERSION, dump

    means = {name: found.mean(name) for name in found.detectors}
    return dump({"schema_version": SCHEMA_VERSION, **asdict(found), "mean_average_precision": means})


def _text(found: "Bench") -> str:
    from curate.experiments.bench import OF_THE_MODEL

    kinds = list(dict.fromkeys(score.kind for score in found.scores))
    drawn = "once" if found.rounds == 1 else f"{found.rounds} times"
    noise = f"{percent(found.noise, 0)} of the labels changed, {drawn} for each kind"
    lines = [
        *(f"! warning: {clean(said)}" for said in found.warnings),
        f"{found.rows:,} rows in {found.classes:,} classes; {noise}.",
        f"Rows that are suspect as they are ({found.aside:,}) were left alone, and no figure counts them.",
        "",
        f"{'':26}" + "".join(f"{kind:^34}" for kind in kinds),
        f"{'detector':26}" + f"{'AP':>8}{'AUROC':>8}{'P@flips':>9}{'seconds':>9}" * len(kinds),
    ]
    for name in found.detectors:
        cells = ""
        for kind in kinds:
            of_kind = [score for score in found.scores if (score.detector, score.kind) == (name, kind)]
            mean = [
                sum(values) / len(of_kind)
                for values in zip(*((s.average_precision, s.auroc, s.precision_at_flips) for s in of_kind), strict=True)
            ]
            seconds = [score.seconds for score in of_kind if score.seconds is not None]
            spent = f"{sum(seconds) / len(seconds):.1f}" if seconds else ""
            cells += f"{mean[0]:8.3f}{mean[1]:8.3f}{mean[2]:9.2f}{spent:>9}"
        star = " *" if found.fitted and name in OF_THE_MODEL else ""
        lines.append(f"{name.replace('_', ' ') + star:26}{cells}")
    lines += ["", "Suspicion, as probability"]
    for calibration in found.calibrations:
        precision = "-" if calibration.precision is None else f"{percent(calibration.precision, 0)}"
        gap = "" if calibration.gap is None else f"; off by {calibration.gap:+.2f} in its worst bin"
        lines.append(
            f"  {calibration.kind}: adds up to {calibration.expected:,.0f} for {calibration.flips:,} flips{gap}; "
            f"flags {calibration.flagged:,}, precision {precision}, recall {percent(calibration.recall, 0)}"
        )
    if found.fitted:
        lines += [
            "",
            "* reads the model itself, which learnt the labels as they were: planted flips are new to it, and it looks",
            "  better here than on the labels it was trained with. So does all that reads its features, but less.",
        ]
    lines += ["", f"Best on these rows: {found.recommended.replace('_', ' ')}{_behind(found)}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _behind(found: "Bench") -> str:
    """How far behind the best is the score by which a scan ranks."""
    from curate.experiments.bench import SUSPICION

    if found.recommended == SUSPICION:
        return ", by which `curate scan` ranks"
    gap = found.mean(found.recommended) - found.mean(SUSPICION)
    return f"; suspicion, by which `curate scan` ranks, is {gap:.3f} behind in mean AP"
