"""What every table, view and column of a curate database holds, in words.

Knows no SQL: the schema stands in ``schema.py``, and a test asks for a word on each of its columns. The reference page
is made from both (``docs/make_database_page.py``).
"""

from curate.rules.rule import RULES

TABLES: dict[str, str] = {
    "datasets": "What was scanned, by name.",
    "runs": "One scan. A finished one is never changed.",
    "labels": "The classes of a data set.",
    "examples": "An immutable version of a row: new content or a new label is a new row.",
    "scores": "The numbers of one row in one run. NULL: not computed.",
    "influences": "The strongest pairs, at most ten on each side of an evaluation row. Pairs of equal content are left "
    "out. Where no evaluation set was given, the evaluation row is a training row.",
    "findings": "A row, or another subject, and a rule that it broke.",
    "rules": "The issue types of the version that opened the database last: a finding names one.",
    "verdict_words": "What can be said of a row.",
    "receipts": "How a quantity was solved.",
    "reviews": "What people said: append-only.",
    "map_points": "Training rows on a plane: the two principal directions of their features.",
    "batches": "Words that were given at once, and are taken back at once.",
    "accepted": "Findings that a baseline accepts (`curate baseline`).",
    "audits": "A draw of rows for `curate audit`: never changed. Its frame is the training rows of its run that no "
    "earlier audit of the series was drawn from.",
    "audit_rows": "The rows drawn, in the order shown; a row that is shown twice has two places.",
    "audit_words": "Which word answered which place; a word that was taken back answers none.",
    "verifications": "Whether refits bear influence out (`curate verify`), one row for each check.",
    "refits": "The refits behind them: what a check stores as it goes, and takes up again.",
    "summaries": "What reports say of all rows of a run at once, counted when it ended.",
    "backups": "Backups of `curate export --in-place`: a record that is not here is not put back.",
}

