"""``curate mark``: a verdict on rows by key, or all verdicts of a file. Never imports torch.

Knows options and what is said afterwards; leaves the rules to ``curate.store`` and files to ``curate.review``.
"""

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from curate.cli.chosen import chosen_run
from curate.cli.completing import flagged_keys
from curate.cli.options import database, db_option, put, run_options
from curate.errors import UsageError
from curate.reports.gather import read_run
from curate.reports.row import find
from curate.reports.words import clean, plural
from curate.review import mark_entries, read_entries
from curate.review.queue import Filters, Queue
from curate.rules.rule import RULES
from curate.store import VERDICTS, Review, Store, reviews
from curate.store.batches import mark_many, undo_batch
from curate.store.reviews import login

SHOWN = 10


@click.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=flagged_keys)
@click.option("-v", "--verdict", type=click.Choice(VERDICTS), help="Your word on these rows.")
@click.option("-l", "--label", metavar="LABEL", help="The right label, for relabel.  [the suggested one]")
@click.option("-n", "--note", metavar="TEXT", help="Why; for those who read it later.")
@click.option("--undo", is_flag=True, help="Take back the newest verdict on these rows; the one before counts again.")
@click.option("--last", is_flag=True, help="With --undo: your newest verdict on many rows, all of it.")
@click.option("--flagged", metavar="RULE|any", help="All flagged rows of a rule that wait for a word, instead of KEY.")
@click.option("--class", "given", metavar="LABEL", help="Of these only rows with this given label.")
@click.option("--suggested", metavar="LABEL", help="Of these only rows for which this label is suggested.")
@click.option("--least", metavar="SUSPICION", type=click.FloatRange(0, 1), help="Of these only rows this suspect.")
@click.option("--split", type=click.Choice(["train", "eval"]), help="Of these only training or evaluation rows.")
@click.option("--cluster", metavar="KEY", help="Of these only rows of the cluster or cause that KEY stands for.")
@click.option("--from", "file", metavar="FILE", help="Verdicts of a .csv or .jsonl file (- for stdin).")
@click.option("--reviewer", metavar="NAME", envvar="CURATE_REVIEWER", help="Who says it.  [your login name]")
@click.option("--rule", metavar="RULE", help="Your word is on this rule alone, not on the row.")
@click.option("--new-class", is_flag=True, help="Allow a label that no row of the data set has.")
@run_options
@db_option
def mark(
    keys: tuple[str, ...],
    verdict: str | None,
    label: str | None,
    note: str | None,
    undo: bool,
    file: str | None,
    reviewer: str | None,
    rule: str | None,
    new_class: bool,
    last: bool,
    flagged: str | None,
    run_id: int | None,
    dataset: str | None,
    db: str | None,
    **which: Any,
) -> None:
    """Leave a verdict on rows: relabel, keep, drop, none (no class fits) or unsure.

    KEY is the row's key, or a path to its file; eval:KEY is the evaluation row where a training row has that key too.
    A file has the columns key and verdict, and may have new_label, note, reviewer, time, split, fingerprint and rule;
    rows without a verdict are skipped; it may be Label Studio's JSON, too. --flagged marks all flagged rows that fit
    at once, and --undo --last takes that back. Verdicts are never changed: a new one counts instead, and --undo brings
    back the old.
    """
    if last and undo and not keys and file is None:
        _undo_last(db, run_id, dataset, reviewer or login())
        return
    if flagged is not None or any(value is not None for value in which.values()):
        if keys or file is not None or undo or verdict is None or rule is not None:
            raise UsageError("--flagged chooses the rows of one verdict", "Leave out keys, --from, --rule and --undo.")
        _mark_flagged(db, run_id, dataset, Choice(flagged, verdict, label, note, reviewer or login()), which)
        return
    _check(keys, verdict, label, note or rule, undo, file)
    who = reviewer or login()
    with Store.open(database(db)) as store:
        run = chosen_run(store, run_id, dataset)
        facts, _ = read_run(store, run)
        if file is not None:
            entries, blank = read_entries("stdin" if file == "-" else file, sys.stdin.read() if file == "-" else None)
            done = mark_entries(store, run, facts.dataset, entries, reviewer=who, new_class=new_class)
            words, remarks = (
                done.added,
                [
                    (done.repeated, "verdict was there already", "verdicts were there already"),
                    (blank, "row had no verdict", "rows had no verdict"),
                    (
                        done.unseen,
                        "verdict is on a row that was never scanned here, and waits for it",
                        "verdicts are on rows that were never scanned here, and wait for them",
                    ),
                ],
            )
        else:
            remarks = []
            with store.transaction():
                rows = [reviews.row_by_id(store, run, find(store, facts, key)) for key in keys]
                if verdict is None:
                    undone = partial(reviews.undo, reviewer=reviewer, source="mark", rule=rule)
                    words = [undone(store, row, note) for row in rows]
                else:
                    said = partial(reviews.mark, reviewer=who, source="mark", new_class=new_class, rule=rule)
                    words = [said(store, row, verdict, label, note) for row in rows]
        for word in words[:SHOWN]:
            put(f"{_told(store, word)}\n")
        if len(words) > SHOWN or file is not None:
            put(f"{plural(len(words), 'verdict')} stored\n")
        for count, one, many in remarks:
            if count:
                put(f"{count:,} {one if count == 1 else many}\n")
        put(f"{_left(store, facts.dataset)}\n")


