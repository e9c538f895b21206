"""The damping λ of influence through a network, where none is asked for.

At a minimum with a known L2 penalty that penalty is the damping, and influence is the derivative of a refit. Elsewhere
a small λ blows up directions that training has not come to decide (Bae et al. 2022): with more of it, what influence
calls harmful does more harm by refits (`tests/bench/damping.py`). It is then the smallest that plain LiSSA solves.
"""

import torch

from curate.engine.curvature.ekfac import LEAST_DAMPING
from curate.engine.curvature.operator import Sampled
from curate.engine.influence.minimum import Gradient
from curate.engine.passes import pieces
from curate.engine.solvers.lissa import LiSSA


def default_damping(operator: Sampled, gradient: Gradient, seed: int, penalty: float = 0.0) -> float:
    """λ for a curvature and the mean gradient there; ``penalty``: an L2 penalty that is known otherwise."""
    known = max(penalty, gradient.known_penalty)
    return max(tenth_of_mean(operator, seed), known if known > 0 else LiSSA(seed=seed).reach(operator))


def tenth_of_mean(operator: Sampled, seed: int) -> float:
    """A tenth of the mean eigenvalue (of a Hessian's Gauss-Newton part), its trace estimated on 512 rows."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(operator.n, generator=generator)[:512]
    parts = pieces(rows, operator.passes.budget.chunk // operator.p)
    squares = torch.cat([operator.factor(part, generator).square().sum(1) for part in parts])
    found = 0.1 * float(squares.mean()) / operator.p
    return found if found > 0 else LEAST_DAMPING
