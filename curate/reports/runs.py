"""The runs of a database as one table.

Knows what tells runs apart at a glance; ``report.py`` tells one of them in full.
"""

from dataclasses import dataclass

from rich.text import Text

from curate.process.numbers import duration
from curate.reports.layout import Column, Page, cell
from curate.reports.words import moment
from curate.store import Store

STATUS_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "interrupted": "yellow"}


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in the list; ``started`` is ISO 8601, UTC."""

    id: int
    dataset: str
    status: str
    started: str
    rows: int  # scored
    findings: int
    seconds: float | None
    model: str | None


def run_lines(store: Store, dataset: str | None = None) -> list[RunLine]:
    """Newest first."""
    rows = store.query(
        "SELECT r.id, d.name AS dataset, CASE WHEN r.pruned IS NULL THEN r.status ELSE 'pruned' END AS status, "
        # counting the rows of fifty runs of a million would take a minute
        "r.started, ifnull(json_extract(r.counts, '$.scored'), 0) AS rows, "
        "(SELECT count(*) FROM findings WHERE run_id = r.id) AS findings, r.seconds, r.model "
        "FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id "
        "WHERE d.name = ifnull(?, d.name) ORDER BY r.id DESC",
        [dataset],
    )
    return [RunLine(**row) for row in rows]


def write_runs(page: Page, lines: list[RunLine]) -> None:
    """The table, or a line on how to make a first run."""
    if not lines:
        page.line("no runs yet: make one with `curate scan`")
        return
    columns = [
        Column("run", right=True),
        Column("data set", shrinks=True),
        Column("status"),
        Column("started"),
        Column("rows", right=True),
        Column("findings", right=True),
        Column("took", right=True),
        Column("model", shrinks=True),
    ]
    cells = [
        [
            Text(str(line.id), "bold"),
            cell(line.dataset),
            Text(line.status, STATUS_STYLES.get(line.status, "")),
            Text(moment(line.started)),
            Text(f"{line.rows:,}"),
            Text(f"{line.findings:,}"),
            Text("-" if line.seconds is None else duration(line.seconds)),
            cell(line.model or "-"),
        ]
        for line in lines
    ]
    page.table(columns, cells)