@dataclass(frozen=True)
class Choice:
    """One verdict, and which flagged rows it is on."""

    flagged: str | None
    verdict: str
    label: str | None
    note: str | None
    reviewer: str


def _mark_flagged(db: str | None, run_id: int | None, dataset: str | None, said: Choice, which: dict[str, Any]) -> None:
    rule = None if said.flagged in (None, "any") else said.flagged
    if rule is not None and rule not in RULES:
        raise UsageError(f"--flagged {rule}: there is no such rule", f"Rules: any, {', '.join(RULES)}")
    filters = Filters(rule, which["given"], which["split"], which["least"], which["suggested"], which["cluster"])
    with Store.open(database(db)) as store:
        queue = Queue(store, chosen_run(store, run_id, dataset), said.reviewer, filters)
        rows = [reviews.row_by_id(store, queue.run_id, place.example_id) for place in queue.waiting]
        done = mark_many(store, rows, said.verdict, said.label, said.note, reviewer=said.reviewer, source="mark")
        put(f"{plural(len(done.words), 'row')}: {_said(said.verdict, said.label)}, by {clean(said.reviewer)}\n")
        if done.unsure:
            put(f"{plural(done.unsure, 'row')} without a sure suggested label: not marked\n")
        put("`curate mark --undo --last` takes it back\n")
        put(f"{_left(store, queue.dataset)}\n")


def _undo_last(db: str | None, run_id: int | None, dataset: str | None, reviewer: str) -> None:
    with Store.open(database(db)) as store:
        run = chosen_run(store, run_id, dataset)
        words = undo_batch(store, run, reviewer=reviewer, source="mark")
        put(f"{plural(len(words), 'verdict')} taken back, by {clean(reviewer)}\n")
        put(f"{_left(store, read_run(store, run)[0].dataset)}\n")


def _check(
    keys: tuple[str, ...], verdict: str | None, label: str | None, more: str | None, undo: bool, file: str | None
) -> None:
    if file is not None:
        if keys or verdict or label or more or undo:
            raise UsageError("--from FILE brings its own keys and verdicts", "Leave out the key and the other options")
        return
    if not keys:
        raise UsageError("No row was named", "curate mark KEY --verdict keep, or curate mark --from FILE.csv")
    if undo == (verdict is not None):
        raise UsageError(
            "Give either --verdict or --undo", f"Verdicts: {', '.join(VERDICTS)}; --undo takes the newest one back"
        )
    if label is not None and verdict != "relabel":
        raise UsageError("--label belongs to --verdict relabel", "Leave it out, or say --verdict relabel")


def _told(store: Store, word: Review) -> str:
    found = store.query(
        "SELECT verdict, new_label, reviewer, disagreement, words FROM verdicts WHERE fingerprint = ?",
        [word.fingerprint],
    )
    if word.undoes is None:
        of = f" ({word.rule})" if word.rule else ""
        line = f"{word.key}: {_said(word.verdict, word.new_label)}{of}, by {word.reviewer}"
    else:
        line = f"{word.key}: taken back, by {word.reviewer}"
        if found:
            line += f"; now {_said(found[0]['verdict'], found[0]['new_label'])}, by {found[0]['reviewer']}"
    if found and found[0]["disagreement"]:
        line += f"; the reviewers disagree ({found[0]['words']}), and the newest word counts"
    return clean(line)


def _said(verdict: str, label: str | None) -> str:
    return f"{verdict} to {label}" if label else verdict


def _left(store: Store, dataset: str) -> str:
    # As the states of current_findings have it, without asking what is known and what is new: of 30,000 findings.
    (count,) = store.query(
        "SELECT count(DISTINCT example_id) FILTER (WHERE reviewed) AS done, "
        "count(DISTINCT example_id) FILTER (WHERE NOT reviewed AND NOT accepted) AS open FROM (SELECT f.example_id, "
        "EXISTS (SELECT 1 FROM standing_reviews AS w WHERE w.fingerprint = e.fingerprint) AS reviewed, "
        "EXISTS (SELECT 1 FROM accepted AS a WHERE a.dataset_id = e.dataset_id AND a.fingerprint = f.fingerprint) "
        "AS accepted FROM findings AS f JOIN examples AS e ON e.id = f.example_id "
        "WHERE f.run_id = (SELECT c.run_id FROM current_runs AS c JOIN datasets AS d ON d.id = c.dataset_id "
        "WHERE d.name = ?))",
        [dataset],
    )
    return f"flagged rows: {count['done']:,} reviewed, {count['open']:,} open"
