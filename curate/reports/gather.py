"""From the database to a Report: all the SQL that reports need.

Knows tables and views; leaves layout to the renderers.
"""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Any

from curate.errors import StoreError
from curate.gate.judgement import Gate
from curate.reports.judged import Weighed, judge
from curate.reports.report import (
    OWN_SECTION,
    ClassRow,
    ConfusionRow,
    HarmfulGroup,
    HarmfulRow,
    MislabeledRow,
    OtherFinding,
    Receipt,
    Report,
    Reviewed,
    RunFacts,
    Step,
    SuspectRow,
    Total,
)
from curate.reports.trusted import checked
from curate.rules.rule import SEVERITIES
from curate.store import WARNING, Store
from curate.store.opening import explain
from curate.store.reviews import sure
from curate.store.rows import hits
from curate.store.summaries import FIRST, HARMING, SUSPECTS, flagged, summary

MEMBERS = 100  # keys told of a group of harmful rows
HITS = 3  # evaluation rows told for each harmful row
DEFAULT_DATABASE = Path(".curate/curate.db")


def gather(
    store: Store,
    run_id: int,
    top: int,
    *,
    gate: Gate | None = None,
    positions: Mapping[tuple[str, str], int] | None = None,
    most: int | None = None,
) -> Report:
    """The report of a stored run with up to ``top`` rows of a kind; judged by ``gate``, else by the run's own.

    ``most``: how many findings of a kind it lists; None: all.
    """
    run, stored = read_run(store, run_id)
    judged = judge(store, run, gate or run.gate, positions, most)
    whole = summary(store, run_id)
    mislabeled = _mislabeled(store, run_id, judged.weighed, "train", top)
    eval_loss = run.counts.get("eval_loss")
    eval_loss = float(eval_loss) if isinstance(eval_loss, (int, float)) and eval_loss > 0 else None
    harmful = _harmful(store, run_id, whole, top, eval_loss)
    by_class = _by_class(whole["classes"])
    notes = _notes(stored)
    return Report(
        run=run,
        rows=whole["rows"],
        classes=sum(1 for row in by_class if row.label) or len(by_class),
        accuracy_head=stored["accuracy_head"],
        accuracy_probe=stored["accuracy_probe"],
        eval_loss=eval_loss,
        receipts=tuple(_receipts(store, run_id)),
        notes=tuple(note for note in notes if not note.startswith(WARNING)),
        warnings=tuple(note.removeprefix(WARNING) for note in notes if note.startswith(WARNING)),
        mislabeled=tuple(mislabeled),
        eval_mislabeled=tuple(_mislabeled(store, run_id, judged.weighed, "eval", top)),
        suspects=_suspects(store, run_id, whole, top - len(mislabeled)),
        harmful=harmful,
        harmful_count=whole["harmful"],
        others=_others(store, run_id, top),
        by_class=by_class,
        confusions=tuple(ConfusionRow(**row) for row in whole["confusions"]),
        totals=_totals(judged.weighed),
        reviewed=_reviewed(store, run.dataset),
        next=_next(store, run, [row.key for row in mislabeled[:1]] + [row.key for row in harmful[:1]]),
        findings=judged.findings,
        spared_counts=Counter(finding.spared for finding in judged.weighed),
        gate=gate or run.gate,
        reference=judged.reference,
        outcome=judged.outcome,
        top=top,
        doubted=Counter(finding.split for finding in judged.weighed if finding.doubted),
        checked=checked(store, run.dataset, run.weights_sha256),
    )


def read_run(store: Store, run_id: int) -> tuple[RunFacts, dict[str, Any]]:
    """The facts of a run and the row they come from; StoreError if there is none."""
    found = store.query(
        "SELECT r.*, d.name AS dataset, d.location, d.kind FROM runs AS r "
        "JOIN datasets AS d ON d.id = r.dataset_id WHERE r.id = ?",
        [run_id],
    )
    if not found:
        raise StoreError(f"{store.path} holds no run {run_id}", "See which there are with `curate runs`")
    row = found[0]
    if row["pruned"]:
        raise StoreError(
            f"Run {run_id} was pruned ({row['pruned'][:10]}): its line, counts and findings' fingerprints are left",
            "`curate runs` shows which runs are whole; a scan makes a new one",
        )
    gate = Gate.of_settings(json.loads(row["gate"])) if row["gate"] else Gate()
    plain = (
        "id",
        "status",
        "started",
        "finished",
        "seconds",
        "peak_memory",
        "dataset",
        "location",
        "kind",
        "model",
        "weights_sha256",
        "device",
        "seed",
        "git_commit",
    )
    facts = RunFacts(
        **{name: row[name] for name in plain},
        settings=json.loads(row["settings"]),
        versions=json.loads(row["versions"]),
        counts=json.loads(row["counts"]),
        gate=gate,
    )
    return facts, row