COLUMNS: dict[str, dict[str, str]] = {
    "datasets": {
        "id": "",
        "name": "unique; part of every fingerprint",
        "location": "where it was last read",
        "kind": "`images`, `arrays`, `table`, `hf`, `sklearn`, `python`, `torchvision`, `memory` (given in Python)",
    },
    "runs": {
        "id": "",
        "dataset_id": "",
        "status": "`running`, `finished`, `failed`, `interrupted`",
        "settings": "JSON: everything asked for, but `db` and `format`",
        "seed": "of everything that is drawn",
        "versions": "JSON: curate, Python and the libraries that compute",
        "model": "the model's spec; NULL: none",
        "weights_sha256": "of the weights' file",
        "device": "`cpu`, `cuda`, `mps`",
        "git_commit": "checked out where the command ran; NULL outside a repository",
        "counts": "JSON: `scored`, `reused` (rows whose forward pass came from the cache), `unreadable`, `blank`, "
        "`processes` (if several shared the rows), `files` (a stamp of the names, sizes and times of the files that "
        "hold all rows: as long as they have it, `curate check` need not read them again), "
        "`classes`, `features`, `evaluation_rows`, `eval_loss` (mean, nats), `diagnostics` (signs of whether "
        "influence can be trusted), `slices` (of `--slice COLUMN`: each value, its rows, loss and most harmful rows), "
        "`words` (training rows by the word of their label: `wrong`, `ambiguous`, `fine`), `level` (how many training "
        "labels are wrong: `expected`, `low`, `high` of `rows`, by `source`: `labels`, "
        "`noise rate` or `audit`, whose `low` and `high` are one-sided bounds of 95 %)",
        "accuracy_head": "0 to 1: share of the given training labels that the model's own head predicts",
        "accuracy_probe": "0 to 1: the same of the probe",
        "seconds": "s, wall time",
        "peak_memory": "bytes",
        "gate": "JSON: the gate as set; NULL where none was",
        "started": "ISO 8601, UTC",
        "finished": "ISO 8601, UTC",
        "notes": "JSON list of sentences for the report",
        "pruned": "ISO 8601, UTC: when `curate runs --prune` took its rows away; NULL: it is whole",
    },
    "labels": {
        "id": "",
        "dataset_id": "",
        "name": "as people read it",
        "index": "place in the model's outputs, from 0; NULL for a class no longer named",
    },
    "examples": {
        "id": "",
        "dataset_id": "",
        "split": "`train` or `eval`",
        "key": "stable name of the row; never its position",
        "position": "0-based in the source, before any split or skip",
        "content_sha256": "of the file's bytes, or of dtype, shape and bytes of an array's row; empty where it could "
        "not be read",
        "label_id": "the given label; NULL where there is none",
        "label": "the same as text",
        "media_path": "the picture's file, as the scan found it; NULL for all else",
        "text": "the row as people read it, of texts and tables; NULL for pictures and plain numbers",
        "thumbnail": "JPEG of up to 96 pixels, of flagged pictures (the 2,000 most suspect of a run)",
        "seen": "1 for training rows, 0 for rows of a given evaluation set",
        "fingerprint": "hash of data set name, key, content and label: what verdicts hang on",
        "title": "how other tables show the row: the beginning of its text, else its key (generated)",
    },
    "scores": {
        "run_id": "",
        "example_id": "",
        "suspicion": "0 to 1: estimated probability that the given label is wrong",
        "rank": "from 1, by suspicion, within the split",
        "loss": "nats: cross-entropy of the given label by the model's head; by the probe where the model has no such "
        "classes",
        "margin": "-1 to 1: probability of the given label less the largest other one, by the same",
        "self_influence": "nats, >= 0: at the head (the probe without one); training rows only",
        "harm": "nats: predicted fall of the mean evaluation loss without the row; > 0: better without it; training "
        "rows only",
        "neighbour_agreement": "0 to 1: share of the nearest rows' votes for the given label",
        "given_probability": "0 to 1: of the given label, by a probe and neighbours that did not see the row, pooled",
        "suggested_label": "the most probable class other than the given one",
        "suggested_probability": "0 to 1: its posterior probability",
        "detectors": "those that count the row among the most suspect (as many rows as suspicion adds up to), with "
        "commas between; training rows only",
        "word": "`wrong`: over the cut, a `mislabeled` finding; `ambiguous`: under it, yet most experts favour another "
        "label; `fine`: neither",
    },
    "influences": {
        "run_id": "",
        "eval_example_id": "the row whose loss would change",
        "train_example_id": "the row left out",
        "influence": "nats: predicted rise of that loss; > 0 helps, < 0 harms",
        "rank": "1, 2 ... most helpful; -1, -2 ... most harmful",
    },
    "findings": {
        "run_id": "",
        "example_id": "",
        "rule": ", ".join(f"`{name}`" for name in RULES),
        "severity": "`error`, `warning`, `note`",
        "score": "suspicion for `mislabeled`, harm (nats) for `harmful`, else NULL",
        "evidence": "JSON: what the detectors said",
        "why": "one sentence",
        "fingerprint": "that of the row (or of the subject, without a row), and the rule: what baselines hang on",
        "subject": "what broke the rule: `row`, `cluster` (a finding on each of its rows), `class`, `column`",
        "subject_name": "of the class or column; of a cluster, the key of the row that stands for it",
        "subject_fingerprint": "of a cluster its rows' contents, of a class or column its name: what a verdict on it "
        "hangs on; NULL: the row's own",
    },
    "rules": {
        "name": "",
        "severity": "of most of its findings",
        "subject": "`row`, `cluster`, `class`, `column`",
        "title": "what is wrong",
        "means": "what that means",
        "do": "what to do",
        "confirmed_by": "JSON list: the verdicts that say that a finding is right; `keep` says that it is wrong",
        "since": "the version that had it first",
        "preview": "1: shown, and counted by no gate unless `--fail-on` names it",
    },
    "verdict_words": {"word": "", "means": ""},
    "receipts": {
        "run_id": "",
        "quantity": "`suspicion`, `self-influence`, `self-influence through the network`, `evaluation influence`, "
        "`influence on the other rows`, `harmful rows`",
        "solver": "as `--solver` names it (of `auto`: the one it took), `class-block`, `dual of a sample`",
        "curvature": "`ggn` (Gauss-Newton), `hessian`, `fisher`",
        "parameters": "which",
        "damping_asked": "λ asked for",
        "damping": "λ used",
        "residual": "measured |v - (C + λI)u| / |v|: the mean over right-hand sides through the network, the largest "
        "at the head",
        "score_error": "error of the candidates' scores, relative to what they would be without it, measured by "
        "solving for what the answer lacks; NULL for an exact solve",
        "steps": "of an iterative solver",
        "seconds": "s",
        "recall": "0 to 1: share of the 20 strongest rows that are candidates, on some evaluation rows",
        "recall_low": "its 95 % interval, lower end",
        "recall_high": "and upper end",
        "rank_stability": "JSON: with 0.1 and 10 times the damping used, Spearman's correlation of harm (`spearman`) "
        "and the share of the 50 strongest rows kept (`top`); through the network by a sample of `gradients` "
        "gradients, at the head by all rows",
        "detail": "JSON: batch, step, largest eigenvalue, number of candidates, weights of the experts, verdicts that "
        "suspicion was corrected by ...",
    },
    "reviews": {
        "id": "",
        "fingerprint": "of the row",
        "key": "of the row, when it was said",
        "verdict": "`relabel`, `keep`, `drop`, `none`, `unsure`",
        "new_label": "exactly for `relabel`",
        "reviewer": "who says it",
        "note": "why",
        "time": "ISO 8601, UTC",
        "source": "`sql`, `mark`, `review`, `serve`, `file`, `python`",
        "undoes": "the word that this row takes back; its verdict is then `unsure` and counts for nothing",
        "rule": "that the word is on; NULL: on the row as a whole",
    },
    "accepted": {
        "dataset_id": "",
        "fingerprint": "of a finding",
        "rule": "",
        "key": "of the row",
        "time": "ISO 8601, UTC",
    },
    "audits": {
        "id": "",
        "dataset_id": "",
        "series": "counts how often it was begun anew, from 1; the newest series counts",
        "run_id": "the run whose training rows are drawn from, and whose suspicion orders them",
        "seed": "of the draw",
        "design": "JSON: `ends`, the last rank of each stratum of the frame, the most suspect first",
        "time": "ISO 8601, UTC",
    },
    "audit_rows": {
        "audit_id": "",
        "place": "when it is shown, from 1",
        "fingerprint": "of the row",
        "key": "of the row, as its run has it",
        "stratum": "from 1, the most suspect first",
        "again": "1: the row's second showing",
    },
    "map_points": {"run_id": "", "example_id": "", "x": "-1 to 1", "y": "-1 to 1"},
    "batches": {"review_id": "one of the words", "batch": "the first word of the batch"},
    "audit_words": {"audit_id": "", "place": "", "review_id": ""},
    "verifications": {
        "id": "",
        "dataset_id": "",
        "model": "the model's spec; NULL: none",
        "weights_sha256": "of the weights' file",
        "settings": "JSON: everything asked for, `at` (`model`, `head`, `probe`) and the recipe of the `refit`",
        "trust": "`trust`, `ranking only`, `do not trust`",
        "because": "the reason, in words",
        "found": "JSON: what was measured, as `curate verify -f json` writes it",
        "time": "ISO 8601, UTC",
    },
    "refits": {
        "identity": "digest of rows, weights, recipe, target rows and seed: what the losses depend on",
        "left_out": "the training row's key; a digest of a group's keys; empty: nothing",
        "ordering": "0, or 1: the other rows in another order",
        "losses": "JSON: of the target rows after the refit, nats; the mean first",
        "seconds": "s, wall time",
    },
    "summaries": {
        "run_id": "",
        "told": "JSON: `rows` by split, `harmful`, `classes`, `confusions`, `suspects`, `harming`, `fresh`",
    },
    "backups": {
        "id": "",
        "dataset_id": "",
        "run_id": "whose verdicts the files were changed by",
        "folder": "where the backup was made",
        "digest": "of its record: one that was changed is not known",
        "roots": "JSON list: the files and folders of the data set; nothing outside of them is put back",
        "made": "ISO 8601, UTC",
        "reverted": "ISO 8601, UTC; NULL: not put back",
    },
}

