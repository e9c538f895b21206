"""From settings to rows in memory: data sets and model opened, one forward pass over each.

Knows what must fit together before anything is computed; leaves reading to `sources` and the numbers to the stages.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from curate.engine.curvature.objective import choose_parameters
from curate.engine.loss import SOFTMAX, Loss
from curate.engine.passes import ALONE, Passes, pieces
from curate.errors import ModelError, NothingScanned, UnreadableRow, UsageError
from curate.models.encoding import encode_sources
from curate.models.estimators import is_estimator_file, load_estimator
from curate.models.halved import halved
from curate.models.keywords import called_as, trim_padding
from curate.models.loading import GivenModel, LoadedModel, load_model, state_sha256
from curate.models.network import Network, inspect_network
from curate.models.steady import unsteady
from curate.models.transforms import make_transform
from curate.models.weight_files import weights_at
from curate.process.devices import no_device
from curate.process.progress import Progress
from curate.process.ranks import machine
from curate.process.versions import versions
from curate.settings.merge import ScanSettings
from curate.settings.specs import did_you_mean
from curate.sources import Source, open_sets
from curate.sources.limit import limited
from curate.sources.memory import GivenRows, as_array
from curate.sources.outside import Outside, read_outside
from curate.sources.stamp import stamp, stands_for
from curate.stages.broken import Broken, refuse_broken
from curate.stages.cache import ForwardCache
from curate.stages.diagnosis import ClassOrder, other_order
from curate.stages.forward import Forward, Pass, Transform
from curate.stages.groups import Groups, read_groups, refuse_group
from curate.stages.losses import training_loss
from curate.stages.memory import near, passes_of
from curate.stages.sweeping import sweep
from curate.stages.targets import refuse_rows

MOST_OWN_EVALUATION_ROWS = 1_000
"""Training rows that also serve as evaluation rows where no evaluation set is given, at most."""
PICTURES = ("image", "array")
"""Media that say nothing of their labels without a model."""
LEAST_ROWS = 5
"""Training rows under which nothing can be said of any label."""
AS_READ = "pictures as in their files, sharpness of edges"
"""What earlier caches do not say: their rows were all RGB, and sharpness another measure."""
FEWEST_AT_ONCE, MOST_AT_ONCE, NUMBERS_AT_ONCE = 8, 128, 2**20
SAMPLE_ROWS, FEWEST_SAMPLED, SAMPLED_OF = 32, 8, 64
"""Rows that the network's outputs are judged on: logits, probabilities, one output."""


@dataclass(frozen=True)
class Held:
    """What a caller holds in memory, of the data sets and of the model; what is missing, the settings name."""

    rows: GivenRows = field(default_factory=GivenRows)
    model: GivenModel = field(default_factory=GivenModel)


@dataclass(frozen=True)
class Opened:
    """The data sets alone; ``notes`` are those on rows left out."""

    train: Source
    evaluation: Source | None
    notes: tuple[str, ...]
    outside: Outside
    """What others say of the training rows."""
    given: GivenModel = field(default_factory=GivenModel)
    """What a caller holds of the model."""
    passes: Passes = ALONE
    """How rows go through all that follows."""
    stamp: str | None = None
    """Of the files that hold all rows, as they were before any was read; None if nothing else would tell a change."""


@dataclass(frozen=True)
class Loaded:
    """The data sets and the model, opened; no row read yet."""

    train: Source
    evaluation: Source | None
    model: LoadedModel | None
    transform: Transform
    device: torch.device
    notes: tuple[str, ...]
    opened: Opened
    """The data sets before a model was added, for another checkpoint of it."""
    prepared: tuple[str, ...] = ()
    """What the transform was made to do, where that depends on the whole data set: sizes of pictures, columns."""

    @property
    def identity(self) -> tuple[str | None, str | None]:
        """What the model is called, and the hash of its weights or of an estimator's state; None without one."""
        if self.model is not None:
            return self.model.spec, self.model.weights_sha256
        estimator = self.opened.given.estimator
        return (None, None) if estimator is None else (estimator.name, estimator.sha256())


