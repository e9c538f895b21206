"""What the steps of a scan will cost, before they run: seconds of one core, and memory.

Each step's work is counted in rows, in sums of products and in passes through the network, and the speed of the last
two is measured here and now. The constants are fitted to measured scans (docs/explanation/scale.md): they tell a minute
from an hour, not 40 seconds from 50.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from curate.engine.curvature.head import MANY_ROWS, MOST_CURVATURE_ROWS
from curate.engine.influence.problem import Problem
from curate.engine.influence.screen import LEAST_WORK
from curate.engine.neighbours import MOST_PAIRS, PROBED_ROWS
from curate.engine.suspicion.crossfit import MOST_ROWS, small
from curate.engine.suspicion.experts import EARLY_WIDTH, LAST_WIDTH
from curate.settings.merge import ScanSettings
from curate.stages.deep import Price, answered_by_layers, deep_problem
from curate.stages.diagnostics import HESSIAN_ROWS, LANCZOS_STEPS
from curate.stages.forward import INPUT_BYTES
from curate.stages.memory import most_memory
from curate.stages.prepare import Data
from curate.stages.suspicion import own_labels

USUAL_SPEED = 75e9
"""Products and sums a second, float32, of the machine that the constants were fitted on."""
TIMED_ROWS = 16
"""Rows that go through the network to time it."""
TIMED = 8
"""Calls that are timed; the shortest counts."""
HESSIAN_PASSES = 4.0
"""The same of one product with a Hessian."""
FACTORISED = 8_000
"""Parameters of a head up to which its curvature is factorised; beyond, products with the rows answer."""
SOLVED = 2.5e5
"""Products and sums of the solves of influence at a larger head, a row and parameter and over the classes, whose blocks
are nearer to the whole the more there are: steps for some hundred directions. Within a factor of 2.2 of three scans:
4.3 s for 5,000 rows of banking77 with 19,789 parameters, 7.3 s for as many of clinc150 with 38,800, 16 s for 20,000
rows of 1,000 classes with 513,000."""
MANY_PARAMETERS = 20_000
"""Of a probe, beyond which more of them cost a sixth: products with rows, and little else."""

BLOCKS = 2**29
"""Bytes of products of rows with one another, block by block."""
COPIES = 3e-4
"""Seconds a row of looking for its near copies."""


@dataclass(frozen=True)
class Speed:
    """Measured here and now."""

    products: float
    """Products, and sums, a second, float32, one thread: two for each number of a product of matrices."""
    pass_of_a_row: float = 0.0
    """Seconds of a row through the network and back again; 0: no influence goes through it."""


@dataclass(frozen=True)
class Size:
    """What the cost depends on."""

    rows: int
    evaluation: int
    """0: training rows serve."""
    classes: int
    features: int
    depths: int
    """How many depths of the network are listened to: last and early features, inputs."""
    parameters: int
    """Of the network, if evaluation influence goes through it; 0: it is taken at the head."""
    passes: float
    """There and back, over all rows, that influence through it takes."""
    beside: float
    """Products and sums of matrices beside them."""
    by_layers: bool
    """Whether EK-FAC answers at once, without steps."""
    copies: bool
    """Whether near copies are looked for, as of pictures and texts."""
    bytes_a_row: int
    """Of one decoded row."""
    temporaries: int
    """Bytes of a batch's gradients, if influence goes through the network."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one core of each step, and the most memory at once, bytes."""

    seconds: dict[str, float]
    memory: int

    @property
    def total(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds.values())


def measured_speed(few: Data, problem: Problem | None) -> Speed:
    """How fast this machine multiplies, and sends rows through the network and back."""
    square = torch.ones(512, 512)
    # One is too short: what a thread that still waits has used is added up some milliseconds later.
    products = TIMED * 2 * 512**3 / _time(lambda: [square @ square for _ in range(TIMED)])
    if problem is None:
        return Speed(products)
    rows = torch.arange(min(TIMED_ROWS, len(few.train)))
    x, residuals = few.train.inputs.batch(rows), problem.residuals[rows.to(problem.residuals.device)]
    return Speed(products, _time(lambda: problem.objective.cotangents(x, residuals[None])) / len(rows))


def _time(work: Callable[[], object]) -> float:
    """Seconds of one call: the shortest of some, after a first one. What else runs here, and threads that wait for one
    another, only make a call longer: of a single one a few seconds' work looked like 39 minutes."""
    work()
    took = []
    for _ in range(TIMED):
        started = time.process_time()
        work()
        took.append(time.process_time() - started)
    return max(min(took), 1e-9)