VIEWS: dict[str, str] = {
    "review_queue": "One line a flagged row, with the verdict that counts; those without one first, most suspect "
    "first. Takes inserts: see below.",
    "verdicts": "One line a row that somebody spoke on: the word that counts, and every reviewer's.",
    "audit_queue": "The rows drawn for the newest audit that the newest run holds, in the order shown, and nothing of "
    "what curate thinks of them. Takes inserts: see below.",
    "current_findings": "The findings, with their state.",
    "latest_scores": "The scores, with key, label and fingerprint.",
    "label_confusions": "Rows flagged as mislabeled, by given and suggested label.",
    "rule_precision": "How often verdicts confirm a rule, over all finished runs; each row is counted once a rule. A "
    "verdict counts if it is on that rule, or on a row that had no other finding.",
    "cleaned": "The rows after verdicts: dropped ones gone, relabelled ones with their new label.",
}

STEPS: dict[str, str] = {
    "current_runs": "the newest finished run of each data set",
    "current_rows": "the rows of these runs",
    "named_examples": "examples, with `key` as people read it (`eval:KEY` where a training row has that key too)",
    "run_findings": "`current_findings` of every run",
    "standing_reviews": "words that were not taken back",
    "last_words": "of these the last of each reviewer, on the row and on each rule",
    "words_in_force": "of these the last on the row and on each rule; `of_row`: 0 if it says nothing of the row as a "
    "whole",
    "finding_words": "the word that speaks of each rule of a row: on that rule, or on a row that had no other finding "
    "when it was given",
    "reviewed_rows": "the row that each word was given on, and what has become of it",
}
"""Views that the others stand on."""