def load(settings: ScanSettings, progress: Progress, held: Held | None = None, passes: Passes | None = None) -> Loaded:
    """Open what the settings name, or a caller holds; ``passes`` as `open_data` has it."""
    return add_model(settings, open_data(settings, progress, held, passes))


def open_data(
    settings: ScanSettings, progress: Progress, held: Held | None = None, passes: Passes | None = None
) -> Opened:
    """The data sets that the settings name or that a caller holds, limited if asked, and what others say of the rows.

    ``passes``: this process is one of several; None: it is alone. Raises `UsageError` for a single class.
    """
    held = held or Held()
    before = stamp(settings)
    train, evaluation = open_sets(settings, held.rows)
    probabilities = None if held.rows.pred_probs is None else as_array(held.rows.pred_probs, "pred_probs")
    outside = read_outside(train, settings.pred_probs if probabilities is None else probabilities, settings.votes)
    if len(train.classes) < 2:
        raise UsageError(
            f"{settings.train} has one class only: {', '.join(train.classes)}", "curate compares classes: it needs two."
        )
    limits: list[str] = []
    if settings.limit is not None:
        train = _limited(train, settings.limit, "training", progress, limits)
        evaluation = evaluation and _limited(evaluation, settings.limit, "evaluation", progress, limits)
    _refuse_classes(settings, train)
    refuse_rows(settings, evaluation or train)
    refuse_group(settings.group, train)
    given = held.model
    if settings.model is not None and is_estimator_file(settings.model):
        given = GivenModel(estimator=load_estimator(settings.model, settings.trust_checkpoint))
    known = before if all(stands_for(source) for source in (train, evaluation) if source is not None) else None
    return Opened(train, evaluation, (*limits, *outside.notes), outside, given, passes or passes_of(settings), known)


def _refuse_classes(settings: ScanSettings, train: Source) -> None:
    """A limit on the noise of a class that is not there is told before the work, and not by every later report."""
    for asked in settings.max_noise_rate:
        scope, _, name = asked.rpartition(":")[0].partition(":")
        if scope == "class" and name and name not in train.classes:
            raise UsageError(
                f"--max-noise-rate {asked}: no training row has the label '{name}'.", did_you_mean(name, train.classes)
            )


def add_model(settings: ScanSettings, opened: Opened) -> Loaded:
    """With the model, or texts and records encoded if none is named. Raises `UsageError` for options that need one."""
    train, evaluation, limits = opened.train, opened.evaluation, opened.notes
    estimator = opened.given.estimator
    if settings.model is None or estimator is not None:
        refuse_options_of_models(settings)
    model = None
    if estimator is not None:
        train, evaluation = estimator.read(train, evaluation, settings.seed)
    elif settings.model is not None:
        weights = settings.weights[-1] if settings.weights else None
        for file in settings.weights[:-1]:  # read only after the last one's run: told before it
            weights_at(file)
        model = _model(settings, opened, weights)
    elif opened.given.transform is not None:
        raise UsageError("A transform needs a model.", "Give model=, or features= that the transform makes.")
    else:
        train, evaluation = encode_sources(train, evaluation, settings.seed)
    transform, notes = make_transform(model, train)
    said = (*limits, *train.notes, *(evaluation.notes if evaluation else ()), *(model.notes if model else ()), *notes)
    prepared = (*notes, *(column.name for column in train.inputs))
    return Loaded(train, evaluation, model, transform, _device(settings.device), said, opened, prepared)


def by_contents(settings: ScanSettings, opened: Opened) -> bool:
    """Whether contents are all there is to go by: no model says what to see in the pictures."""
    return settings.model is None and opened.given.transform is None and opened.train.media in PICTURES


