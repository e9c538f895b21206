"""What the evidence comes to: "trust", "ranking only", "do not trust" or "undecided", and the reason in a sentence.

Knows the thresholds; leaves the experiment to `protocol` and the statistics to `agreement`.
"""

from dataclasses import dataclass

from curate.experiments.verify.agreement import FEWEST, Agreement, Bounded

TRUST, RANKING, DOUBT = "trust", "ranking only", "do not trust"
UNDECIDED = "undecided"
"""No answer: refits were too few to tell "do not trust" from the better two, and more of them would. How many there
are is the machine's doing, and no word for or against influence hangs on that."""
CANNOT_TELL = "cannot tell"
"""Of a single target, whose loss no refit or only chance moves: more refits would not help."""
_ORDER = (DOUBT, UNDECIDED, RANKING, TRUST)

OVER_NOISE = 2.0
"""Changes must be this many times what is no change's doing, else they tell nothing."""
PEARSON, PEARSON_LOW = 0.9, 0.8
SLOPE = (0.8, 1.25)
SPEARMAN, SPEARMAN_LOW = 0.5, 0.2
GROUPS = 0.8
"""Linear datamodeling score."""
HALVES, HALVES_LOW = 0.25, 0.1
"""The same where the groups are halves of the rows and every refit is a training of its own: a row more or less is then
mostly hidden by what another start makes of the network, and the halves say whether the ranks can be used."""


@dataclass(frozen=True)
class Evidence:
    """Of one target."""

    agreement: Agreement | None
    """None where too few rows were left out, or nothing changed."""
    change: float
    """Standard deviation of the actual changes, nats."""
    largest: float
    """The largest actual change by size, nats."""
    noise: float
    """Standard deviation that another order of the training rows alone gives a change, nats; 0 at an optimum."""
    drift: float
    """Change of the loss in a refit that leaves nothing out, nats."""


@dataclass(frozen=True)
class Answer:
    """``trust`` is one of the three words, or `UNDECIDED`."""

    trust: str
    because: str
    by_target: list[str]


def answer(
    named: dict[str, Evidence], groups: Bounded | None, *, halves: bool = False, rows: int = 0, most: int = 0
) -> Answer:
    """The worst of the targets that can be told; the first of them must be one of these.

    Where the groups are ``halves``, they decide between "ranking only" and "do not trust". ``rows`` were left out one
    at a time, ``most`` where there is time: below that, an interval that still holds a good enough rank correlation
    leaves the answer undecided. With all of them made the bounds decide.
    """
    few = f" over {rows} rows, too few to tell" if rows < most else ""
    told = {name: _of_target(evidence, few, rows) for name, evidence in named.items()}
    words = [word for word, _ in told.values()]
    first = next(iter(told))
    if halves and (CANNOT_TELL in words[:1] or DOUBT in words or UNDECIDED in words or not _rank(groups)):
        return _by_halves(groups, words, few)
    if told[first][0] == CANNOT_TELL:
        return Answer(DOUBT, f"{first}: {told[first][1]}", words)
    worst = min((name for name in told if told[name][0] != CANNOT_TELL), key=lambda name: _ORDER.index(told[name][0]))
    word, reason = told[worst]
    if word == TRUST and groups is not None and groups.value < GROUPS:
        word, reason = RANKING, f"single rows agree, groups do not: rank correlation {groups.value:.2f}"
    return Answer(word, f"{worst}: {reason}", words)


def _rank(groups: Bounded | None) -> bool:
    return groups is not None and groups.value >= HALVES and groups.low >= HALVES_LOW


def _by_halves(groups: Bounded | None, words: list[str], few: str) -> Answer:
    if groups is None:
        return Answer(DOUBT, "halves of the rows: nothing changed in any training", words)
    ranks = f"halves of the rows: rank correlation {_interval(groups)} between predicted and actual losses"
    if _rank(groups):
        return Answer(RANKING, ranks, words)
    if few and groups.high >= HALVES:
        return Answer(UNDECIDED, f"{ranks}, too few to tell", words)
    return Answer(DOUBT, ranks, words)


def doubted(answer: Answer, reason: str) -> Answer:
    """What moves by itself is never trusted, however well one pass agreed with another."""
    return Answer(DOUBT, reason, answer.by_target)


def _of_target(found: Evidence, few: str, rows: int) -> tuple[str, str]:
    """Its word and the reason; ``few`` says that more rows can be left out than ``rows``."""
    agreement = found.agreement
    if few and rows < FEWEST:
        return UNDECIDED, f"nothing is said{few}"
    if agreement is None:
        return CANNOT_TELL, "its loss hardly changed in any refit"
    if found.change < OVER_NOISE * found.noise:
        return CANNOT_TELL, (
            f"the changes ({found.change:.2g} nats) are not over twice what another order of the rows makes of them "
            f"({found.noise:.2g})"
        )
    ranks = f"rank correlation {_interval(agreement.spearman)}"
    if agreement.spearman.value < SPEARMAN or agreement.spearman.low < SPEARMAN_LOW:
        if few and agreement.spearman.high >= SPEARMAN:
            return UNDECIDED, f"{ranks}{few}"
        return DOUBT, f"{ranks} between predicted and actual changes"
    doubt = _not_the_size(found, agreement)
    if doubt:
        return RANKING, f"{doubt}; {ranks}"
    return TRUST, f"correlation {agreement.pearson.value:.3f}, slope {agreement.slope.value:.2f}, {ranks}"


def _not_the_size(found: Evidence, agreement: Agreement) -> str:
    """Why sizes are not to be taken at their word; empty where they are."""
    if abs(found.drift) * OVER_NOISE > found.largest:
        return (
            f"a refit without any change moves its loss by {found.drift:+.2g} nats, leaving a row out by "
            f"{found.largest:.2g} at most: the checkpoint is no minimum"
        )
    if agreement.pearson.value < PEARSON or agreement.pearson.low < PEARSON_LOW:
        return f"correlation {_interval(agreement.pearson)}"
    if not SLOPE[0] <= agreement.slope.value <= SLOPE[1]:
        return f"the actual changes are {agreement.slope.value:.2f} times the predicted ones"
    return ""


def _interval(found: Bounded) -> str:
    return f"{found.value:.2f} (95 %: {found.low:.2f} to {found.high:.2f})"
