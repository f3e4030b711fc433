"""Runs as their folders would hold them, of numbers that are easy to follow."""

from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_hub.learning.settings import Recipe
from resnet_hub.report.runs import Trained

Make = Callable[..., Trained]


@pytest.fixture
def trained() -> Make:
    """Make a run of four steps in two epochs, its test error 50 and 25 %, and higher by ``by``."""

    def make(
        name: str = "run", *, by: float = 0.0, times: bool = True, **settings: dict
    ) -> Trained:
        content = Recipe().to_dict()
        content["net"]["name"] = "cifar_resnet20"
        for section, values in settings.items():
            content[section] = (
                {**content[section], **values} if isinstance(values, dict) else values
            )
        rows: list[dict[str, float]] = []
        for step, loss in enumerate((2.0, 1.5, 1.0, 0.5)):
            row = {"epoch": float(step // 2), "step": float(step), "lr": 0.1, "train/loss": loss}
            row |= {"images_per_s": 100.0, "data_wait": 0.25}
            if times:
                row["seconds"] = 10.0 * (step + 1)
            if step % 2:
                share = 0.5 if step == 1 else 0.75
                row |= {"train/epoch_loss": loss + 0.25, "train/top1": share - 0.25}
                row |= {"test/loss": loss, "test/top1": share - by}
            rows.append(row)
        return Trained(Path(name), Recipe.from_dict(content), rows)

    return make