def _notes(stored: dict[str, Any]) -> tuple[str, ...]:
    notes = tuple(str(note) for note in json.loads(stored["notes"]))
    if stored["status"] != "finished":
        notes = (f"This run is {stored['status']}: what stands here is not complete.", *notes)
    return notes


def _receipts(store: Store, run_id: int) -> list[Receipt]:
    rows = store.query("SELECT * FROM receipts WHERE run_id = ? ORDER BY rowid", [run_id])
    for row in rows:
        del row["run_id"]
        row["rank_stability"] = json.loads(row["rank_stability"]) if row["rank_stability"] else None
        row["detail"] = json.loads(row["detail"])
    return [Receipt(**row) for row in rows]


def _mislabeled(store: Store, run_id: int, findings: Sequence[Weighed], split: str, top: int) -> list[MislabeledRow]:
    """The most suspect ones, of all findings of the run."""
    theirs = [f for f in findings if f.rule == "mislabeled" and f.split == split]
    least = nlargest(top, (_suspicion(f) for f in theirs))[-1:] or [0.0]
    # All that are equal to the last one: which of them comes first, the database knows.
    first = [f.fingerprint for f in theirs if _suspicion(f) >= least[0]]
    rows = store.query(
        "SELECT f.key, f.split, f.label AS given_label, s.suggested_label, s.suggested_probability, "
        "ifnull(s.suspicion, f.score) AS suspicion, f.severity, f.state, f.why, f.evidence, x.text "
        "FROM json_each(:first) AS j CROSS JOIN findings AS p INDEXED BY findings_fingerprint "
        "ON p.fingerprint = j.value AND p.run_id = :run "
        "CROSS JOIN run_findings AS f ON f.run_id = :run AND f.example_id = p.example_id AND f.rule = p.rule "
        "JOIN examples AS x ON x.id = f.example_id "
        "LEFT JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = f.example_id "
        "WHERE f.split = :split ORDER BY suspicion DESC, s.rank, f.key LIMIT :top",
        {"run": run_id, "first": json.dumps(first), "split": split, "top": top},
    )
    return [MislabeledRow(**{**_sure(row), "evidence": json.loads(row["evidence"])}) for row in rows]


def _sure(row: dict[str, Any]) -> dict[str, Any]:
    """The same without a suggested label that is not probable enough."""
    return {**row, "suggested_label": sure(row["suggested_label"], row["suggested_probability"])}


def _suspicion(finding: Weighed) -> float:
    return -1.0 if finding.suspicion is None else finding.suspicion


def _first(store: Store, run_id: int, sql: str, kept: list[int] | None, count: int) -> str:
    """Ids as JSON: those that were kept when the run ended, or sorted now if more are asked for."""
    if kept is None or FIRST <= len(kept) < count:
        kept = [row["id"] for row in store.query(sql, {"run": run_id, "most": count})]
    return json.dumps(kept[:count])


def _suspects(store: Store, run_id: int, whole: Mapping[str, Any], count: int) -> tuple[SuspectRow, ...]:
    if count <= 0:
        return ()
    rows = store.query(
        "SELECT e.key, s.rank, e.label AS given_label, s.suggested_label, s.suggested_probability, "
        "s.suspicion, e.text FROM json_each(?) AS j "
        "CROSS JOIN scores AS s ON s.run_id = ? AND s.example_id = j.value "
        "CROSS JOIN named_examples AS e ON e.id = j.value ORDER BY j.key",
        [_first(store, run_id, SUSPECTS, whole.get("suspects"), count), run_id],
    )
    told = [_sure(row) for row in rows]
    return tuple(
        SuspectRow(**{name: value for name, value in row.items() if name != "suggested_probability"}) for row in told
    )


