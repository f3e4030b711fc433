"""Steps whose numbers are not finite: undone on the device at once, told to the host later."""

import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from resnet_hub.errors import Diverged
from resnet_hub.learning.optim.optimizers import rate_in_force

LOOK_EVERY = 50
"""Optimizer steps between two looks of the host at what became of them."""

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_NAMED = 64  # samples that a message lists; of a step of thousands it counts the others
_REMEDY = "lower optimizer.lr, warm up for longer, or look at these samples"

_log = logging.getLogger("resnet_hub")

_Name = tuple[int, str]


class _Part(NamedTuple):
    """One batch of a step: its samples' indices, and whether loss and statistics are finite."""

    indices: Tensor
    finite: Tensor


class _Step(NamedTuple):
    """One optimizer step: ``number`` and ``epoch`` count from 1, ``finite`` is on the device."""

    number: int
    epoch: int
    lr: float
    parts: list[_Part]
    finite: Tensor


class Guard:
    """Keeps steps that are not finite out of everything that training has learnt.

    A step is finite if the loss and the running statistics of each of its batches are, and the norm
    of its gradients is. A loss that is not makes the gradients NaN, and these are averaged over the
    ranks before the norm is taken: so all ranks judge alike, without a word between them.

    What is not finite is put back on the device, with no synchronisation. Where the device is the
    host itself, which knows at once, the optimizer is left no gradients instead: it then moves
    nothing, and no weight need be copied. The host looks at every 50th step, and whenever training
    is saved or validated: nothing is saved on a step that stops the run. Called in the order of the
    methods; see :class:`~.classifier.Classifier`.

    Attributes:
        skipped: Steps of the run that were left out.

    Args:
        policy: ``stop`` ends the run, ``skip`` goes on.
        most: Steps of a run that ``skip`` leaves out before it ends the run as well.
    """

    def __init__(self, policy: Literal["stop", "skip"], most: int) -> None:
        self.policy, self.most = policy, most
        self.skipped = 0
        self._steps: list[_Step] = []
        self._parts: list[_Part] = []
        self._moved: list[Tensor] = []  # what forward passes move
        self._before: list[Tensor] = []
        self._learnt: dict[_Name, Tensor] = {}
        self._finite = torch.tensor(True)

    def begin(self, moved: Iterable[Tensor]) -> None:
        """Before a batch: note what forward passes move, once a step."""
        if not self._parts:
            self._moved = list(moved)
            self._before = copies(self._moved)

    def watch(self, loss: Tensor, indices: Tensor) -> Tensor:
        """After a batch's forward pass: return the loss, one that makes gradients NaN if bad.

        Args:
            loss: Scalar, with its graph.
            indices: int64 ``(N,)``, the samples' numbers in their split.
        """
        numbers = [loss.detach(), *(t for t in self._moved if t.is_floating_point())]
        finite = _all_finite(numbers, norm=torch.inf)  # of large ones squares are not
        self._parts.append(_Part(indices, finite))
        if at_hand(finite) and finite:
            return loss
        return loss * torch.where(finite, 1.0, torch.nan)

    def judge(self, optimizer: torch.optim.Optimizer) -> None:
        """Before an optimizer step, on unscaled gradients of all ranks: is it finite?"""
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        self._finite = _all_finite([p.grad for p in weights if p.grad is not None])
        if not at_hand(self._finite):
            learnt = _learnt(optimizer)
            self._learnt = dict(zip(learnt, copies(learnt.values()), strict=True))
        elif not self._finite:
            for weight in weights:
                weight.grad = None

    def settle(self, optimizer: torch.optim.Optimizer, *, step: int, epoch: int) -> Tensor:
        """After an optimizer step: put everything back where the step was not finite.

        Args:
            optimizer: The optimizer.
            step: The step's number in the run, from 1.
            epoch: Its epoch, from 1.

        Returns:
            Whether the step was finite, a scalar bool on the device.
        """
        if not at_hand(self._finite):
            learnt, before = _learnt(optimizer), self._learnt
            # State that the first step makes begins as zeros: SGD and Adam go on from them alike.
            new = learnt.keys() - before.keys()
            before |= {name: torch.zeros_like(learnt[name]) for name in new}
            now, then = [*learnt.values()], [before[name] for name in learnt]
            put_back([*self._moved, *now], [*self._before, *then], self._finite)
        elif not self._finite:
            put_back(self._moved, self._before, self._finite)
        lr = rate_in_force(optimizer)
        self._steps.append(_Step(step, epoch, lr, self._parts, self._finite))
        self._parts, self._moved, self._before, self._learnt = [], [], [], {}
        return self._finite

    @property
    def due(self) -> bool:
        """Whether as many steps were taken as the host may not know of."""
        return len(self._steps) >= LOOK_EVERY

    def look(self, scaler: Any = None) -> None:
        """Learn what became of the steps since the last look; the one synchronisation.

        Args:
            scaler: The gradients' scaler of ``16-mixed``, if any. Steps that overflowed are its way
                of finding the scale, and no fault until the scale is below 1.

        Raises:
            Diverged: A step was not finite, under ``stop``; more of them than allowed, under
                ``skip``.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        finite = torch.stack([step.finite for step in steps]).tolist()
        bad = [step for step, good in zip(steps, finite, strict=True) if not good]
        if bad and scaler is not None and scaler.get_scale() >= 1:
            return
        for step in bad:
            self.skipped += 1
            line = _described(step)
            if self.policy == "stop":
                raise Diverged(f"{line}; {_REMEDY}; model.nonfinite: skip leaves such steps out")
            if self.skipped > self.most:
                raise Diverged(f"{line}; more than model.most_nonfinite, {self.most}; {_REMEDY}")
            _report(f"{line}; left out (model.nonfinite: skip)")


def check_weights(net: nn.Module, *, epoch: int) -> None:
    """Check that no finite step has driven the weights, the same on every rank, to infinity.

    Raises:
        Diverged: One has; ``epoch``, from 1, is named.
    """
    if not bool(_all_finite(list(net.parameters()))):
        raise Diverged(
            f"epoch {epoch}: the training diverged, the weights are finite no more; lower "
            "optimizer.lr, or warm up for longer"
        )


@torch.no_grad()
def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return copies, laid out in memory as the tensors are."""
    own = list(tensors)
    made = [torch.empty_like(tensor) for tensor in own]
    if own:
        torch._foreach_copy_(made, own)
    return made


