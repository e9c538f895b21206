"""What other programs read: cleanlab's frame of issues, FiftyOne's labels, Label Studio's tasks.

Knows their formats; all of it comes from the database, so that the data set itself is not opened.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from curate.errors import UsageError
from curate.files.cells import quoted
from curate.files.label_studio import CONTROL, NO_CLASS
from curate.reports.gather import read_run
from curate.settings.media import MediaRoots, outside
from curate.store import Store
from curate.store.reviews import sure

FACTS = ("key", "split", "suspicion", "suggested_label", "rules", "verdict", "new_label", "reviewer")
"""Attributes of a label in FiftyOne, where they are known."""


@dataclass(frozen=True)
class RunRows:
    """All rows of a run, in the order of the data set, with scores, findings and the verdict that counts."""

    run_id: int
    classes: list[str]
    """In the order of the model's outputs; then those that only verdicts name."""
    rows: list[dict[str, Any]]
    roots: MediaRoots
    """Where their pictures may lie."""

    def media(self, row: dict[str, Any]) -> str | None:
        """The row's picture. Raises ``UsageError`` where it lies outside of the data's folder."""
        path: str | None = row["media_path"]
        if path is not None and not self.roots.holds(path):
            raise outside(path)
        return path

    def index(self, label: str | None) -> int | None:
        """The place of a label among the classes."""
        return None if label is None else self.classes.index(label)


def read_rows(store: Store, run_id: int, media_root: Sequence[str] = ()) -> RunRows:
    """Read a run's rows with findings and verdicts."""
    run, _ = read_run(store, run_id)
    labels = store.query(
        "SELECT name FROM labels WHERE dataset_id = (SELECT dataset_id FROM runs WHERE id = ?) "
        'ORDER BY "index" IS NULL, "index", id',
        [run_id],
    )
    rows = store.query(
        "SELECT e.key, e.split, e.position, e.label, e.media_path, e.text, e.fingerprint, s.suspicion, "
        "s.given_probability, s.suggested_label, s.suggested_probability, f.rules, f.why, f.mislabeled, "
        "v.verdict, v.new_label, v.reviewer "
        "FROM named_examples AS e LEFT JOIN scores AS s ON s.run_id = :run AND s.example_id = e.id "
        "LEFT JOIN (SELECT example_id, group_concat(rule, ', ') AS rules, group_concat(why, ' ') AS why, "
        "max(rule = 'mislabeled') AS mislabeled FROM findings WHERE run_id = :run GROUP BY example_id) AS f "
        "ON f.example_id = e.id "
        "LEFT JOIN (SELECT fingerprint, verdict, new_label, reviewer FROM verdicts) AS v "
        "ON v.fingerprint = e.fingerprint "
        "WHERE e.dataset_id = (SELECT dataset_id FROM runs WHERE id = :run) "
        "AND (s.example_id IS NOT NULL OR f.example_id IS NOT NULL) ORDER BY e.split DESC, e.position",
        {"run": run_id},
    )
    roots = MediaRoots.of(run.settings, run.location, media_root)
    return RunRows(run_id, [row["name"] for row in labels], rows, roots)


