"""Several checkpoints of one training: each judges the rows by itself, and suspicion is the mean of their posteriors.

Early checkpoints have not yet learned wrong labels by heart (TracIn, Pruthi et al. 2020, sums over checkpoints for the
same reason). Knows how their words are put together; everything but suspicion is of the last checkpoint alone.
"""

from dataclasses import replace

import numpy as np

from curate.engine.neighbours import Neighbours
from curate.engine.suspicion import Judgement, cut_for, judged
from curate.engine.suspicion.detectors import loss
from curate.errors import ModelError
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.heads import Heads, fit_heads
from curate.stages.prepare import Data, Opened, add_model, read
from curate.stages.suspicion import Judged, judge_rows, levelled


def with_earlier(
    settings: ScanSettings, opened: Opened, data: Data, heads: Heads, last: Judged, progress: Progress
) -> Judged:
    """``last`` with the word of the checkpoints named before the last one; as it is where there are none.

    They are read one after the other: memory holds the rows of two. Raises `ModelError` where one of them does not
    read the same rows as the last.
    """
    earlier = settings.weights[:-1]
    if not earlier:
        return last
    found, losses = [last], _losses(data, heads)
    for file in earlier:
        alone = replace(settings, weights=(file,))
        theirs = read(alone, add_model(alone, opened), progress)
        if (theirs.train.sha256, theirs.evaluation.sha256) != (data.train.sha256, data.evaluation.sha256):
            raise ModelError(f"{file} could not read the same rows as {settings.weights[-1]}.")
        their_heads = fit_heads(theirs, settings.damping)
        near = Neighbours(theirs.train.features, settings.seed, passes=theirs.passes)
        found.append(judge_rows(theirs, their_heads, near, progress, settings.seed))
        losses = losses + _losses(theirs, their_heads)
    train, level = levelled(_mean([each.train for each in found], last.signals.given), last.signals.given, data.train)
    evaluation, evaluation_cut = None, last.evaluation_cut
    if last.evaluation is not None:
        given = data.evaluation.labels.numpy()
        mean = _mean([each.evaluation for each in found if each.evaluation is not None], given)
        evaluation, their_level = levelled(mean, given, data.evaluation)
        evaluation_cut = cut_for(evaluation.suspicion, settings.expected_precision, their_level.flagged)
    return replace(
        last,
        train=train,
        evaluation=evaluation,
        signals=replace(last.signals, checkpoint_loss=losses / len(found)),
        cut=cut_for(train.suspicion, settings.expected_precision, level.flagged),
        evaluation_cut=evaluation_cut,
        level=level,
        checkpoints=len(found),
    )


def _losses(data: Data, heads: Heads) -> np.ndarray:
    """Loss of each training row, ``[n]`` nats: the model's, or the probe's where it has none of these classes."""
    return loss(heads.probabilities(data.train), data.train.labels.numpy())


def _mean(judgements: list[Judgement], given: np.ndarray) -> Judgement:
    posterior = sum(each.posterior for each in judgements) / len(judgements)
    q = sum(each.q for each in judgements) / len(judgements)
    dissent = np.mean([each.dissent for each in judgements], axis=0)
    return judged(np.asarray(posterior), np.asarray(q), given, dissent)
