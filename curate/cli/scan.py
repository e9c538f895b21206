"""``curate scan``: options in, settings out, one call, a report, a gate.

Knows flags and their help; leaves what they mean to ``curate.settings.merge`` and the work to
``curate.pipeline.story``, which is imported only when there is something to do: ``--help`` must not wait for torch.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import click

from curate.cli.gating import accept_baseline, check_reference, end, gate_options, printed
from curate.cli.options import db_option, format_option, looks, parse_formats, write_reports
from curate.gate.judgement import Gate
from curate.plugs import CURVATURES, SOLVERS
from curate.settings.merge import load_settings

Command = Callable[..., Any]


class Sections(click.Command):
    """A command whose help shows its options under headings; what no heading names stands under the last."""

    headings: ClassVar[dict[str, tuple[str, ...]]] = {
        "Data": ("eval", "input", "label", "id", "split", "header", "limit", "strict", "classes", "name"),
        "Model": ("model", "model_args", "weights", "trust_checkpoint", "head", "pred_probs", "votes"),
        "Numbers": (
            "params", "solver", "curvature", "damping",
            "neighbours", "eval_rows", "slice", "expected_precision", "noise_rate", "seed", "device",
            "batch_size", "cache",
        ),
        "Gate, settings and output": (),
    }  # fmt: skip

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        section = {name: heading for heading, names in self.headings.items() for name in names}
        last = list(self.headings)[-1]
        for heading in self.headings:
            records = [
                record
                for option in self.get_params(ctx)
                if isinstance(option, click.Option)
                and section.get(option.name or "", last) == heading
                and (record := option.get_help_record(ctx))
            ]
            with formatter.section(heading):
                formatter.write_dl(records)


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of reading."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# No types and no defaults here: files and the environment must be able to tell "not given", and one place checks
# values wherever they come from (curate.settings.options).
data_options = _options(
    click.option("--eval", "eval", metavar="DATA", help="Rows to measure harm on; their labels are checked as well."),
    click.option(
        "--input",
        metavar="NAME,...",
        help="The array, columns or part of an item that hold the input.  [found by itself]",
    ),
    click.option("--label", metavar="NAME", help="The same for the labels.  [label, y, target or class]"),
    click.option("--id", "id", metavar="NAME", help="The same for the rows' keys.  [made from the content]"),
    click.option("--split", metavar="COLUMN", help="The array or column that says train, val or test."),
    click.option(
        "--no-header",
        "header",
        flag_value=False,
        default=None,
        help="The first line of a csv file is a row; columns are numbered from 0.",
    ),
    click.option("--limit", metavar="N", help="A sample of N rows, stratified, by content.  [all rows]"),
    click.option(
        "--strict", is_flag=True, default=None, help="One row that cannot be read is an error, not only 5 % of them."
    ),
    click.option(
        "--classes", metavar="A,B,...|FILE", help="The classes in the order of the model's outputs.  [sorted]"
    ),
    click.option(
        "--name", metavar="NAME", help="The data set's name in reports and keys of findings.  [last part of its path]"
    ),
)

model_options = _options(
    click.option(
        "--model",
        metavar="FILE.py:NAME|PKG.MOD:NAME|FAMILY:NAME",
        help="What makes the model: your code, or torchvision:NAME, timm:NAME, hf:ID-OR-FOLDER. "
        "Without one, the inputs are features.",
    ),
    click.option(
        "--model-arg", "model_args", metavar="NAME=VALUE", multiple=True, help="An argument for it; repeat for more."
    ),
    click.option(
        "--weights",
        metavar="FILE",
        multiple=True,
        help="Trained weights: .safetensors .pt .pth .bin .ckpt. Several: earlier checkpoints first.",
    ),
    click.option("--trust-checkpoint", is_flag=True, default=None, help="Load a checkpoint that may run any code."),
    click.option("--head", metavar="NAME", help="The last linear layer.  [found by itself]"),
    click.option(
        "--pred-probs",
        metavar="FILE",
        help="Out-of-sample class probabilities of your own for the training rows: one more expert.",
    ),
    click.option(
        "--votes",
        metavar="FILE",
        multiple=True,
        help="Labels that another judge gave to training rows, a column a judge: one more expert each.",
    ),
)

number_options = _options(
    click.option(
        "--params", metavar="auto|head|all|REGEX", help="The parameters that evaluation influence is taken in.  [auto]"
    ),
    click.option(
        "--solver",
        metavar="NAME[:SETTING=VALUE,...]",
        help=f"How the curvature is solved for: {', '.join(SOLVERS)}.  [auto]",
    ),
    click.option("--curvature", metavar="|".join(CURVATURES), help="The curvature of the network's loss.  [ggn]"),
    click.option("--damping", metavar="X", help="Added to the model's curvature, above 0.  [by the checkpoint]"),
    click.option(
        "--neighbours", metavar="K", help="Candidates of each evaluation row.  [5 % of the rows, at least 50]"
    ),
    click.option(
        "--eval-rows",
        metavar="N|mistakes|all|KEY,...|FILE",
        help="N: evaluation rows of highest loss to solve for one by one. Else: rows to measure harm on.  [32]",
    ),
    click.option(
        "--slice",
        metavar="COLUMN=VALUE|COLUMN",
        help="Measure harm on these evaluation rows; label=CLASS for a class. COLUMN: on all, and on each value.",
    ),
    click.option(
        "--expected-precision",
        metavar="SHARE",
        help="Flag as many rows as keep the expected share of wrong ones at SHARE.  [what has the best expected F1]",
    ),
    click.option(
        "--noise-rate",
        metavar="P%|P-P%",
        help="So many labels are wrong: sets the level of suspicion.  [by `curate audit`, else a guess]",
    ),
    click.option("--seed", metavar="N", help="Seed of everything that is drawn.  [0]"),
    click.option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute.  [auto]"),
    click.option("--batch-size", metavar="N|auto", help="Rows at a time.  [auto]"),
    click.option("--no-cache", "cache", flag_value=False, default=None, help="Compute everything anew."),
)

media_options = _options(
    click.option(
        "--no-thumbnails", "thumbnails", flag_value=False, default=None, help="No pictures in database and reports."
    ),
    click.option("--no-text", "text", flag_value=False, default=None, help="No rows' texts in database and reports."),
    click.option(
        "--media-root",
        "media_root",
        metavar="FOLDER",
        multiple=True,
        help="Pictures in this folder may be shown and exported too.  [those in the data's own folder]",
    ),
)

config_option = click.option(
    "--config", metavar="FILE", help="Settings from this file instead of pyproject.toml and curate.toml."
)


@click.command(cls=Sections)
@click.argument("train", required=False, metavar="[TRAIN]")
@data_options
@model_options
@number_options
@gate_options
@media_options
@config_option
@format_option
@db_option
@click.pass_context
def scan(context: click.Context, /, config: str | None, **given: Any) -> None:
    """Find the rows of TRAIN that are probably mislabeled, and those that harm the results.

    TRAIN is a folder of class folders, an .npz file with the arrays x and y, sklearn:NAME (digits, iris, wine,
    breast_cancer), torchvision:NAME[:ROOT] as it lies on disk, or python:FILE.py:NAME, which makes a map-style data
    set. A folder with train/ and val/ is a training and an evaluation set; one with a curate.toml brings its own
    settings.

    Every option is also an environment variable (CURATE_SEED, CURATE_EVAL_ROWS) and a key of [tool.curate] in
    pyproject.toml or of curate.toml.
    """
    settings = load_settings(given, config=config)
    # A slip in the gate or the formats is told before the work, wherever it was written.
    gate = Gate.of_settings(settings.as_json())
    check_reference(gate, settings.db)
    parse_formats(settings.format)

    from curate.pipeline.story import scan as run  # torch

    run_id = run(settings)

    from curate.reports import Report
    from curate.reports.gather import read_run
    from curate.store import Store

    with Store.open(settings.db) as store:
        accept_baseline(store, read_run(store, run_id)[0].dataset, settings.baseline)
        report = Report.of_run(store, run_id, gate=gate, **looks(settings.format))
    write_reports(report, settings.format)
    end(context, report, exit_zero=settings.exit_zero, told=printed(settings.format))