def cleanlab(rows: RunRows, target: Path) -> dict[Path, str]:
    """A line for each training row, as ``CleanLearning.get_label_issues`` gives it and ``fit(label_issues=)`` takes it.

    A verdict counts before the scan: keep is no issue, relabel and drop are.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    names = ("is_label_issue", "label_quality", "given_label", "predicted_label")
    table.writerow(["position", *names, "key", "given_class", "predicted_class", "verdict"])
    for row in rows.rows:
        if row["split"] == "train" and row["label"] is not None:
            verdict = row["verdict"]
            issue = bool(row["mislabeled"]) if verdict in (None, "unsure") else verdict != "keep"
            given = row["label"]
            better = row["new_label"] or row["suggested_label"]
            predicted = better if issue and better is not None else given
            quality = "" if row["suspicion"] is None else 1 - row["suspicion"]
            texts = (quoted(row["key"]), quoted(given), quoted(predicted), verdict or "")
            table.writerow([row["position"], issue, quality, rows.index(given), rows.index(predicted), *texts])
    return {target: out.getvalue()}


def fiftyone(rows: RunRows, target: Path) -> dict[Path, str]:
    """A folder of the type ``FiftyOneImageClassificationDataset``, whose ``data.json`` names the pictures.

    Samples are called by fingerprint, since names without their endings need not differ. Raises ``UsageError`` where
    the rows are no pictures.
    """
    files, labels = {}, {}
    for row in rows.rows:
        if row["media_path"] is not None:
            files[row["fingerprint"]] = os.path.abspath(rows.media(row) or "")
            facts = {
                name: row[name]
                for name in (
                    "key",
                    "split",
                    "suspicion",
                    "suggested_label",
                    "rules",
                    "verdict",
                    "new_label",
                    "reviewer",
                )
                if row[name] is not None
            }
            labels[row["fingerprint"]] = {
                "label": rows.index(row["label"]),
                "confidence": row["given_probability"],
                "attributes": facts,
            }
    if not files:
        raise UsageError("These rows are no pictures, which FiftyOne shows", "-f label-studio:FILE.json takes texts.")
    return {
        target / "data.json": json.dumps(files, indent=1),
        target / "labels.json": json.dumps({"classes": rows.classes, "labels": labels}, indent=1),
    }


def label_studio(rows: RunRows, target: Path) -> dict[Path, str]:
    """Tasks of the rows that are flagged or judged, and beside them the labeling configuration.

    The suggested label is a prediction; relabel, keep and none are annotations. `curate mark --from` takes what people
    answered, as Label Studio exports it (JSON). Raises ``UsageError`` where the rows are
    neither pictures nor texts.
    """
    chosen = [row for row in rows.rows if row["rules"] or row["verdict"]]
    chosen.sort(key=lambda row: -(row["suspicion"] or 0.0))
    pictures = any(row["media_path"] for row in rows.rows)
    if not pictures and not any(row["text"] for row in rows.rows):
        raise UsageError(
            "These rows are neither pictures nor texts, which Label Studio shows",
            "-f cleanlab:FILE.csv takes any rows.",
        )
    kind = "image" if pictures else "text"
    tasks = []
    for row in chosen:
        shown = _local_file(rows.media(row)) if pictures else row["text"]
        facts = {name: row[name] for name in ("key", "split", "fingerprint", "suspicion", "rules", "why", "verdict")}
        task: dict[str, Any] = {"data": {kind: shown or "", "given_label": row["label"], **facts}}
        suggested = sure(row["suggested_label"], row["suggested_probability"])
        if suggested is not None:
            choice = _choice(kind, suggested)
            task["predictions"] = [
                {"model_version": f"curate run {rows.run_id}", "score": row["suggested_probability"], "result": choice}
            ]
        said = {"relabel": row["new_label"], "keep": row["label"], "none": NO_CLASS}.get(row["verdict"])
        if said is not None:
            task["annotations"] = [{"result": _choice(kind, said)}]
        tasks.append(task)
    tag = f'<Image name="{kind}" value="$image"/>' if pictures else f'<Text name="{kind}" value="$text"/>'
    choices = "".join(f"\n    <Choice value={quoteattr(name)}/>" for name in [*rows.classes, NO_CLASS])
    config = (
        f'<View>\n  <Header value="$why"/>\n  {tag}\n'
        f'  <Choices name="{CONTROL}" toName="{kind}" choice="single">{choices}\n  </Choices>\n</View>\n'
    )
    return {target: json.dumps(tasks, indent=1, ensure_ascii=False), target.with_suffix(".xml"): config}


def _choice(kind: str, label: str) -> list[dict[str, Any]]:
    return [{"from_name": CONTROL, "to_name": kind, "type": "choices", "value": {"choices": [label]}}]


def _local_file(path: str | None) -> str | None:
    """As Label Studio's local storage names a file, below the folder that the scan ran in."""
    if not path:
        return None
    below = os.path.relpath(path)
    return f"/data/local-files/?d={quote(path.lstrip('/') if below.startswith('..') else below)}"


TOOLS: dict[str, Callable[[RunRows, Path], dict[Path, str]]] = {
    "cleanlab": cleanlab,
    "fiftyone": fiftyone,
    "label-studio": label_studio,
}
