"""What people answered in Label Studio, as verdicts: its export in the format JSON, of tasks that curate made.

Knows the format of tasks (``data``, ``annotations[].result[]`` of type ``choices``); leaves which row is meant to
``marking``. See https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from curate.errors import DataError
from curate.files import strict_json

CONTROL = "label"
"""The name of the choices in the labeling configuration."""
NO_CLASS = "(no class fits)"
"""The choice that stands for the verdict `none`."""
_HINT = "Export the project as JSON, with the tasks that `curate export -f label-studio:FILE.json` made."


def task_rows(name: str, content: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Where it stands, and the cells of a verdict: one for each annotation, a blank one for a task without any.

    The given label again is keep, another label relabel, ``NO_CLASS`` none, a skipped task unsure. Raises
    ``DataError``.
    """
    try:
        tasks = strict_json.loads(content)
    except ValueError as error:
        raise DataError(f"{name} is no JSON: {error}", _HINT) from None
    for number, task in enumerate(tasks, start=1):
        where = f"{name}, task {number}"
        data = task.get("data") if isinstance(task, Mapping) else None
        if not isinstance(data, Mapping) or not isinstance(data.get("key"), str):
            raise DataError(f"{where} is none that curate made: its data has no key", _HINT)
        annotations = [each for each in task.get("annotations") or [] if isinstance(each, Mapping)]
        row = {
            "key": data["key"],
            "split": str(data.get("split") or ""),
            "fingerprint": str(data.get("fingerprint") or ""),
        }
        if not annotations:
            yield where, {**row, "verdict": ""}
        for annotation in annotations:
            yield where, {**row, **_answer(where, annotation, data.get("given_label")), **_by(annotation)}


def _answer(where: str, annotation: Mapping[str, Any], given: object) -> dict[str, str]:
    if annotation.get("was_cancelled"):
        return {"verdict": "unsure"}
    results = annotation.get("result") or []
    chosen = [
        choice
        for result in results
        if isinstance(result, Mapping) and result.get("type") == "choices" and result.get("from_name") == CONTROL
        for choice in (result.get("value") or {}).get("choices") or []
    ]
    if len(chosen) > 1:
        raise DataError(f"{where}: {len(chosen)} labels were chosen: {', '.join(map(str, chosen[:5]))}", _HINT)
    if not chosen:
        return {"verdict": ""}
    label = str(chosen[0])
    if label == NO_CLASS:
        return {"verdict": "none"}
    return {"verdict": "keep"} if label == given else {"verdict": "relabel", "new_label": label}


def _by(annotation: Mapping[str, Any]) -> dict[str, str]:
    """Who and when: an e-mail address or the number of a user; an annotation that curate made itself has neither."""
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id")
    time = annotation.get("updated_at") or annotation.get("created_at")
    return {
        "reviewer": "" if who is None else str(who) if "@" in str(who) else f"label-studio:{who}",
        "time": "" if time is None else str(time),
    }