def expected_seconds(settings: ScanSettings, data: Data) -> dict[str, float]:
    """What the steps after reading will take, by a look at a few rows."""
    alone = data.passes.alone  # nobody but the first process asks
    few = replace(data, train=data.train.first(min(len(data.train), TIMED_ROWS)), passes=alone)
    problem, price = deep_problem(settings, few, len(data.train))
    evaluation = 0 if data.own_evaluation else len(data.evaluation)
    size = size_of(settings, few, problem, price, (len(data.train), evaluation))
    return cost_of(size, measured_speed(few, problem), 0.0).seconds


def size_of(
    settings: ScanSettings, few: Data, problem: Problem | None, price: Price | None, sets: tuple[int, int]
) -> Size:
    """Of a scan of so many training and evaluation rows, of which ``few`` were read."""
    rows, evaluation = sets
    train = few.train
    row = train.inputs.batch(torch.arange(1))
    return Size(
        rows,
        evaluation,
        few.classes,
        train.features.shape[1],
        2 + (train.early is not None) if own_labels(few) else 1,
        0 if problem is None else problem.objective.p,
        0.0 if price is None else price.through,
        0.0 if price is None else price.beside,
        problem is not None and answered_by_layers(settings, problem),
        train.looks is not None or train.source.media == "text",
        row.numel() * row.element_size(),
        0 if problem is None else 4 * few.passes.budget.batch,
    )


def cost_of(size: Size, speed: Speed, reading: float) -> Cost:
    """``reading`` is what a row takes to be read and sent through the network, seconds."""
    slower = USUAL_SPEED / speed.products
    n, sets = size.rows, size.rows + size.evaluation
    head = size.classes * (size.features + 1)
    widths = [min(size.features, LAST_WIDTH), *[EARLY_WIDTH] * (size.depths - 1)]
    experts = sum(_experts(n, size.classes * (width + 1)) for width in widths)
    heads = (_inverse(head) + _scores(n, head)) if head <= FACTORISED else _by_class(n, size)
    solved = 0.0 if head <= FACTORISED else SOLVED / size.classes * n * head / USUAL_SPEED
    solved += _pairs(n, size.evaluation, head)
    seconds = {
        "reading": sets * reading,
        "suspicion": slower * (1.2 + experts + heads * min(2, size.depths)),
        "influence": slower * (0.1 + 1.2e-4 * n + 6e-4 * min(head, FACTORISED) + solved)
        + _through_network(size, speed),
        "checks": _checks(size, speed),
        "storing": slower * (0.05 + (7e-5 + COPIES * size.copies) * sets),
    }
    kept = min(INPUT_BYTES, n * size.bytes_a_row) + 16 * n * (size.features + 1_024 * (size.depths > 2))
    squares = 16 * min(head, FACTORISED) ** 2 + min(4 * n**2, BLOCKS)
    return Cost(seconds, most_memory() + kept + squares + size.temporaries)


def _experts(n: int, p: int) -> float:
    """Experts that read one depth, each with p parameters: fits with several weights, votes, a cross-fit."""
    votes = 7e-9 * n * (n if n * n <= MOST_PAIRS else PROBED_ROWS)
    fits = min(n, MOST_ROWS) * (6e-8 * min(p, MANY_PARAMETERS) + 1e-8 * p)
    return 2.6e-4 * n + fits + votes + (2 * _one_by_one(n, p) if small(n, p) else 0.0)


def _one_by_one(n: int, p: int) -> float:
    """A probe whose rows are left out in closed form, in float64."""
    return 2 * _inverse(p) + 3.5e-11 * n * p**2


def _by_class(n: int, size: Size) -> float:
    """A head whose curvature is inverted class by class, and its fit."""
    width = size.features + 1
    return 1e-9 * n * size.classes * width + 6.0 * size.classes * width**3 / USUAL_SPEED


def _inverse(p: int) -> float:
    """Of p x p numbers, float32."""
    return 2.8 * p**3 / USUAL_SPEED


def _scores(n: int, head: int) -> float:
    """A head that is factorised: its curvature, which many rows have of some, its fit, and every row left out."""
    left_out = 8e-12 if n < MANY_ROWS else 4e-12
    return (9.5e-12 * min(n, MOST_CURVATURE_ROWS) + left_out * n) * head**2 + 6e-9 * n * head


def _pairs(n: int, evaluation: int, head: int) -> float:
    """Influence of n rows on given evaluation rows, of which the strongest are kept; a screen leaves a third of it."""
    work = float(n) * evaluation * head
    return 2 * work / USUAL_SPEED / (3 if work > LEAST_WORK else 1) + 5e-9 * n * evaluation


def _through_network(size: Size, speed: Speed) -> float:
    if not size.parameters:
        return 0.0
    return size.passes * size.rows * speed.pass_of_a_row + 2 * size.beside / speed.products


def _checks(size: Size, speed: Speed) -> float:
    """Products with a Hessian on a sample of rows."""
    if not size.parameters:
        return 0.01
    return min(size.rows, HESSIAN_ROWS) * LANCZOS_STEPS * HESSIAN_PASSES * speed.pass_of_a_row
