"""How far a report is to be trusted, for people: three lines, and on request how each number came about.

Knows the sentences of accuracy, level and influence; the signs themselves stand in ``trusted.py``.
"""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from curate.process.numbers import duration, memory, percent
from curate.reports.harmful_terminal import target
from curate.reports.layout import Page
from curate.reports.report import Receipt, Report
from curate.reports.trusted import PLACES, trust_advice, trust_facts
from curate.reports.words import brief, clean, plural


def write_trust(page: Page, report: Report) -> None:
    """At most three facts, one line each where the page is wide."""
    facts = list(_short(report))
    if facts:
        page.heading("How far to trust this")
        page.facts(facts)


def _short(report: Report) -> "list[tuple[str, str]]":
    told = []
    accuracies = accuracy_sentence(report)
    if accuracies:
        told.append(("accuracy", accuracies))
    level = report.run.counts.get("level")
    if isinstance(level, Mapping):
        audited = level.get("source") == "audit"
        say = "counted by an audit" if audited else "an estimate that nobody checked: `curate audit` does"
        told.append(("wrong labels", f"how many there are is {say}"))
    if report.checked:
        told.append(("influence", "; ".join(f"{PLACES.get(one.at, one.at)}: {one.trust}" for one in report.checked)))
    elif isinstance(report.run.counts.get("diagnostics"), Mapping):
        doubts = len(trust_advice(report.run.counts))
        doubted = f", and {plural(doubts, 'doubt')} (-v)" if doubts else ""
        told.append(("influence", f"not checked on this model: `curate verify` does{doubted}"))
    return told


def accuracy_sentence(report: Report) -> str:
    """How often model and probe give the given labels, and that they were fitted to them; "" if nothing is known."""
    known = [
        f"{name} {percent(accuracy)}"
        for name, accuracy in (("the model", report.accuracy_head), ("a probe on its features", report.accuracy_probe))
        if accuracy is not None
    ]
    if report.accuracy_head is None and known:
        known = [f"a probe on the features {percent(report.accuracy_probe)}"]
    return f"{', '.join(known)}, on the labels they were fitted to" if known else ""


def write_appendix(page: Page, report: Report) -> None:
    """All that the short report leaves out: what was run, notes, receipts, and the checkpoint's signs."""
    _run(page, report)
    notes = report.notes[report.run.status != "finished" :]  # the first says so, and stands at the top
    if notes:
        page.heading("Notes")
        for note in notes:
            page.paragraph(Text.assemble(("- ", "dim"), clean(note)), follow=2)
    if report.receipts:
        page.heading("How it was solved")
        page.facts((clean(receipt.quantity), receipt_sentence(receipt)) for receipt in report.receipts)
    facts = list(trust_facts(report.run.counts, report.checked))
    if facts:
        page.heading("Can influence be trusted here?")
        page.facts((name, clean(told)) for name, told in facts)
        for advice in trust_advice(report.run.counts):
            page.paragraph(Text.assemble(("! ", "yellow"), clean(advice)), follow=2)


def _run(page: Page, report: Report) -> None:
    run = report.run
    model = [clean(run.model) if run.model else report.without_model]
    if run.weights_sha256:
        model.append(f"weights {run.weights_sha256[:12]}")
    work = [run.device or "", f"{run.processes} processes" if run.processes > 1 else "", f"seed {run.seed}"]
    if run.seconds is not None:
        work.append(duration(run.seconds))
    if run.peak_memory is not None:
        work.append(f"{memory(run.peak_memory)}{' in the first process' if run.processes > 1 else ''}")
    facts = [("model", ", ".join(model)), ("run on", ", ".join(part for part in work if part))]
    if report.cut is not None:
        facts.append(("flagged", f"from a suspicion of {percent(report.cut, 0)} on"))
    if report.eval_loss:
        facts.append(("loss", f"{brief(report.eval_loss)} nats, the mean of {target(report)}"))
    page.heading("What was run")
    page.facts(facts)


def receipt_sentence(receipt: Receipt) -> str:
    """One receipt in words; what was not measured is left out."""
    how = clean(receipt.solver) + (f" on {clean(receipt.curvature)}" if receipt.curvature else "")
    parts = [how + (f", parameters: {clean(receipt.parameters)}" if receipt.parameters else "")]
    if receipt.damping is not None:
        asked = receipt.damping_asked
        raised = asked is not None and brief(asked) != brief(receipt.damping)
        parts.append(f"damping {brief(receipt.damping)}" + (f" (asked {brief(asked)})" if raised else ""))
    if receipt.residual is not None:
        parts.append(f"residual {receipt.residual:.2g}")
    if receipt.score_error is not None:
        parts.append(f"score error {receipt.score_error:.2g}")
    if receipt.recall is not None:
        interval = ""
        if receipt.recall_low is not None and receipt.recall_high is not None:
            interval = f" (95 %: {receipt.recall_low:.2f} to {receipt.recall_high:.2f})"
        of_harmful = receipt.detail.get("recall_of_most_harmful")
        harmful = "" if of_harmful is None else f", harmful {of_harmful:.2f}"
        parts.append(f"recall of the prefilter {receipt.recall:.2f}{interval}{harmful}")
    if receipt.rank_stability:
        parts.append(_stability(receipt.rank_stability))
    if receipt.steps is not None:
        parts.append(plural(receipt.steps, "step"))
    if receipt.seconds is not None:
        parts.append(duration(receipt.seconds))
    return "; ".join(parts)


def _stability(found: Mapping[str, Any]) -> str:
    """How the ranking moves with the damping: Spearman's correlation and the share of the strongest 50 kept."""
    moved = [
        f"x {factor}: {found[factor]['spearman']:.2f}, top 50 {percent(found[factor]['top'], 0)}"
        for factor in ("0.1", "10")
        if isinstance(found.get(factor), dict)
    ]
    return f"rank stability over damping {'; '.join(moved)}"
