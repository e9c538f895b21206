"""One table of the options: command line, environment, files and the reference page are made from it.

Knows what an option is called, how its value is read and how it is told. Leaves where a value came from to
``curate.settings.merge`` and ``curate.settings.files``, and click to ``curate.cli``. Standard library only.
"""

from curate.plugs import CURVATURES, LOSSES, SOLVERS
from curate.settings.option import Option, switched
from curate.settings.values import (
    LARGEST_SEED,
    at_least,
    one_of,
    read_classes,
    read_column,
    read_count,
    read_device,
    read_eval_rows,
    read_list,
    read_loss,
    read_memory,
    read_model_args,
    read_noise_rate,
    read_noise_rates,
    read_params,
    read_positive,
    read_run,
    read_share,
    read_slice,
    read_solver,
    read_text,
    read_texts,
)

SECTIONS = ("Data", "Model", "Numbers", "Gate", "Output")
_TABLE = (
    Option(
        "train", "Data", read_text, "TRAIN", "The data: a folder of class folders, a table, an .npz file.", place="data"
    ),
    Option(
        "eval", "Data", read_text, "DATA", "Rows to measure harm on; their labels are checked as well.", place="data"
    ),
    Option(
        "input",
        "Data",
        read_column,
        "NAME,...",
        "The array, columns or part of an item that hold the input.",
        "found by itself",
        "A part is of an item of `python:`; `--input a,b` takes several columns.",
    ),
    Option(
        "label",
        "Data",
        read_column,
        "NAME",
        "The same for the labels.",
        "label, y, target or class",
        "Of a folder of pictures, a regular expression over paths whose group is the label.",
    ),
    Option("id", "Data", read_column, "NAME", "The same for the rows' keys.", "made from the content"),
    Option("split", "Data", read_column, "COLUMN", "The array or column that says train, val or test."),
    Option(
        "group",
        "Data",
        read_column,
        "COLUMN|PATTERN",
        "Rows of one value count as one, as a patient's: left out together, and a leak in both sets.",
        "equal content alone",
        "PATTERN is a regular expression over keys whose group is the value: `'(patient[0-9]+)'`.",
    ),
    switched("header", "Data", "off", "The first line of a csv file is a row; columns are numbered from 0."),
    Option(
        "limit",
        "Data",
        at_least(1),
        "N",
        "A sample of N rows, stratified, by content.",
        "all rows",
        "Each set has its own, stratified by class.",
        typed=True,
    ),
    switched("strict", "Data", "on", "One row that cannot be read is an error, not only 5 % of them."),
    Option(
        "classes",
        "Data",
        read_classes,
        "A,B,...|FILE",
        "The classes in the order of the model's outputs.",
        "sorted",
        place="classes",
    ),
    Option(
        "name",
        "Data",
        read_text,
        "NAME",
        "The data set's name in reports and keys of findings.",
        "last part of its path",
    ),
    Option(
        "model",
        "Model",
        read_text,
        "FILE.py:NAME|PKG.MOD:NAME|FAMILY:NAME",
        "What makes the model: your code, or torchvision:NAME, timm:NAME, hf:ID-OR-FOLDER. "
        "Without one, the inputs are features.",
        more="A model of a library comes with its preprocessing. With `--trust-checkpoint` also a fitted estimator, "
        "`model.joblib`.",
        place="code",
    ),
    Option("model_args", "Model", read_model_args, "NAME=VALUE", "An argument for it; repeat for more.", several=True),
    Option(
        "weights",
        "Model",
        read_list,
        "FILE",
        "Trained weights: .safetensors .pt .pth .bin .ckpt, a folder of them, FILE#KEY. Several: earlier first.",
        more="`'run/checkpoint-*'` in quotes is several, in the order of their steps. "
        "They are of one training, and the last is the model: suspicion is their mean, everything else is of the "
        "last. Without any, the model is as its code makes it.",
        place="path",
        several=True,
    ),
    switched("trust_checkpoint", "Model", "on", "Load a checkpoint that may run any code."),
    Option("head", "Model", read_text, "NAME", "The last linear layer.", "found by itself"),
    Option(
        "output",
        "Model",
        read_column,
        "NAME|N",
        "The part of the model's output to read, by key or number.",
        "found by itself",
        "Numbers begin with 0.",
    ),
    Option(
        "loss",
        "Model",
        read_loss,
        "NAME[:SETTING=VALUE,...]",
        f"What the model was trained with: {', '.join(LOSSES)}.",
        "softmax",
        "Influence in the model's own parameters is that of this loss; rows are measured in plain cross-entropy. "
        "Settings: `weights=balanced` or `weights=1/3/0.5` in the order of the classes, `smoothing=0.1` of softmax, "
        "`gamma=2` of focal. See [your own model](../how-to/own-model.md#the-loss-it-was-trained-with).",
    ),
    Option(
        "pred_probs",
        "Model",
        read_text,
        "FILE",
        "Out-of-sample class probabilities of your own for the training rows: one more expert.",
        more="See [what others say](../how-to/labels.md#what-others-say-of-the-labels).",
        place="path",
    ),
    Option(
        "votes",
        "Model",
        read_list,
        "FILE",
        "Labels that another judge gave to training rows, a column a judge: one more expert each.",
        more="Repeat for more judges.",
        place="path",
        several=True,
    ),
    Option(
        "params",
        "Numbers",
        read_params,
        "auto|head|all|REGEX",
        "The parameters that evaluation influence is taken in.",
        "auto",
        "`all` and REGEX also make self-influence through them a detector.",
    ),
    Option(
        "solver",
        "Numbers",
        read_solver,
        "NAME[:SETTING=VALUE,...]",
        f"How the curvature is solved for: {', '.join(SOLVERS)}.",
        "auto",
        "[Which one](#solvers).",
    ),
    Option(
        "curvature",
        "Numbers",
        one_of(*CURVATURES),
        "|".join(CURVATURES),
        "The curvature of the network's loss.",
        "ggn",
        "It is Gauss-Newton, the Hessian, or the empirical Fisher matrix.",
    ),
    Option(
        "damping",
        "Numbers",
        read_positive,
        "X",
        "Added to the model's curvature, above 0.",
        "by the checkpoint",
        "It is the λ of all influence in the model's own parameters: "
        "[through the network](../explanation/influence.md#through-the-network) and at its head. The probe keeps "
        "its penalty, so suspicion does not move.",
        typed=True,
    ),
    Option(
        "neighbours",
        "Numbers",
        at_least(1),
        "K",
        "Candidates of each evaluation row.",
        "5 % of the rows, 50 to 5,000",
        typed=True,
    ),
    Option(
        "eval_rows",
        "Numbers",
        read_eval_rows,
        "N|mistakes|all|KEY,...|FILE",
        "N: evaluation rows of highest loss to solve for one by one. Else: rows to measure harm on.",
        "32",
        "`mistakes` are those that the model gets wrong; a file has one key a line. `all` and keys are also solved "
        "one by one. Harm is measured on all rows unless this says otherwise.",
        place="keys",
    ),
    Option(
        "slice",
        "Numbers",
        read_slice,
        "COLUMN=VALUE|COLUMN",
        "Measure harm on these evaluation rows; label=CLASS for a class. COLUMN: on all, and on each value.",
        more="COLUMN is one of the table's, or `label`.",
    ),
    Option(
        "expected_precision",
        "Numbers",
        read_share,
        "SHARE",
        "Flag as many rows as keep the expected share of wrong ones at SHARE.",
        "what has the best expected F1",
        "0.9 is strict; the cut with the best expected F1 lies at 0.2 to 0.5.",
        typed=True,
    ),
    Option(
        "noise_rate",
        "Numbers",
        read_noise_rate,
        "P%|P-P%",
        "So many labels are wrong: sets the level of suspicion.",
        "by `curate audit`, else a guess",
        "Suspicion is moved to sum to it (the middle of a range), and as many rows are flagged. See "
        "[audit](../how-to/audit.md).",
    ),
    Option(
        "seed", "Numbers", at_least(0, most=LARGEST_SEED), "N", "Seed of everything that is drawn.", "0", typed=True
    ),
    Option("device", "Numbers", read_device, "auto|cpu|cuda|mps", "Where to compute.", "auto"),
    Option(
        "batch_size",
        "Numbers",
        at_least(1, "auto"),
        "N|auto",
        "Rows at a time.",
        "auto",
        "They are those of the forward pass; auto is 128, without a GPU fewer of large rows (8 of 224 pixels).",
        typed=True,
    ),
    switched(
        "autocast",
        "Numbers",
        "on",
        "Compute the forward pass in bfloat16, if that agrees on a sample.",
        "Features and outputs of up to 32 rows may differ by 3 % of their length; the receipt says by how much they "
        "do. Derivatives are taken in 32 bits.",
    ),
    Option(
        "memory",
        "Numbers",
        read_memory,
        "SIZE",
        "Memory that temporaries, and a table of rows, may take, as 2GB or 500MB.",
        "half of what is free, at most 4 GiB",
        "Chunks of rows are made to fit it; no result depends on it beyond rounding. A table of rows (features) over a "
        "quarter of it lies in a file beside the database, which goes with the scan. Smaller ones come on top.",
    ),
    Option(
        "rank_timeout",
        "Numbers",
        read_positive,
        "SECONDS",
        "Of several processes, end all if one makes no progress for so long.",
        "600",
        "See [scale](../how-to/scale.md). A process that is killed ends all at once.",
        typed=True,
    ),
    switched("cache", "Numbers", "off", "Compute everything anew."),
    Option(
        "rules",
        "Numbers",
        read_texts,
        "RULE,...|-RULE,...",
        "Look for findings of these rules alone, or of all but these.",
        "all",
        "[Rules](rules.md) are told by name; one with a minus before it is left out, as in `--rules=-long_text`.",
    ),
    Option(
        "fail_on",
        "Gate",
        read_texts,
        "RULE,...|SEVERITY",
        "Exit with 1 on findings of these rules, or this grave.",
        "no gate",
        "Where another option sets a gate, it is `error`. `mislabeled` counts rows of a suspicion of 50 % or more; "
        "`warning` counts those below it too, which are only worth a look.",
    ),
    Option("max_findings", "Gate", read_count, "N|P%", "Allow so many of them, or that share of the rows.", "0"),
    Option(
        "max_noise_rate",
        "Gate",
        read_noise_rates,
        "P%|class:P%|class:NAME:P%",
        "Exit with 1 where more of the labels are wrong by estimate: of all, of any class, of one class.",
        more="It is 0 if the range of what is known lies under it, 1 if it lies above, else 4. The range is that "
        "of an audit (one-sided bounds of 95 %), of `--noise-rate`, or of three counts from the labels. "
        "`class:P%` of each class with five rows or more, `class:NAME:P%` of one (after an audit: known from ten "
        "verdicts in the class on); `estimate:` before any of them compares the bare estimate; repeatable. "
        "Without `--fail-on` findings are then not counted.",
        several=True,
    ),
    Option(
        "baseline",
        "Gate",
        read_text,
        "FILE",
        "The file with accepted findings.",
        "curate-baseline.json beside the settings' file, else here",
        "What stands in it ([`curate baseline`](#curate-baseline)) never counts.",
        place="path",
    ),
    switched(
        "new_only",
        "Gate",
        "on",
        "Count only findings that the baseline (or --since) lacks.",
        "Those on rows that it knows are listed (`old row, new opinion`).",
    ),
    switched(
        "changed_rows",
        "Gate",
        "on",
        "Count only findings on rows that it does not know.",
        "It does not know a row if it lacks its content or label; noise rates are of these rows, too.",
    ),
    Option(
        "since",
        "Gate",
        read_run,
        "RUN|DB",
        "Compare with this run, or a database's newest one.",
        more="The newest of this database is the run before. Without it the baseline is compared with.",
        place="run",
    ),
    switched("exit_zero", "Gate", "on", "Exit with 0 instead of 1.", "No other status is touched."),
    switched(
        "thumbnails",
        "Output",
        "off",
        "No pictures in database and reports.",
        "Those of earlier scans of the data set go too.",
    ),
    switched(
        "text",
        "Output",
        "off",
        "No rows' texts in database and reports.",
        "Those of earlier scans of the data set go too.",
    ),
    Option(
        "media_root",
        "Output",
        read_list,
        "FOLDER",
        "Where files that a table names lie; those in it may be shown and exported too.",
        "the data's own folder",
        "Repeat for more. See [names of pictures](../how-to/tables.md#names-of-pictures). "
        "Links are followed: one that leads out is scanned, and never shown without this.",
        place="path",
        several=True,
    ),
    Option("top", "Output", at_least(1), "N", "Rows in each list of the report.", "20", typed=True),
    switched(
        "verbose",
        "Output",
        "on",
        "The whole report: every reason, notes, receipts, and what is next in line.",
        "Of the formats `rich` and `text`; the others always tell all of it.",
        short="v",
    ),
    switched(
        "quiet",
        "Output",
        "on",
        "Nothing but warnings, the summary and the gate's sentence.",
        "Of the formats `rich` and `text`, and no progress.",
        short="q",
    ),
    Option(
        "format",
        "Output",
        read_list,
        "FORMAT[:FILE]",
        "Output format; repeatable.",
        "rich on a terminal, else text",
        "See [formats](formats.md).",
        place="format",
        several=True,
    ),
    Option("db", "Output", read_text, "FILE", "The database.", ".curate/curate.db", place="path"),
)

OPTIONS: dict[str, Option] = {option.key: option for option in _TABLE}


def option_named(name: str) -> tuple[Option, bool] | None:
    """The option of a key with - or _, and whether it is asked the other way round (``no-cache``)."""
    flag = name.replace("_", "-")
    by_flag = {option.flag: option for option in OPTIONS.values()} | {"model-args": OPTIONS["model_args"]}
    if flag in by_flag:
        return by_flag[flag], False
    turned = by_flag.get(flag.removeprefix("no-"))
    return (turned, True) if turned is not None and turned.switch is not None else None
