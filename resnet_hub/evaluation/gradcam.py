"""Where in a picture a net finds what speaks for a class: Grad-CAM (1610.02391 §3)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.errors import BadData, Diverged, InvalidSetting, UnknownName, did_you_mean
from resnet_hub.nets.resnet import ResNet

Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class GradCam:
    """What :func:`gradcam` found of a batch.

    Attributes:
        maps: float32 ``(N, h, w)``, at least 0: how much each place of the layer speaks for the
            class, in logits a unit of the mean map. Zero all over where nothing does.
        classes: int64 ``(N,)``, the class that each map is of.
        logits: float32 ``(N, classes)``, as the net gives them without any of this.
    """

    maps: Tensor
    classes: Tensor
    logits: Tensor


def gradcam(
    net: ResNet, images: Tensor, *, classes: Tensor | None = None, layer: str | None = None
) -> GradCam:
    """Return Grad-CAM maps: a layer's channels, weighed by the logit's mean gradient, rectified.

    The logit is taken before the softmax, as the paper does. At the last stage, which the
    classifier pools, the weights are the classifier's own over h·w: 1512.04150's class activation
    map.

    Args:
        net: The net; in evaluation mode afterwards. Nothing else of it changes, its gradients
            included.
        images: float ``(N, in_channels, H, W)``, preprocessed, on the net's device.
        classes: int64 ``(N,)``; by default each image's likeliest class.
        layer: The stage whose output is looked at, ``layer1`` to ``layer4``; by default the last,
            whose places see most of the image. Earlier stages are finer, and know less of classes.

    Raises:
        UnknownName: The net has no such stage.
        InvalidSetting: A class that it does not have, or not one for each image.
        Diverged: It gives numbers that are not finite.
    """
    stages = {f"layer{number}": f"C{number + 1}" for number in range(1, len(net.stages) + 1)}
    layer = layer or list(stages)[-1]
    if layer not in stages:
        hint = did_you_mean(layer, stages) or f"; it has {', '.join(stages)}"
        raise UnknownName(f"layer: the net has no stage {layer!r}{hint}")
    net.eval()
    with torch.enable_grad():
        # The images take part, lest a net whose weights are all frozen leave nothing to derive by.
        maps = net.features(images.detach().requires_grad_())
        last = list(maps.values())[-1]
        logits = net.fc(torch.flatten(net.avgpool(last), 1))
        chosen = _chosen(logits, classes)
        picked = logits.gather(1, chosen[:, None]).sum()  # no image's logit knows of another image
        (gradient,) = torch.autograd.grad(picked, maps[stages[layer]])
    with torch.no_grad():
        weights = gradient.mean((2, 3), keepdim=True)
        found = F.relu((weights * maps[stages[layer]]).sum(1)).float()
    if not (found.isfinite().all() and logits.isfinite().all()):
        raise Diverged(
            "net: gives numbers that are not finite: its weights are not, or lead to such; export "
            "an earlier checkpoint"
        )
    return GradCam(found, chosen, logits.detach().float())


def placed(found: Tensor, window: Window, *, height: int, width: int) -> Tensor:
    """Return a map spread over the picture that it was computed of, bilinearly.

    Args:
        found: float ``(h, w)``; it covers the window.
        window: Left, top, right and bottom of what the net saw, in the picture's pixels.
        height: Of the picture.
        width: Of the picture.

    Returns:
        float32 ``(height, width)``; NaN where the net saw nothing of the picture.

    Raises:
        BadData: A window without area.
    """
    left, top, right, bottom = window
    if right <= left or bottom <= top:
        raise BadData(f"gradcam: the window {window} has no area")
    # The middles of the picture's pixels, on a scale where the window is -1 to 1.
    across = (torch.arange(width) + 0.5 - left) / (right - left) * 2 - 1
    down = (torch.arange(height) + 0.5 - top) / (bottom - top) * 2 - 1
    places = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)
    spread = F.grid_sample(
        found[None, None].float().cpu(), places[None], padding_mode="border", align_corners=False
    )[0, 0]
    return spread.where((places.abs() <= 1).all(-1), torch.nan)


def _chosen(logits: Tensor, classes: Tensor | None) -> Tensor:
    if classes is None:
        return logits.argmax(1)
    if classes.shape != logits.shape[:1]:
        raise InvalidSetting(
            f"classes: {tuple(classes.shape)} are not one for each of {len(logits)} images"
        )
    if not ((classes >= 0) & (classes < logits.shape[1])).all():
        raise InvalidSetting(f"classes: not all are 0 to {logits.shape[1] - 1}")
    return classes.to(logits.device)