VIEW_COLUMNS: dict[str, dict[str, str]] = {
    "review_queue": {
        "rules": "all that the row broke, worst first",
        "given_label": "",
        "why": "a sentence for each rule",
        "path": "the picture's file",
        "verdict": "the word that counts; NULL: nobody has spoken",
        "disagreement": "1 where the last words of two reviewers differ",
        "rule": "that the word is on; NULL: the row as a whole",
    },
    "audit_queue": {
        "given_label": "",
        "path": "the picture's file",
        "verdict": "the word that answered this place; NULL: it waits",
        "new_label": "for inserts",
        "reviewer": "for inserts",
        "note": "for inserts",
    },
    "verdicts": {
        "given_label": "that it was given on",
        "state": "`live`: the newest finished run holds the row as it was; `stale`: with another content or label; "
        "`gone`: not at all; `unseen`: a run with `--limit` left it out, or the word came from a file and its row was "
        "never scanned here",
        "now_key": "of a stale row: its key now",
        "now_label": "of a stale row: its label now",
        "reviewers": "how many spoke",
        "disagreement": "1 where the last words of two reviewers differ",
        "words": "the last word of each reviewer",
        "review_id": "of the word that counts",
        "rule": "that it is on; NULL: the row as a whole",
    },
    "current_findings": {
        "state": "`new`, `known` (in an earlier finished run too), `accepted`, `reviewed`",
        "row_fingerprint": "of the row: what verdicts hang on",
        "verdict": "the newest word that is on the row as a whole, or on this rule",
    },
    "latest_scores": {},
    "label_confusions": {"given_label": "", "rows": "how many", "mean_suspicion": "0 to 1"},
    "rule_precision": {
        "flagged": "rows that the rule found",
        "confirmed": "by a verdict that says so (`rules.confirmed_by`)",
        "refuted": "by `keep`",
        "unsure": "counts as neither",
        "precision": "confirmed / (confirmed + refuted)",
    },
    "cleaned": {"label": "after verdicts", "given_label": "before"},
}
"""Columns that mean something of their own; the others mean what they mean in the tables."""