@torch.no_grad()
def put_back(tensors: Sequence[Tensor], before: Sequence[Tensor], good: Tensor) -> None:
    """Make tensors what they were before unless ``good``, in place, exactly, without a branch.

    Their bits are taken as integers, of which before + good · (now − before) is one or the other,
    whatever number, or none, they stand for.

    Args:
        tensors: Any dtypes and shapes.
        before: As many, of the same.
        good: Scalar bool on the tensors' device.
    """
    for size, bits in _BITS.items():
        pairs = [(t, b) for t, b in zip(tensors, before, strict=True) if t.element_size() == size]
        if pairs:
            now, then = ([t.detach().view(bits) for t in side] for side in zip(*pairs, strict=True))
            torch._foreach_sub_(now, then)
            torch._foreach_mul_(now, good.to(bits))
            torch._foreach_add_(now, then)


def at_hand(answer: Tensor) -> bool:
    """Whether the host may read a tensor without waiting for a device."""
    return answer.is_cpu


@torch.no_grad()
def _all_finite(tensors: list[Tensor], *, norm: float = 2.0) -> Tensor:
    if tensors and tensors[0].is_cpu:  # each call costs more there than the numbers of a norm layer
        vectors = [tensor for tensor in tensors if tensor.dim() == 1]
        parts = [torch.cat(vectors), *(t for t in tensors if t.dim() != 1)] if vectors else tensors
        norms = torch.stack(torch._foreach_norm(parts, norm))
        total: Tensor = torch.linalg.vector_norm(norms, norm)
        return total.isfinite()
    return get_total_norm(tensors, norm).isfinite()


def _learnt(optimizer: torch.optim.Optimizer) -> dict[_Name, Tensor]:
    """Return what an optimizer may move, each under a name of its own: weights, and their state."""
    found: dict[_Name, Tensor] = {}
    for group in optimizer.param_groups:
        for weight in filter(_learns, group["params"]):
            state = {"": weight, **optimizer.state.get(weight, {})}
            found |= {(id(weight), k): t for k, t in state.items() if isinstance(t, Tensor)}
    return found


def _learns(weight: Tensor) -> bool:
    return weight.requires_grad  # of what is frozen no copy is needed


@rank_zero_only
def _report(line: str) -> None:
    _log.warning("%s", line)


def _described(step: _Step) -> str:
    samples = _samples(step)
    named = ", ".join(map(str, samples[:_NAMED]))
    more = f" and {len(samples) - _NAMED:,} more" if len(samples) > _NAMED else ""
    return (
        f"step {step.number:,} (epoch {step.epoch}): loss, gradients or statistics not finite, "
        f"at learning rate {step.lr:g}, on training samples {named}{more}"
    )


def _samples(step: _Step) -> list[int]:
    """Return the samples of every rank's first bad batch; of all batches, if none shows itself.

    Statistics that are bad stay so up to the step's end: later batches are not to blame.
    """
    batches = [part.indices.tolist() for part in step.parts]
    bad = [batch for batch, part in zip(batches, step.parts, strict=True) if not part.finite]
    found: list[tuple[list[int], list[int]]] = [(bad[0] if bad else [], list(chain(*batches)))]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        found *= torch.distributed.get_world_size()
        torch.distributed.all_gather_object(found, found[0])  # every rank has learnt the same
    blamed, every = (sorted(chain(*side)) for side in zip(*found, strict=True))
    return blamed or every
