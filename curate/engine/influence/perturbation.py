"""Perturbation influence: how the influence of a training row moves with its input (Koh & Liang 2017, 2.2).

With u = (C + λI)⁻¹ g_t the influence of row i on t is (1/n) u · (gᵢ - ḡ), and its gradient in the input xᵢ is
(1/n) ∇ₓ (u · ∇_θ lᵢ): their eq. 5, its sign turned and over n. C and ḡ, which hold one n-th of the row, are kept as
they are. Knows derivatives only; leaves rows and solves to `curate.experiments.perturb`.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from curate.engine.curvature.objective import Objective


def perturbation(
    objective: Objective, x: Float[Tensor, "..."], label: int, direction: Float[Tensor, " p"], n: int
) -> Float[Tensor, "..."]:
    """∂ influence / ∂ x of one training row, nats per unit of the network's input; of the shape of ``x``.

    Positive: more of this input makes the row help t more (or harm it less).
    """
    parameters = {name: objective.module.get_parameter(name).detach() for name in objective.names}
    tangent = objective.unflatten(direction)
    target = torch.tensor([label], device=x.device)

    def along(row: Tensor) -> Tensor:
        def loss(values: dict[str, Tensor]) -> Tensor:
            return objective.loss.losses(objective.logits(values, row[None]), target).sum()

        gradient = grad(loss)(parameters)
        return torch.stack([(gradient[name] * tangent[name]).sum() for name in gradient]).sum()

    found: Tensor = grad(along)(x) / n
    return found.detach()
