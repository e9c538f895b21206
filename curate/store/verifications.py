"""What `curate verify` found, and the refits that it made, in and out of the database.

Knows their SQL; leaves what they mean to ``curate.experiments.verify``.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from curate.store.store import Store
from curate.store.values import json_text, number, text

Losses = list[float]


def refits(store: Store, identity: str) -> dict[tuple[str, int], tuple[Losses, float]]:
    """Losses (nats) and seconds of each refit of a check, by what was left out and the order of the other rows."""
    rows = store.query("SELECT left_out, ordering, losses, seconds FROM refits WHERE identity = ?", [identity])
    return {(row["left_out"], row["ordering"]): (json.loads(row["losses"]), row["seconds"]) for row in rows}


def add_refits(store: Store, identity: str, made: Mapping[tuple[str, int], tuple[Losses, float]]) -> None:
    """Store losses and seconds by (rows left out, ordering); a refit made again replaces the older one."""
    rows = [
        (identity, text(left_out), ordering, json_text(losses, "losses"), number(seconds, "seconds"))
        for (left_out, ordering), (losses, seconds) in made.items()
    ]
    with store.transaction() as connection:
        connection.executemany(
            "INSERT OR REPLACE INTO refits (identity, left_out, ordering, losses, seconds) VALUES (?, ?, ?, ?, ?)", rows
        )


def stored_harm(store: Store, dataset_id: int, weights_sha256: str | None) -> tuple[int, dict[str, float]] | None:
    """The newest finished run with these weights, and the harm that it stored, by key of a training row; nats."""
    runs = store.query(
        "SELECT max(id) AS id FROM runs WHERE dataset_id = ? AND status = 'finished' AND weights_sha256 IS ?",
        [dataset_id, weights_sha256],
    )
    if runs[0]["id"] is None:
        return None
    rows = store.query(
        "SELECT e.key, s.harm FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
        "WHERE s.run_id = ? AND e.split = 'train' AND s.harm IS NOT NULL",
        [runs[0]["id"]],
    )
    return int(runs[0]["id"]), {row["key"]: row["harm"] for row in rows}


def add_verification(
    store: Store,
    dataset_id: int,
    *,
    identity: tuple[str | None, str | None],
    settings: Mapping[str, Any],
    trust: str,
    because: str,
    found: Mapping[str, Any],
) -> None:
    """``identity`` is the model's name and its weights' hash; ``found`` all that was measured, as plain values."""
    model, weights_sha256 = identity
    values = [
        dataset_id,
        text(model),
        weights_sha256,
        json_text(settings, "settings"),
        trust,
        text(because),
        json_text(found, "found"),
        datetime.now(UTC).isoformat(timespec="seconds"),
    ]
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO verifications (dataset_id, model, weights_sha256, settings, trust, because, found, time) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
