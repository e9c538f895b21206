"""``harmful``: training rows without which the mean evaluation loss is predicted to fall, by more than chance."""

from collections.abc import Iterator

from curate.process.numbers import percent
from curate.rules.finders.found import Found, Scan
from curate.stages.influence import Influence
from curate.stages.prepare import Data


def find(scan: Scan) -> Iterator[Found]:
    """Findings on training rows; none if harm was not judged."""
    data, influence = scan.data, scan.influence
    harmful, loss_then = influence.harmful, influence.eval_loss
    if harmful is None:
        return
    groups = _causes(data, influence)
    for place, row in enumerate(harmful.rows.tolist()):
        harm, low, high = float(influence.harm[row]), float(harmful.low[place]), float(harmful.high[place])
        evidence: dict[str, object] = {
            "measured_on": influence.targets.name,
            "share_of_loss": harm / loss_then,
            "interval": [low, high],
            "p_value": float(harmful.p_value[place]),
            "minimum": harmful.minimum,
        }
        why = (
            f"without it the mean loss of {influence.targets.name} falls by an estimated "
            f"{percent(harm / loss_then, 2)}, {harm:.2g} nats (95 %: {low:.2g} to {high:.2g} over the choice "
            "of these rows)"
        )
        if place < len(influence.flips):
            fixed, broken = influence.flips[place].tolist()
            evidence["flips"] = {"right": fixed, "wrong": broken}
            if fixed or broken:
                why += f"; predictions that turn right: {fixed}, wrong: {broken}"
        if row in groups:
            group = groups[row]
            evidence["group"] = group
            why += (
                f"; one of {group['size']} such rows close together, called {group['given']} and taken for "
                f"{group['suggested']}"
            )
        yield Found("train", row, "harmful", "warning", harm, why, evidence, near=True)


def _causes(data: Data, influence: Influence) -> dict[int, dict[str, object]]:
    """Of each harmful row that belongs to others: the group, told the same way on all of its members."""
    keys, classes = data.train.keys, data.train.source.classes
    told: dict[int, dict[str, object]] = {}
    for cause, flips in zip(influence.causes, influence.cause_flips.tolist(), strict=True):
        group: dict[str, object] = {
            "of": keys[int(cause.rows[0])],
            "size": len(cause.rows),
            "given": classes[cause.given],
            "suggested": classes[cause.suggested],
            "harm": float(influence.harm[cause.rows].sum()),
            "flips": {"right": flips[0], "wrong": flips[1]},
        }
        told |= dict.fromkeys(cause.rows.tolist(), group)
    return told
