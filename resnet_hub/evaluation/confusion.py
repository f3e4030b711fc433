"""The confusion matrix as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from resnet_hub.figures import panels, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 20  # classes whose names, and counts, can be read


def draw_confusion(confusion: Tensor, classes: Sequence[str], *, title: str) -> "Figure":
    """Return a picture of which classes were answered for which, by share of each class's images.

    Args:
        confusion: int64 ``(K, K)``: images of class (row) answered by class (column).
        classes: Names, in order.
        title: What it is of.
    """
    shares = confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)
    figure, (axes,) = panels()
    shown = axes.imshow(100 * shares.numpy(), cmap="cividis", vmin=0, vmax=100)
    figure.colorbar(shown, ax=axes, label="share of the class's images, %", shrink=0.8)
    axes.set(xlabel="answer", ylabel="class")
    axes.set_title(plain(title), fontsize=9)
    if len(classes) <= _NAMED:
        numbers = range(len(classes))
        short = [name if len(name) <= _NAMED else f"{name[: _NAMED - 1]}…" for name in classes]
        names = [plain(name) for name in short]
        axes.set_xticks(numbers, names, rotation=90, fontsize=7)
        axes.set_yticks(numbers, names, fontsize=7)
        for row, column in confusion.nonzero().tolist():
            colour = "black" if shares[row, column] > 0.5 else "white"
            count = f"{int(confusion[row, column])}"
            axes.text(column, row, count, ha="center", va="center", fontsize=6, color=colour)
    return figure
