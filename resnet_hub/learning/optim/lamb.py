"""LAMB: Adam's step, layer by layer made as long as the layer's weights are (1904.00962)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


class Lamb(torch.optim.Optimizer):
    """LAMB as 1904.00962 Algorithm 2 has it, in the form that trained 2110.00476's nets.

    That form, NVIDIA's and timm's, first shortens all gradients together to a norm of at most
    ``max_grad_norm``, corrects both moments' bias, adds the decay to Adam's step before that is
    measured, and leaves tensors that do not decay (norms and biases, as a rule) at Adam's length.

    All of it stays on the device, step counters included, so that a step can be undone there.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay rates of the gradient's and its square's running means.
        eps: Added to the root of the latter.
        weight_decay: Coefficient; 0 also turns the adaptation off.
        max_grad_norm: Norm of all gradients together that they are shortened to.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ) -> None:
        values = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**values, "max_grad_norm": max_grad_norm})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return what ``closure``, which makes the gradients, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moved = [[p for p in g["params"] if p.grad is not None] for g in self.param_groups]
        norm = get_total_norm([grad for weights in moved for grad in _gradients(weights)])
        for group, weights in zip(self.param_groups, moved, strict=True):
            if weights:
                excess = (norm / group["max_grad_norm"]).clamp(min=1.0)
                self._update(group, weights, excess)
        return loss

    def _update(self, group: dict[str, Any], weights: list[Tensor], excess: Tensor) -> None:
        steps, means, squares = self._moments(weights)
        grads = torch._foreach_div(_gradients(weights), excess)
        torch._foreach_add_(steps, 1.0)
        for moment, beta, power in zip((means, squares), group["betas"], (1, 2), strict=True):
            torch._foreach_mul_(moment, beta)
            added = grads if power == 1 else torch._foreach_mul(grads, grads)
            torch._foreach_add_(moment, added, alpha=1 - beta)
        mean_bias, square_bias = (_unbiased(steps, beta) for beta in group["betas"])
        updates = torch._foreach_div(means, mean_bias)
        roots = torch._foreach_div(squares, square_bias)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_div_(updates, roots)
        if group["weight_decay"]:
            torch._foreach_add_(updates, weights, alpha=group["weight_decay"])
            torch._foreach_mul_(updates, _trust_ratios(weights, updates))
        torch._foreach_add_(weights, updates, alpha=-group["lr"])

    def _moments(self, weights: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros((), device=weight.device)
                state["exp_avg"] = torch.zeros_like(weight)
                state["exp_avg_sq"] = torch.zeros_like(weight)
        states = [self.state[weight] for weight in weights]
        steps, means, squares = (
            [state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        return steps, means, squares


def _gradients(weights: list[Tensor]) -> list[Tensor]:
    return [weight.grad for weight in weights if weight.grad is not None]


def _unbiased(steps: list[Tensor], beta: float) -> tuple[Tensor, ...]:
    """Return 1 − βᵗ of each counter t, as exactly near 0, where a difference would lose digits."""
    powers = torch._foreach_mul(steps, math.log(beta) if beta else -math.inf)
    torch._foreach_expm1_(powers)
    torch._foreach_neg_(powers)
    return powers


def _trust_ratios(weights: list[Tensor], updates: tuple[Tensor, ...]) -> list[Tensor]:
    """Return ‖w‖ / ‖update‖ of each tensor, 1 where either is zero."""
    pairs = zip(torch._foreach_norm(weights), torch._foreach_norm(updates), strict=True)
    return [torch.where((w > 0) & (u > 0), w / u, 1.0) for w, u in pairs]
