"""``curate perturb``: a heat map or ranked columns of one training row.

Knows options and layout; leaves the numbers to ``curate.experiments.perturb`` and the picture to
``curate.experiments.heat``.
"""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.cli.early import refuse_early
from curate.cli.options import (
    Sections,
    config_option,
    database,
    db_option,
    form_option,
    put,
    refuse_column,
    scan_options,
    write_bytes,
)
from curate.errors import UsageError
from curate.reports.words import brief, clean, shorten, signed
from curate.settings.merge import load_settings

if TYPE_CHECKING:
    from curate.experiments.perturb import Perturbed

SHOWN = 15


@click.command(cls=Sections)
@click.argument("key")
@click.argument("train", required=False, metavar="[TRAIN]")
@scan_options("Data", "Model", "Numbers")
@db_option
@config_option
@click.option("--png", metavar="FILE", help="Write the picture and its heat map.")
@form_option("text", "json", "html")
def perturb(key: str, config: str | None, png: str | None, form: str, db: str | None, **given: Any) -> None:
    """Which parts of the training row KEY make it help or harm? The gradient of its influence in its input.

    The influence is that on the mean loss of the evaluation rows: --eval-rows KEY for one of them, --slice for some. A
    picture has a heat map (--png FILE; -f html is the page of `curate show` with it), a table its columns ranked.
    """
    settings = load_settings({**given, "db": database(db)}, config=config)
    refuse_column(settings)
    refuse_early(settings)

    from curate.experiments.perturb import perturb as run  # torch
    from curate.process.progress import Progress

    found = run(settings, key, Progress())
    if png is not None or form == "html":
        from curate.experiments.heat import heat_png

        if not found.image:
            raise UsageError(f"{key} is no picture: it has no heat map", "Leave out --png and -f html.")
        picture = heat_png(found.input, found.gradient)
        if png is not None:
            write_bytes(png, picture)
    put(_json(found) if form == "json" else _html(found, picture, settings.db) if form == "html" else _text(found, png))


def _facts(found: "Perturbed") -> list[str]:
    direction = "helps" if found.influence > 0 else "harms"
    return [
        f"{found.key} ({found.label}) {direction} {found.measured_on}",
        f"influence {signed(found.influence)} nats; {found.how}",
        *(f"! warning: {said}" for said in found.warnings),
    ]


def _text(found: "Perturbed", png: str | None) -> str:
    lines = [*map(clean, _facts(found)), ""]
    gradient = found.gradient
    if found.names:
        order = abs(gradient).argsort()[::-1][:SHOWN]
        lines.append(f"{'column':40}{'value':>12}{'nats per unit':>16}")
        lines += [
            f"{shorten(clean(found.names[column]), 39):40}{brief(float(found.input[column])):>12}"
            f"{signed(float(gradient[column])):>16}"
            for column in order
        ]
        lines += ["", "one unit of the column as the model reads it; above 0: more of it makes the row help more"]
    else:
        size = abs(gradient)
        place = tuple(_unravelled(int(size.argmax()), gradient.shape))
        shape = "x".join(map(str, gradient.shape))
        lines.append(
            f"largest gradient {signed(float(gradient[place]))} nats per unit, at {place} of the input {shape}"
        )
        lines.append(f"mean size of the gradient {brief(float(size.mean()))}")
        lines.append(f"the heat map is in {png}" if png else "--png FILE writes the heat map" if found.image else "")
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _unravelled(index: int, shape: tuple[int, ...]) -> list[int]:
    place: list[int] = []
    for size in reversed(shape):
        index, rest = divmod(index, size)
        place.insert(0, rest)
    return place


def _json(found: "Perturbed") -> str:
    from curate.reports.json import SCHEMA_VERSION, dump

    told = {name: getattr(found, name) for name in found.__dataclass_fields__ if name not in ("gradient", "input")}
    return dump(
        {"schema_version": SCHEMA_VERSION, **told, "gradient": found.gradient.tolist(), "input": found.input.tolist()}
    )


def _html(found: "Perturbed", picture: bytes, db: str) -> str:
    """The row's page as `curate show` writes it, with the map; of a row that no finished run has, the map alone."""
    from curate.errors import StoreError
    from curate.reports.row import RowReport
    from curate.reports.row_html import Heat, heat_page, row_page
    from curate.store import Store

    heat = Heat(
        picture,
        (
            *_facts(found),
            "Left: the picture as the network reads it. Right: blue where more light makes the row help "
            "more, red where it makes it harm more.",
        ),
    )
    if Path(db).is_file():
        with contextlib.suppress(StoreError, UsageError), Store.open(db) as store:
            return row_page(RowReport.of_key(store, store.latest_run(found.dataset), found.key), heat)
    return heat_page(found.key, heat)
