"""The one net class: every row of the architecture table is an instance of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub import __version__
from resnet_hub.architecture import (
    Architecture,
    Form,
    ShortcutGate,
    ShortcutOption,
    ZeroPlacement,
)
from resnet_hub.errors import InvalidSetting
from resnet_hub.labels import counted
from resnet_hub.nets.backbone import Backbone
from resnet_hub.nets.blocks import Block, build_block
from resnet_hub.nets.checkpointing import run_blocks
from resnet_hub.nets.inference.net import InferenceNet, Precision
from resnet_hub.nets.initialisation import initialise
from resnet_hub.nets.layers import BatchNorm2d
from resnet_hub.nets.stem import stem, stem_pool
from resnet_hub.nets.training import TrainingOptions
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.adapt import adapt_head, adapt_stem
from resnet_hub.weights.card import Card
from resnet_hub.weights.folder import write_model
from resnet_hub.weights.hub import read_model
from resnet_hub.weights.match import differing_names, matched
from resnet_hub.weights.provenance import Provenance
from resnet_hub.weights.sources import Source
from resnet_hub.zoo import find_row


class ResNet(TrainingOptions):
    """A residual, plain or pre-activation net.

    Tensor names are torchvision's (``conv1``, ``bn1``, ``layer1.0.conv1``, ...,
    ``layer2.0.downsample.0``, ``fc``); a pre-activation net ends in ``norm``. Convolutions begin
    by He's rule, fan-out (1502.01852 §2.2), as torchvision's do.

    Attributes:
        architecture: What the tensors and the function are.
        preprocess: What its images go through; travels with the weights.
        labels: Class names, where known.
        temperature: By which logits are to be divided before the softmax, where it was fitted;
            :meth:`forward` does not.
        stochastic_depth: Probability that the last unit's branch is left out of a training step;
            unit l of L is left out with l/L of it (1603.09382 §3). Takes effect at once when set.
        shortcut_dropout: Probability that a value of a shortcut is set to zero in a training step
            (1603.05027 §3.1). Takes effect at once when set.
        checkpoint_blocks: Units a segment whose activations are recomputed in the backward pass
            instead of kept; 0 keeps all. Takes effect at once when set.

    Args:
        name_or_architecture: A row's name, or any architecture.
        classes: Outputs, or their names; by default as many as the architecture's.
        in_channels: Image channels; by default the architecture's.
        form: Form instead of the architecture's.
        shortcut: Option A, B, C or D instead of the architecture's.
        zeros: Placement of option A's zero channels instead of the architecture's.
        shortcut_gate: Gates instead of the architecture's.
        shortcut_scale: Factor of the shortcuts instead of the architecture's.
        residual_scale: Factor of the branches instead of the architecture's.
        gate_bias: First bias of the gates; −6 where 1603.05027 Table 1 is best.
        zero_init_residual: Begin every unit as its shortcut: last norm (v1) or last convolution
            (v2) zero (1706.02677 §5.1).
        stochastic_depth: See above.
        shortcut_dropout: See above.
        checkpoint_blocks: See above.

    Raises:
        UnknownName: No such row.
        InvalidSetting: A value that no net can have.
    """

    def __init__(
        self,
        name_or_architecture: str | Architecture,
        *,
        classes: int | Sequence[str] | None = None,
        in_channels: int | None = None,
        form: Form | None = None,
        shortcut: ShortcutOption | None = None,
        zeros: ZeroPlacement | None = None,
        shortcut_gate: ShortcutGate | None = None,
        shortcut_scale: float | None = None,
        residual_scale: float | None = None,
        gate_bias: float = 0.0,
        zero_init_residual: bool = False,
        stochastic_depth: float = 0.0,
        shortcut_dropout: float = 0.0,
        checkpoint_blocks: int = 0,
    ) -> None:
        super().__init__()
        own = name_or_architecture
        if isinstance(own, str):
            own = find_row(own).architecture
        if shortcut is not None and (form or own.form) == "plain":
            raise InvalidSetting("shortcut: a plain net has none")
        count, self.labels = counted(classes)
        asked = {
            "classes": count,
            "in_channels": in_channels,
            "form": form,
            "entry": None if form in (None, "preact") else "shared",  # the others' only one
            "shortcut": shortcut,
            "zeros": zeros,
            "shortcut_gate": shortcut_gate,
            "shortcut_scale": shortcut_scale,
            "residual_scale": residual_scale,
        }
        changes: dict[str, Any] = {name: x for name, x in asked.items() if x is not None}
        self.architecture = net = replace(own, **changes)
        self.preprocess = Preprocess.default_for(net)
        self.temperature: float | None = None
        self.stochastic_depth = stochastic_depth
        self.shortcut_dropout = shortcut_dropout
        self.checkpoint_blocks = checkpoint_blocks

        self.conv1 = stem(net)
        activates = net.form != "preact" or net.entry == "shared"
        self.bn1 = BatchNorm2d(net.stem_channels[-1]) if activates else None
        self.maxpool = stem_pool(net)
        for number, units in enumerate(net.stages(), 1):
            stage = nn.Sequential(*(build_block(unit, net) for unit in units))
            self.add_module(f"layer{number}", stage)
        self.norm = BatchNorm2d(net.features) if net.form == "preact" else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(net.features, net.classes)
        initialise(
            self,
            self.blocks,
            architecture=net,
            zero_init_residual=zero_init_residual,
            gate_bias=gate_bias,
        )

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stages, ``layer1`` first."""
        count = len(self.architecture.depths)
        return [cast(nn.Sequential, getattr(self, f"layer{i + 1}")) for i in range(count)]

    @property
    def blocks(self) -> list[Block]:
        """Every unit, from the image to the classifier."""
        return [cast(Block, block) for stage in self.stages for block in stage]

    def forward(self, x: Tensor, sample_keys: Tensor | None = None) -> Tensor:
        """Return logits.

        Args:
            x: float ``(N, in_channels, H, W)``, preprocessed.
            sample_keys: int64 ``(N,)``, keys of stochastic depth's draws in training; without
                them they are drawn from torch's default generator.

        Returns:
            float ``(N, classes)``.
        """
        draws, x = self.draws(x, sample_keys), self.maxpool(self._stem(x))
        for stage, drawn in zip(self.stages, draws, strict=True):
            x = run_blocks(list(stage), x, drawn, self.checkpoint_blocks)
        logits: Tensor = self.fc(torch.flatten(self.avgpool(self._finish(x)), 1))
        return logits

    def features(self, x: Tensor, sample_keys: Tensor | None = None) -> dict[str, Tensor]:
        """Return the feature maps by name, as detectors call them.

        ``C1`` is the stem before its pooling, ``C2`` the first stage's output, and so on; the last
        is what the classifier pools (in a pre-activation net, after the last activation).

        Args:
            x: float ``(N, in_channels, H, W)``, preprocessed.
            sample_keys: As in :meth:`forward`.

        Returns:
            Maps ``(N, C, H/stride, W/stride)``; strides 2, 4, 8, 16, 32 for an ImageNet stem and
            1, 1, 2, 4 (, 8) for a CIFAR one.
        """
        draws = self.draws(x, sample_keys)
        maps = {"C1": self._stem(x)}
        x = self.maxpool(maps["C1"])
        for number, (stage, drawn) in enumerate(zip(self.stages, draws, strict=True), 2):
            x = run_blocks(list(stage), x, drawn, self.checkpoint_blocks)
            maps[f"C{number}"] = x
        maps[f"C{len(self.stages) + 1}"] = self._finish(x)
        return maps

    def backbone(
        self,
        *,
        trainable_layers: int = 3,
        freeze_norms: bool = True,
        replace_stride_with_dilation: Sequence[bool] | None = None,
    ) -> Backbone:
        """Return a copy for detectors and segmenters; :class:`Backbone` explains the options."""
        return Backbone(
            self,
            trainable_layers=trainable_layers,
            freeze_norms=freeze_norms,
            replace_stride_with_dilation=replace_stride_with_dilation,
        )

    def for_inference(self, *, precision: Precision = "32-true") -> InferenceNet:
        """Return a faster copy that cannot be trained; :class:`InferenceNet` explains it."""
        return InferenceNet(self, precision)

    def save_pretrained(self, folder: str | Path, *, provenance: Provenance | None = None) -> Card:
        """Write a model folder that :meth:`from_pretrained` reads, whole or not at all.

        Args:
            folder: Where; an earlier model folder there is replaced.
            provenance: Where the weights come from; the digest is filled in.

        Returns:
            The card as written.

        Raises:
            InvalidSetting: ``folder`` holds something that is no model folder, or layers were
                replaced by others than the architecture has.
            Diverged: A tensor holds numbers that are not finite.
            ResNetHubError: The disk refused.
        """
        with torch.device("meta"):
            own = ResNet(self.architecture)
        if changed := differing_names(self.state_dict(), own.state_dict()):
            raise InvalidSetting(
                f"{folder}: not written, {', '.join(changed[:8])} are not the architecture's; "
                "build the net with classes= or in_channels= instead of replacing layers"
            )
        card = Card(
            architecture=self.architecture,
            preprocess=self.preprocess,
            labels=self.labels,
            temperature=self.temperature,
            provenance=replace(provenance or Provenance(), version=__version__),
        )
        return write_model(folder, card, self.state_dict())

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | Source,
        *,
        classes: int | Sequence[str] | None = None,
        in_channels: int | None = None,
        fresh_head: bool = False,
        local_files_only: bool = False,
    ) -> "ResNet":
        """Return a net with verified weights, in evaluation mode, on the CPU.

        Args:
            source: A published name (``resnet50``, ``resnet50.tv_v2``), a model folder, a Hub
                repository (``org/repo``, ``hf:org/repo@revision``) or a URL with its digest
                (``https://…/model.safetensors#sha256=…``). What is cached needs no request.
            classes: Outputs, or their names; another number than the file's, or other names, gives
                a fresh head, and says so.
            in_channels: Image channels; another number than the file's adapts the first
                convolution (1 by the sum, more by repeating), and says so.
            fresh_head: Take the file's classes for others, though there are as many of them.
            local_files_only: Make no request.

        Raises:
            CorruptFile: A file is missing or damaged, or not what was asked for.
            DataMissing: Not there and not to be fetched, or no published weights.
            UnknownName: No weights are called so.
            WeightsMismatch: The tensors do not fit the card's architecture.
        """
        card, tensors, path = read_model(source, local_files_only=local_files_only)
        count, names = counted(classes)
        with torch.device("meta"):
            net = cls(card.architecture, classes=count, in_channels=in_channels)
        net.preprocess = card.preprocess.with_channels(net.architecture.in_channels)
        net.labels = names or card.labels
        net.temperature = card.temperature if net.architecture == card.architecture else None
        expected = net.state_dict()
        if in_channels is not None:
            adapt_stem(tensors, expected, str(path))
        renamed = fresh_head or bool(names and card.labels and names != card.labels)
        asked = fresh_head or count is not None
        if asked and adapt_head(tensors, expected, str(path), renamed=renamed):
            net.labels, net.temperature = names, None
        net.load_state_dict(matched(tensors, expected, str(path)), assign=True)
        return net.eval()

    def _stem(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return x if self.bn1 is None else F.relu(self.bn1(x), inplace=True)

    def _finish(self, x: Tensor) -> Tensor:
        if self.architecture.form == "relu_only_preact":
            return F.relu(x)
        return x if self.norm is None else F.relu(self.norm(x), inplace=True)
