"""How the papers measure on ImageNet, and models measured so."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resnet_hub.data.module import open_data
from resnet_hub.data.settings import DataSettings
from resnet_hub.evaluation.cached import logits
from resnet_hub.evaluation.summary import answers
from resnet_hub.evaluation.views import Views
from resnet_hub.nets.resnet import ResNet
from resnet_hub.studies.published import DENSE, TEN_CROP
from resnet_hub.weights.provenance import Score


def measured(
    folder: Path, protocol: str, data: DataSettings, *, trainer: Mapping[str, Any]
) -> Score:
    """Return what a model scores on a data set by a paper's protocol; its answers are kept.

    Args:
        folder: The model's.
        protocol: :data:`~.published.TEN_CROP` or :data:`~.published.DENSE`, or one crop of the size
            at its end.
        data: The data set.
        trainer: See :func:`~resnet_hub.evaluation.cached.logits`.

    Raises:
        ResNetHubError: Model and data do not go together, or cannot be read.
    """
    net, views = ResNet.from_pretrained(folder), Views()
    if protocol == TEN_CROP:
        views = Views(kind="ten_crop")
    elif protocol == DENSE:
        views = Views(kind="dense")
    else:
        data = replace(data, eval_size=int(protocol.split()[-1]))
    opened = open_data(data, preprocess=net.preprocess)
    opened.prepare_data()
    found = logits(net, opened.open(), views, trainer=trainer)
    right = answers(found.values) == found.labels[:, None]
    n = len(right)
    return Score(
        data=opened.measured,
        top1=int(right[:, 0].sum()) / n,
        top5=int(right.any(1).sum()) / n,
        n=n,
    )