def _harmful(
    store: Store, run_id: int, whole: Mapping[str, Any], top: int, eval_loss: float | None
) -> tuple[HarmfulRow, ...]:
    """Findings first, those of one cause as one row; then the rows of highest harm above zero."""
    rows = store.query(
        "SELECT * FROM (SELECT e.id, e.key, e.label, e.text, s.harm, f.evidence, "
        "ifnull(json_extract(f.evidence, '$.group.harm'), s.harm) AS total, row_number() OVER ("
        "PARTITION BY ifnull(json_extract(f.evidence, '$.group.of'), e.id) ORDER BY s.harm DESC, e.key) AS place "
        "FROM findings AS f JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = f.example_id "
        "JOIN named_examples AS e ON e.id = s.example_id "
        "WHERE f.run_id = ? AND f.rule = 'harmful' AND s.harm > 0 AND e.split = 'train') "
        "WHERE place = 1 ORDER BY total DESC, key LIMIT ?",
        [run_id, top],
    )
    if len(rows) < top:
        rows += store.query(
            "SELECT e.id, e.key, e.label, e.text, s.harm, NULL AS evidence FROM json_each(?) AS j "
            "CROSS JOIN scores AS s ON s.run_id = ? AND s.example_id = j.value "
            "CROSS JOIN named_examples AS e ON e.id = j.value ORDER BY j.key",
            [_first(store, run_id, HARMING, whole.get("harming"), top - len(rows)), run_id],
        )
    found = []
    for row in rows:
        evidence = json.loads(row["evidence"] or "{}")
        low, high = evidence.get("interval", (None, None))
        flips = evidence.get("flips", {})
        found.append(
            HarmfulRow(
                key=row["key"],
                label=row["label"],
                harm=row["harm"],
                share=row["harm"] / eval_loss if eval_loss else None,
                hits=hits(store, run_id, row["id"], harmful=True, limit=HITS),
                text=row["text"],
                flagged=row["evidence"] is not None,
                low=low,
                high=high,
                turn_right=flips.get("right"),
                turn_wrong=flips.get("wrong"),
                group=harmful_group(store, run_id, evidence.get("group"), eval_loss),
            )
        )
    return tuple(found)


def harmful_group(
    store: Store, run_id: int, group: dict[str, Any] | None, eval_loss: float | None
) -> HarmfulGroup | None:
    """The harmful rows of one cause, as a finding's evidence names it."""
    if group is None:
        return None
    members = store.query(
        "SELECT e.key FROM findings AS f JOIN named_examples AS e ON e.id = f.example_id "
        "WHERE f.run_id = ? AND f.rule = 'harmful' AND json_extract(f.evidence, '$.group.of') = ? "
        "ORDER BY f.score DESC, e.key LIMIT ?",
        [run_id, group["of"], MEMBERS],
    )
    return HarmfulGroup(
        size=group["size"],
        given_label=group["given"],
        suggested_label=group["suggested"],
        harm=group["harm"],
        share=group["harm"] / eval_loss if eval_loss else None,
        turn_right=group["flips"]["right"],
        turn_wrong=group["flips"]["wrong"],
        members=tuple(row["key"] for row in members),
    )


def _others(store: Store, run_id: int, top: int) -> tuple[OtherFinding, ...]:
    rows = store.query(
        "SELECT f.rule, f.severity, f.state, f.key, f.split, f.label, f.why, x.text FROM run_findings AS f "
        "LEFT JOIN examples AS x ON x.id = f.example_id "
        "WHERE f.run_id = ? AND f.rule NOT IN (SELECT value FROM json_each(?)) "
        "ORDER BY instr('error warning note', f.severity), f.rule, f.key LIMIT ?",
        [run_id, json.dumps(OWN_SECTION), top],
    )
    return tuple(OtherFinding(**row) for row in rows)


def _by_class(counts: list[dict[str, Any]]) -> tuple[ClassRow, ...]:
    return tuple(
        ClassRow(
            row["label"],
            row["n"],
            row["mislabeled"],
            row["mislabeled"] / row["n"],
            row["suggested"],
            row["expected"],
        )
        for row in counts
    )


def _reviewed(store: Store, dataset: str) -> tuple[Reviewed, ...]:
    """The view ``rule_precision`` of one data set, from the words on: fifty runs of a million rows take a second."""
    (known,) = store.query("SELECT id FROM datasets WHERE name = ?", [dataset])
    last: dict[tuple[str, str], tuple[str, int]] = {}
    with explain(store.path):
        for fingerprint, rule, verdict, ours in store.connection.execute(_SAID, {"dataset": known["id"]}):
            last[fingerprint, rule] = verdict, ours
    confirming = {row["name"]: json.loads(row["confirmed_by"]) for row in store.query("SELECT * FROM rules")}
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for (_, rule), (verdict, ours) in last.items():
        if rule in confirming and ours:
            said[rule][verdict] += 1
    found = []
    for rule, count in sorted(flagged(store, dataset).items() if said else (), key=lambda item: (-item[1], item[0])):
        if rule in said:
            confirmed = sum(said[rule][word] for word in confirming[rule])
            refuted = said[rule]["keep"]
            precision = confirmed / (confirmed + refuted) if confirmed + refuted else None
            found.append(Reviewed(rule, count, confirmed, refuted, said[rule]["unsure"], precision))
    return tuple(found)


