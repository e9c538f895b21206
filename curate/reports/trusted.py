"""Can influence be trusted here? The checkpoint's signs, their advice, and what refits said, in a few lines.

Knows what a run keeps of them (``counts.diagnostics``) and the table of verifications; leaves layout to the renderers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.process.numbers import percent
from curate.reports.words import brief, plural

if TYPE_CHECKING:
    from curate.store import Store

PLACES = {"model": "the model", "head": "the model's head", "probe": "the probe"}
UNCHECKED = "not yet: `curate verify` leaves rows out, refits, and compares"


@dataclass(frozen=True, slots=True)
class Checked:
    """The newest answer of `curate verify` on these data and weights."""

    at: str  # model, head or probe: what was refitted
    trust: str  # trust, ranking only, do not trust
    because: str
    time: str  # ISO 8601, UTC


def checked(store: "Store", dataset: str, weights_sha256: str | None) -> tuple[Checked, ...]:
    """One for each of model, head and probe that was checked."""
    rows = store.query(
        "SELECT v.trust, v.because, v.time, v.settings ->> '$.at' AS at, max(v.id) FROM verifications AS v "
        "JOIN datasets AS d ON d.id = v.dataset_id WHERE d.name = ? AND v.weights_sha256 IS ? GROUP BY at ORDER BY at",
        [dataset, weights_sha256],
    )
    return tuple(Checked(row["at"], row["trust"], row["because"], row["time"]) for row in rows)


def trust_facts(counts: Mapping[str, Any], found: tuple[Checked, ...]) -> Iterator[tuple[str, str]]:
    """(name, what is known) of a run; nothing for runs that kept no signs and were never checked."""
    signs = counts.get("diagnostics")
    if isinstance(signs, Mapping):
        yield from _signs(signs)
    for one in found:
        yield f"refits of {PLACES.get(one.at, one.at)}", f"{one.trust.upper()}: {one.because} ({one.time[:10]})"
    if isinstance(signs, Mapping) and not found:
        yield "refits", UNCHECKED


def trust_advice(counts: Mapping[str, Any]) -> tuple[str, ...]:
    """What the run's own signs advise; empty if it kept none."""
    signs = counts.get("diagnostics")
    return tuple(map(str, signs.get("advice", ()))) if isinstance(signs, Mapping) else ()


def _signs(signs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if signs.get("gradient") is not None:
        parts = [f"gradient {brief(signs['gradient'])}"]
        if signs["penalty_cosine"] >= 0.9:
            parts.append(f"as an L2 penalty of {brief(signs['penalty'])} leaves it")
        parts.append(f"a step down takes {percent(signs['to_gain'])} off the training loss")
        parts.append(f"{percent(signs['memorised'])} of the rows have no gradient left")
        yield "checkpoint", ", ".join(parts)
        yield (
            "curvature",
            (
                f"eigenvalues {brief(signs['smallest_eigenvalue'])} to {brief(signs['largest_eigenvalue'])}; "
                f"{plural(signs['depth'], 'layer')}, {signs['width']:,} wide at most"
            ),
        )
    ranks = signs.get("ranks") or {}
    if ranks:
        told = ", ".join(f"{name} {value:.2f}" for name, value in ranks.items())
        yield "order of harm", f"rank correlation of {told}"
