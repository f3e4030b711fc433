"""A callback, to be named in recipes, that looks at a run's folder as each epoch begins."""

import json
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback


class Look(Callback):
    """Writes ``seen.json``: the rows of metrics.csv and the size of curves.png, epoch by epoch.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: str) -> None:
        self.run, self.seen = Path(run), []

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            rows, picture = self.run / "metrics.csv", self.run / "curves.png"
            count = len(rows.read_text().splitlines()) - 1 if rows.exists() else 0
            size = picture.stat().st_size if picture.exists() else 0
            self.seen.append({"rows": count, "picture": size})
            (self.run / "seen.json").write_text(json.dumps(self.seen))
