"""Which depths of a network are asked about a label, and how their words become one.

The last features of a network that was trained on these very labels are fitted to the wrong ones too; its inputs and
its early features hardly are. If those are sure of wrong labels that the network repeats, it knows its labels by heart,
and its last features are not asked at all. Knows expert probabilities; leaves their making to `experts` and their
weights to `fusion`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from curate.engine.suspicion import Judgement, judged
from curate.engine.suspicion.fusion import Fusion, fit_fusion, logarithmic_mean

PLAIN = 1.0
"""Nats by which wrong labels must explain the given ones better than none do before the network is accused. Trial on
19 tables: -1 to 0.4 on clean labels and on labels that are merely hard, 1 to 90 on most of those with a tenth or a
fifth changed."""
REPEATED = 0.5
"""Share of the wrong labels, as the untouched depths see them, from which the network is taken to know them."""
LEARNT, LOST = 0.97, 0.1
"""Accuracy on the training labels, and what of it is lost on evaluation rows that it never saw, from which a network is
taken to know its labels whatever they look like from its inputs: between look-alike classes nothing there is plain."""
WAVERING = 0.05
"""Share of `wavering` rows from which a network that fits nearly all labels is taken to know them. On the sets of
`tests/bench/memory.py` to choose on: 0 to 0.023 of regularised networks, 0.095 and more of those that repeat flips."""

HEAD, LAST, EARLY, INPUTS, OUTSIDE = "model", "features", "early features", "inputs", "outside"
"""Names of the depths: what the model says, what its head reads, what a layer halfway up reads, what it is given; and
what others say."""
UNTOUCHED = (EARLY, INPUTS, OUTSIDE)
"""Depths that hardly know the labels that the network was trained on."""
Experts = dict[str, dict[str, np.ndarray]]
"""Probabilities ``[n C]`` by depth and by the name of the expert that read it."""


@dataclass(frozen=True)
class Memory:
    """What the network knows of labels that the untouched depths call wrong."""

    evidence: float
    """Nats by which the untouched depths explain the labels better with wrong ones among them than without."""
    expected: float
    """Wrong labels as the untouched depths count them."""
    repeated: float
    """Share of them that the network gives."""
    accuracy: float
    """Of the network on the training labels."""
    unseen_accuracy: float | None = None
    """The same on evaluation rows; None if none were given."""
    wavering: float | None = None
    """Share of the training rows that the network is sure of and calls otherwise half way to the nearest other row;
    None if that was not asked: of networks that miss more labels than `LEARNT` allows, or of inputs that are words."""

    @property
    def lost(self) -> float:
        """What of its accuracy the network loses on rows that it never saw."""
        return 0.0 if self.unseen_accuracy is None else self.accuracy - self.unseen_accuracy

    @property
    def by_heart(self) -> bool:
        """It repeats plainly wrong labels, or fits nearly all labels and loses much of that close by or elsewhere."""
        plain = self.evidence >= PLAIN and self.repeated >= REPEATED
        return plain or (self.accuracy >= LEARNT and (self.lost >= LOST or self.wavers))

    @property
    def wavers(self) -> bool:
        """Many of the rows that it is sure of it calls otherwise close by."""
        return self.wavering is not None and self.wavering >= WAVERING


@dataclass(frozen=True)
class Judge:
    """A fusion of the experts of some depths; with ``beside`` their mean is pooled with that judge's q."""

    depths: tuple[str, ...]
    fusion: Fusion
    beside: "Judge | None" = None

    def read(self, experts: Experts) -> list[np.ndarray]:
        """What the fusion weighs, ``[n C]`` each: the depths' experts; beside a judge, their mean pooled with its q."""
        return _read(experts, self.depths, self.beside)

    def q(self, experts: Experts) -> Float[np.ndarray, "n C"]:
        """Of the true class, before the given label is looked at."""
        return self.fusion.pooled(self.read(experts))

    def posterior(self, experts: Experts, given: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n C"]:
        """Probability of each true class of rows with these given labels."""
        return self.fusion.posterior(self.read(experts), given)

    def dissent(self, experts: Experts, given: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Share of the experts, by their weights, whose likeliest class is another; beside a judge, of both alike."""
        own = np.stack([said.argmax(1) != given for depth in self.depths for said in experts[depth].values()])
        if self.beside is not None:
            either: np.ndarray = (own.mean(0) + self.beside.dissent(experts, given)) / 2
            return either
        share: np.ndarray = self.fusion.weights @ own / max(float(self.fusion.weights.sum()), 1e-12)
        return share

    def weights(self, experts: Experts) -> dict[str, float]:
        """The weight of each expert, by depth and name."""
        if self.beside is not None:
            return {"with the untouched depths": float(self.fusion.weights.sum())}
        names = [f"{name} on {depth}" for depth in self.depths for name in experts[depth]]
        return dict(zip(names, self.fusion.weights.tolist(), strict=True))


@dataclass(frozen=True)
class Panel:
    """One or two judges with one voice each."""

    judges: tuple[Judge, ...]
    memory: Memory | None
    """None if there is no network of these classes, or no depth that it has not fitted."""

    @property
    def by_heart(self) -> bool:
        """The last features are fitted to these labels, wrong ones included, and are not asked."""
        return self.memory is not None and self.memory.by_heart

    def judgement(self, experts: Experts, given: Int[np.ndarray, " n"]) -> Judgement:
        """The judges' posteriors and qs pooled by logarithmic means, their dissent by the plain one."""
        posteriors = [judge.posterior(experts, given) for judge in self.judges]
        qs = [judge.q(experts) for judge in self.judges]
        dissent = np.mean([judge.dissent(experts, given) for judge in self.judges], axis=0)
        return judged(logarithmic_mean(posteriors), logarithmic_mean(qs), given, dissent)


def panel_for(
    experts: Experts,
    given: Int[np.ndarray, " n"],
    *,
    agrees: Bool[np.ndarray, " n"] | None,
    unseen_accuracy: float | None = None,
    wavering: float | None = None,
    seed: int,
) -> Panel:
    """The panel for the training rows.

    ``agrees``: whether the network gives the row its given label; None if its outputs are not these classes, so that
    it was not trained on these labels. ``unseen_accuracy``: the share of evaluation rows that it gives their label.
    ``wavering``: of the training rows, as `halfway` finds it.
    """
    untouched = tuple(depth for depth in UNTOUCHED if depth in experts)
    if agrees is None or not untouched:
        beside = tuple(depth for depth in (LAST, OUTSIDE) if depth in experts)
        return Panel((_judge(experts, beside, given, seed),), None)
    first = _judge(experts, untouched, given, seed)
    doubt = 1 - first.posterior(experts, given)[np.arange(len(given)), given]
    repeated = float((doubt * agrees).sum() / max(doubt.sum(), 1e-12))
    evidence, accuracy = first.fusion.evidence, float(agrees.mean())
    memory = Memory(evidence, float(doubt.sum()), repeated, accuracy, unseen_accuracy, wavering)
    if memory.by_heart:
        return Panel((first,), memory)
    return Panel((first, _judge(experts, (LAST,), given, seed, beside=first)), memory)


def panel_on_unseen(experts: Experts, given: Int[np.ndarray, " n"], seed: int) -> Panel:
    """A panel for rows that nothing was fitted to: each expert has the weight that their own labels give it.

    Labels are taken to change alike. Few labels of an evaluation set are wrong, and there the classes that a network
    confuses outweigh them: the account by class put them first (`tests/bench/unseen.py`).
    """
    judge = _judge(experts, tuple(experts), given, seed)
    return Panel((Judge(judge.depths, judge.fusion.alone()),), None)


def _judge(
    experts: Experts, depths: tuple[str, ...], given: Int[np.ndarray, " n"], seed: int, beside: Judge | None = None
) -> Judge:
    return Judge(depths, fit_fusion(_read(experts, depths, beside), given, seed), beside)


def _read(experts: Experts, depths: tuple[str, ...], beside: Judge | None) -> list[np.ndarray]:
    """The probabilities that are to be fused.

    The labels' likelihood would give features that were fitted to these labels all the weight: beside a judge of
    untouched depths they have half a voice, whatever they say.
    """
    own = [said for depth in depths for said in experts[depth].values()]
    return own if beside is None else [logarithmic_mean([beside.q(experts), logarithmic_mean(own)])]