# Words and the rules that they speak of, older ones first, as in the view ``finding_words``. The view looks for the run
# that somebody had before him among all findings of the row; here the runs are asked from the newest back, which is one
# or two questions a word. CROSS JOIN: from a run and a word to the row, whatever the planner thinks of it.
_SHOWN_TO = """
    SELECT r.id FROM runs AS r WHERE r.dataset_id = :dataset AND r.status = 'finished' AND {when} AND EXISTS (
        SELECT 1 FROM examples AS x CROSS JOIN findings AS g INDEXED BY findings_of_row
        ON g.run_id = r.id AND g.example_id = x.id WHERE x.fingerprint = v.fingerprint
    ) ORDER BY r.id {order} LIMIT 1
"""
_SAID = f"""
    SELECT
        v.fingerprint,
        ifnull(v.rule, (
            SELECT CASE WHEN min(f.rule) = max(f.rule) THEN max(f.rule) END
            FROM examples AS e CROSS JOIN findings AS f INDEXED BY findings_of_row ON f.example_id = e.id
            AND f.run_id = ifnull(
                ({_SHOWN_TO.format(when="r.finished <= v.time", order="DESC")}),
                ({_SHOWN_TO.format(when="1", order="ASC")})
            )
            WHERE e.fingerprint = v.fingerprint
        )) AS rule,
        v.verdict,
        CASE WHEN v.rule IS NULL THEN 1 ELSE EXISTS (
            SELECT 1 FROM examples AS e CROSS JOIN findings AS f INDEXED BY findings_example ON f.example_id = e.id
            CROSS JOIN runs AS r ON r.id = f.run_id AND r.status = 'finished' AND r.dataset_id = :dataset
            WHERE e.fingerprint = v.fingerprint AND f.rule = v.rule
        ) OR EXISTS (
            SELECT 1 FROM findings AS f JOIN runs AS r ON r.id = f.run_id AND r.status = 'finished'
            WHERE f.subject_fingerprint = v.fingerprint AND f.rule = v.rule AND r.dataset_id = :dataset
        ) END AS ours
    FROM standing_reviews AS v ORDER BY v.time, v.id
"""


def _totals(findings: Sequence[Weighed]) -> tuple[Total, ...]:
    """Gravest first, training rows before evaluation rows."""
    counts = Counter((f.rule, f.severity, f.split, f.state) for f in findings)
    totals = [Total(*what, count) for what, count in counts.items()]
    by_state = sorted(totals, key=lambda total: total.state)
    by_split = sorted(by_state, key=lambda total: total.split, reverse=True)
    return tuple(sorted(by_split, key=lambda total: (SEVERITIES.index(total.severity), total.rule)))


def _is_current(store: Store, run: RunFacts) -> bool:
    """True if a command that names no run finds this one."""
    try:
        return store.latest_run() == run.id
    except StoreError:
        return False


def _next(store: Store, run: RunFacts, keys: list[str]) -> tuple[Step, ...]:
    database = "" if store.path == DEFAULT_DATABASE else f" --db {shlex.quote(str(store.path))}"
    chosen = database if _is_current(store, run) else f" --run {run.id}{database}"
    # A key that cannot be typed (control characters) must not be offered for pasting either.
    typable = [key for key in keys if key.isprintable()]
    steps = [
        Step(
            f"curate show{' --' if key.startswith('-') else ''} {shlex.quote(key)}{chosen}",
            "one row, and all that is known of it",
        )
        for key in typable[:1]
    ]
    steps += [
        Step(
            f"curate mark{' --' if key.startswith('-') else ''} {shlex.quote(key)} --verdict keep{chosen}",
            "your word: relabel, keep, drop, none, unsure",
        )
        for key in typable[:1]
    ]
    if run.counts.get("unjudged"):
        where = shlex.quote(run.location)
        steps.insert(0, Step(f"curate init {where}", "looks for a model, and writes what a scan needs"))
    return (
        *steps,
        Step(f"curate review{chosen}", "the flagged rows one by one, by keyboard"),
        Step(f"curate report -f html:report.html{chosen}", "the same as a page of pictures"),
        Step(f"curate report -v --top 100{chosen}", "more rows, every reason, notes and receipts"),
    )