def refuse_options_of_models(settings: ScanSettings) -> None:
    """Options that mean nothing without a model. Raises `UsageError`."""
    if settings.weights or settings.params not in ("auto", "head"):
        option = "--weights" if settings.weights else f"--params {settings.params}"
        raise UsageError(f"{option} needs a model", "Name it with --model file.py:factory.")
    if settings.loss != "softmax":
        raise UsageError(f"--loss {settings.loss} needs a model", "The probe has a loss of its own.")
    if settings.asks_network is not None:
        raise UsageError(
            f"{settings.asks_network} needs a model: features alone are solved exactly", "Name one with --model."
        )


def _model(settings: ScanSettings, opened: Opened, weights: str | None) -> LoadedModel:
    """The model that the settings name, or a copy of the one that the caller holds, with these weights."""
    assert settings.model is not None
    if opened.given.module is not None:
        if settings.model_args:
            raise UsageError("Arguments of the model have no use: it is made already.", "Leave out model_args.")
        return opened.given.load(settings.model, weights, settings.trust_checkpoint)
    model = load_model(
        settings.model,
        model_args=settings.model_args,
        weights=weights,
        trust_checkpoint=settings.trust_checkpoint,
        media=opened.train.media,
        classes=opened.train.classes,
        ordered=settings.classes is not None,
    )
    if opened.given.transform is None:
        return model
    notes = [note for note in model.notes if not note.startswith("transform taken from")]
    return replace(model, transform=opened.given.transform, source_sha256=None, notes=notes)


def _limited(source: Source, limit: int, which: str, progress: Progress, notes: list[str]) -> Source:
    labelled = sum(label >= 0 for label in source.labels)
    if labelled <= limit:
        return source
    with progress.stage(f"Choosing {which} rows", labelled) as advance:
        sample = limited(source, limit, advance)
    notes.append(
        f"--limit: {limit:,} of {labelled:,} {which} rows, by class and content; the others were not looked at"
    )
    return sample


def _device(asked: str) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return torch.device("cuda" if available["cuda"] else "mps" if available["mps"] else "cpu")
    if not available.get(asked.split(":")[0], False):
        raise no_device(asked, tuple(name for name, is_there in available.items() if is_there))
    return torch.device(asked)


@dataclass(frozen=True)
class Data:
    """Both data sets after the forward pass, rows in the order of their content: no result depends on theirs."""

    train: Forward
    evaluation: Forward
    own_evaluation: bool
    """No evaluation set was given: some training rows serve as one."""
    network: Network | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """What makes the results doubtful; the report says it first."""
    outside: Outside = field(default_factory=Outside)
    """What others say of the training rows, in their order."""
    passes: Passes = ALONE
    """How the rows go through the stages that compute, and the memory that they may take."""
    loss: Loss = SOFTMAX
    """What the network was trained with."""
    groups: Groups | None = None
    """Which rows belong together, if somebody said so."""
    unsteady: str | None = None
    """Why another pass would give other numbers: a gate cannot rest on them."""

    @property
    def classes(self) -> int:
        """How many classes the training set has."""
        return len(self.train.source.classes)

    def warned(self, warning: str | None) -> "Data":
        """The same data with one warning more."""
        return self if warning is None else replace(self, warnings=(*self.warnings, warning))


