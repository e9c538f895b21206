"""The receipts of a run: how each of its quantities was solved, as the database keeps it.

Knows which field of a stage's result is which column; leaves writing to `record` and words to the reports.
"""

from collections.abc import Iterator
from dataclasses import asdict

from curate.engine.influence.harmful import FALSE_DISCOVERIES
from curate.engine.suspicion.panel import Judge
from curate.stages.heads import Heads
from curate.stages.influence import Influence
from curate.stages.prepare import Data
from curate.stages.suspicion import Judged
from curate.store import ReceiptRecord


# Long, not deep: one receipt after the other, each with its fields by name.
def receipts_of(data: Data, heads: Heads, judged: Judged, influence: Influence) -> Iterator[ReceiptRecord]:
    """A receipt for each number that the run stores."""
    head = heads.influence.head
    probe = heads.probe_influence
    yield ReceiptRecord(
        quantity="suspicion",
        solver="closed form",
        parameters=f"{len(judged.weights)} experts",
        detail={
            "experts": {name: round(weight, 3) for name, weight in judged.weights.items()},
            "judges": [_judge(judge) for judge in judged.panel.judges],
            "memory": None if judged.panel.memory is None else asdict(judged.panel.memory),
            "cut": judged.cut,
            "checkpoints": judged.checkpoints,
            "level": None if judged.level is None else judged.level.facts(len(data.train)),
            "mean_leverage": probe.scores.mean_leverage,
        },
    )
    if data.network is not None and data.network.half is not None:
        gap = data.network.half
        yield ReceiptRecord(quantity="forward pass", solver="bfloat16", parameters="all", score_error=gap)
    yield ReceiptRecord(
        quantity="self-influence",
        solver="exact" if head.exact else "class-block",
        curvature="ggn",
        parameters=heads.name,
        damping=float(head.curvature.penalty[0]) if heads.damping is None else heads.damping,
        detail={
            "known_penalty": heads.known_penalty,
            "mean_leverage": heads.influence.scores.mean_leverage,
            "left_aside": heads.influence.scores.left_aside,
            "largest_error_of_left_out_probabilities": heads.influence.scores.error,
        },
    )
    network = judged.network
    if network is not None:
        yield ReceiptRecord(
            quantity="self-influence through the network",
            solver="ekfac" if network.layers else "exact" if network.sampled is None else "dual of a sample",
            curvature=network.curvature,
            parameters=network.parameters,
            damping=network.damping,
            seconds=network.seconds,
            detail={"sampled_rows": network.sampled, "approximation": network.layers},
        )
    deep = influence.deep
    if deep is not None:
        low, high = deep.recall_interval
        measured = not deep.whole
        yield ReceiptRecord(
            quantity="evaluation influence",
            solver=deep.solver,
            curvature=deep.curvature,
            parameters=influence.parameters,
            damping_asked=deep.damping_asked,
            damping=deep.solution.damping,
            residual=float(deep.solution.residual.mean()) if measured else None,
            score_error=deep.score_error,
            steps=deep.solution.steps,
            seconds=influence.seconds,
            recall=deep.recall,
            recall_low=low,
            recall_high=high,
            rank_stability=deep.stability,
            detail={
                **deep.solution.detail,
                "right_hand_sides": len(deep.solution.rows),
                "ranks_kept": deep.ranks_kept,
                "largest_residual": float(deep.solution.residual.max()) if measured else None,
                "candidates": deep.candidates,
                "gradients_taken": deep.gradients_taken,
                "recall_by_order_of_candidates": deep.recalls,
                "recall_of_most_harmful": deep.recall_of_harmful,
                "evaluation_rows": influence.targets.name,
            },
        )
    if influence.head_rows:
        at_probe = influence.head == "probe"
        rest = heads.probe_influence.head if at_probe else head
        damping = float(rest.curvature.penalty[0]) if at_probe or heads.damping is None else heads.damping
        yield ReceiptRecord(
            quantity="evaluation influence" if deep is None else "influence on the other rows",
            solver="exact" if rest.exact else "cg",
            curvature="ggn",
            parameters=influence.head,
            damping=damping,
            residual=influence.head_residual,
            recall=influence.head_recall,
            rank_stability=influence.head_stability,
            seconds=influence.seconds if deep is None else None,
            detail={"evaluation_rows": influence.head_rows},
        )
    harmful = influence.harmful
    if harmful is not None:
        at_head = "exact" if head.exact else "cg"
        yield ReceiptRecord(
            quantity="harmful rows",
            solver=at_head if deep is None else deep.solver,
            curvature="ggn" if deep is None else deep.curvature,
            parameters=influence.parameters,
            detail={
                "evaluation_rows": influence.targets.name,
                "groups_of_evaluation_rows": harmful.groups,
                "smallest_harm": harmful.minimum,
                "rows_tested": harmful.tested,
                "false_discovery_rate": FALSE_DISCOVERIES,
                "flips": heads.name,
            },
        )


def _judge(judge: Judge) -> dict[str, object]:
    fusion = judge.fusion
    noise = {"alike": round(fusion.alike.noise.rate, 4), "by_class": round(fusion.by_class.noise.rate, 4)}
    return {"depths": judge.depths, "noise": noise, "evidence": round(fusion.evidence, 2), "fitted_rows": fusion.rows}
