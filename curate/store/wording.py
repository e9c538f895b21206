"""The ninth migration: a scored row has a word beside its numbers.

Like the texts before it, this one is never edited once released.
"""

WORDING = (
    "ALTER TABLE scores ADD COLUMN word TEXT CHECK (word IN ('wrong', 'ambiguous', 'fine'))",
    "DROP VIEW latest_scores",
    """
    CREATE VIEW latest_scores AS
    SELECT
        s.run_id, e.dataset, s.example_id, e.split, e.key, e.label, s.suspicion, s.rank, s.loss, s.margin,
        s.self_influence, s.harm, s.neighbour_agreement, s.given_probability, s.suggested_label,
        s.suggested_probability, s.detectors, e.media_path, e.fingerprint, s.word
    FROM scores AS s JOIN named_examples AS e ON e.id = s.example_id
    WHERE s.run_id IN (SELECT run_id FROM current_runs)
    """,
)