def read(settings: ScanSettings, loaded: Loaded, progress: Progress) -> Data:
    """Every row's features and outputs, cached or made now; some training rows serve as missing evaluation rows."""
    how, moving = reading(settings, loaded, progress)
    train = how.through(loaded.train, "Reading training rows")
    evaluation = None if loaded.evaluation is None else how.through(loaded.evaluation, "Reading evaluation rows")
    _refuse_few(train)
    network, cache, passes = how.network, how.cache, loaded.opened.passes
    notes = [*loaded.notes, *getattr(loaded.transform, "notes", ()), *(network.notes if network else ())]
    notes += told_by_all(passes, [*how.notes, *(cache.notes if cache is not None else ())])
    if cache is not None:
        notes += filter(None, [str(sweep(cache.folder.parent))] if passes.first else [])
    if settings.loss != "softmax":
        answers = network is not None and network.own_classes
        what = "influence in its parameters is of this loss" if answers else "it has no use: the probe answers"
        notes.append(f"the model was trained with --loss {settings.loss}: {what}")
    warnings: list[str] = []
    if moving is not None:
        warnings.append(f"{moving}. Every number rests on one pass that another would not repeat")
    if network is not None and network.own_classes:
        assert train.logits is not None
        order = other_order(train.logits, train.labels, loaded.train.classes)
        if order is not None:
            _refuse_order(settings, order)
            # Each output stands for a wrong class: its features still serve.
            network = replace(network, own_classes=False)
            warnings.append(f"{order}. Without it the probe on the model's features answers")
    raw = network is None and train.source.media == "features"
    scales = _scales(train, passes) if raw else None  # encoders scale the others
    if scales is not None:
        train, evaluation = _changed(train, evaluation, scales, passes)
        notes.append("the columns are on very different scales: each was standardised")
    if network is None or not network.own_classes:
        # What all rows share tells none of them apart, yet takes most of their length: taken off.
        mean = train.features.mean(0)
        train, evaluation = _changed(train, evaluation, lambda features: features.sub_(mean), passes)
    outside = loaded.opened.outside.of(train.keys)
    own = evaluation is None
    if evaluation is None:
        evaluation = train.first(min(len(train), max(50, min(MOST_OWN_EVALUATION_ROWS, len(train) // 5))))
    groups, found = read_groups(settings.group, train, evaluation, own)
    said = ((*notes, *found), tuple(warnings), outside)
    loss = training_loss(settings.loss, train.labels, len(train.source.classes))
    passes = near(passes, loaded.device)
    return Data(train, evaluation, own, network, *said, passes=passes, loss=loss, groups=groups, unsteady=moving)


def told_by_all(passes: Passes, notes: Sequence[str]) -> list[str]:
    """What turned out in any of the processes; who it was if not all of them say it."""
    of_ranks = passes.gathered((machine(), list(notes)))
    found = []
    for note in dict.fromkeys(note for _, said in of_ranks for note in said):
        who = [f"{number} on {host}" for number, (host, said) in enumerate(of_ranks) if note in said]
        found.append(note if len(who) == len(of_ranks) else f"rank {', '.join(who)}: {note}")
    return found


def reading(settings: ScanSettings, loaded: Loaded, progress: Progress) -> tuple[Pass, str | None]:
    """How the rows are to be read, and what of the network moves from one pass to the next."""
    network, cache, moving, batch_size = None, None, None, settings.batch_size
    if loaded.model is not None:
        few = max(FEWEST_SAMPLED, min(SAMPLE_ROWS, len(loaded.train) // SAMPLED_OF))
        sample = _sample(loaded, min(few, max(2, settings.batch_size or few)))
        batch_size = batch_size or usual_batch(sample)
        module = called_as(loaded.model.module.to(loaded.device), loaded.transform)
        trim_padding(module, sample)
        network = inspect_network(module, sample, len(loaded.train.classes), settings.head, settings.output)
        _refuse_parameters(settings, network)
        moving = unsteady(network, sample)
        network = halved(network, sample) if settings.autocast else network
        # Numbers of one moment are not kept for the next, nor those of code that nobody can tell from other code.
        if settings.cache and moving is None and loaded.model.source_sha256 is not None:
            weights = loaded.model.weights_sha256 or state_sha256(module)
            model = (loaded.model.source_sha256, weights, network.head_name, network.reading)
            # Rows that the data set itself made tensors of do not go through the transform.
            layer = network.early.name if network.early else None
            told = (loaded.prepared, AS_READ, loaded.train.ready, str(loaded.device), sorted(versions().items()))
            half = () if network.half is None else ("bfloat16",)
            cache = ForwardCache(Path(settings.db).parent / "cache", repr((*model, layer, *told, *half)))
    batch = batch_size or MOST_AT_ONCE
    how = Pass(network, loaded.transform, loaded.device, progress, batch, cache, settings.strict)
    return replace(how, passes=loaded.opened.passes), moving


def _refuse_few(train: Forward) -> None:
    """Too few rows, or one class, are told before anything is computed."""
    if len(train) < LEAST_ROWS:
        raise NothingScanned(
            f"{train.source.location} has {len(train)} readable rows: too few to tell a wrong label from a rare one",
            f"A scan takes {LEAST_ROWS} rows at least, and says something from some dozens on.",
        )
    present = len(set(train.labels.tolist()))
    if present < 2:
        raise UsageError("Only one class has readable rows", "curate compares classes: it needs two.")


def _refuse_parameters(settings: ScanSettings, network: Network) -> None:
    """What cannot be differentiated is told before the rows are read."""
    if settings.asks_network is not None and not network.own_classes:
        raise ModelError(
            "Influence through the network needs a model whose outputs are the classes; this one has features only",
            "Use --params head --solver exact: the probe on its features answers.",
        )
    if settings.asks_network is not None and not network.differentiable:
        raise ModelError(
            f"{settings.asks_network}: the model's forward pass gives no gradients (torch.no_grad or detach in it)",
            "Take it out of the forward pass, or use --params head.",
        )
    if settings.params not in ("auto", "head", "all"):
        choose_parameters(network.module, settings.params)


def _refuse_order(settings: ScanSettings, order: ClassOrder) -> None:
    if settings.asks_network is not None:
        raise ModelError(
            f"{order}.", "Influence through the network would rest on wrong classes: give the option, or --params head."
        )


def _sample(loaded: Loaded, count: int) -> torch.Tensor:
    """Up to ``count`` readable rows from all over the data, to look at what the network takes and returns."""
    values: list[torch.Tensor] = []
    broken: list[Broken] = []
    total = len(loaded.train)
    spread = range(total)[:: max(1, total // count)]
    for index in dict.fromkeys([*spread, *range(total)]):
        try:
            value = loaded.transform(loaded.train.read(index).decode())
        except UnreadableRow as error:
            broken.append(Broken.of(index, error))
            continue
        if not values or value.shape == values[0].shape:
            values.append(value)
        if len(values) == count:
            break
    if not values:
        refuse_broken(loaded.train, total, broken)
    return torch.stack(values).to(loaded.device)


def usual_batch(sample: torch.Tensor) -> int:
    """Rows that go through the network at once where nobody says how many, by the size of one.

    What a processor makes of larger batches leaves its cache: 400 photos of 224 pixels take a ResNet-18 18 s by 8, 25 s
    by 128.
    """
    if sample.device.type != "cpu":
        return MOST_AT_ONCE
    return max(FEWEST_AT_ONCE, min(MOST_AT_ONCE, NUMBERS_AT_ONCE // max(1, sample[0].numel())))


def _scales(train: Forward, passes: Passes) -> Callable[[torch.Tensor], object] | None:
    """What standardises raw columns, in place; None if they are on one scale: distances would see one column only."""
    mean, spread = passes.spread(train.features)
    moving = spread[spread > 0]
    if len(moving) == 0 or float(moving.max()) <= 10 * float(moving.median()):
        return None
    scale = torch.where(spread > 0, spread.clamp_min(1e-12), torch.ones_like(spread))

    def change(features: torch.Tensor) -> None:
        for part in pieces(features, passes.budget.sum_rows):
            part.copy_((part - mean) / scale)

    return change


def _changed(
    train: Forward, evaluation: Forward | None, change: Callable[[torch.Tensor], object], passes: Passes
) -> tuple[Forward, Forward | None]:
    """Both sets with their features changed in place, as far as one process has them for itself."""
    changed = replace(train, features=passes.changed(train.features, change))
    return changed, evaluation and replace(evaluation, features=passes.changed(evaluation.features, change))
