"""Gradients clipped by the size of the weights that they move."""

import torch
from torch import Tensor, nn

from resnet_hub.learning.optim.layers import HEAD, layers

_LEAST = 1e-3
"""Norm that weights are taken to have at least, so that what begins at zero can leave it."""


@torch.no_grad()
def clip_adaptively(net: nn.Module, factor: float) -> None:
    """Shorten each unit's gradient to ``factor`` times its weights' norm (2102.06171 §4.1).

    A unit is what makes one output: a convolution's filter, a row of a matrix; a vector (a bias, a
    norm's scales) is one as a whole. The classifier is left out, as there.

    Args:
        net: Whose gradients, unscaled and averaged over ranks, are shortened in place.
        factor: The paper's λ.
    """
    own = [module for name, modules in layers(net).items() if name != HEAD for module in modules]
    weights = [p for module in own for p in module.parameters() if p.grad is not None]
    grads = [p.grad for p in weights if p.grad is not None]
    if not grads:
        return
    bounds = [_norm(weight) for weight in weights]
    torch._foreach_clamp_min_(bounds, _LEAST)
    torch._foreach_mul_(bounds, factor)
    torch._foreach_div_(bounds, [_norm(grad) for grad in grads])
    torch._foreach_clamp_max_(bounds, 1.0)
    torch._foreach_mul_(grads, bounds)


def _norm(tensor: Tensor) -> Tensor:
    """Return the norm of a vector, or of each row of what has more dimensions, ``(N, 1, …)``."""
    dims = tuple(range(1, tensor.ndim)) or None
    norm: Tensor = torch.linalg.vector_norm(tensor, dim=dims, keepdim=True)
    return norm
