"""What of a recipe's net does not learn, and until when."""

from dataclasses import dataclass
from typing import Literal

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings.checks import check_at_least


@dataclass(frozen=True, kw_only=True)
class FreezingSettings:
    """The ``freezing:`` section.

    Layers are named ``stem``, ``layer1`` (a stage), ``layer1.0`` (a unit of it), ``head``; ``all``
    are all, ``all_but_head`` all but the classifier. What is frozen gets no gradient, momentum or
    decay, and its norms normalise by their running statistics, which stay.

    Attributes:
        freeze: What is frozen at the beginning: a list, or ``all_but_head`` alone.
        thaw: ``[epochs, layer]`` each: what learns again after so many epochs.
        norms: ``trained`` ones do as their layer does. Of ``statistics`` scale and shift never
            learn, and the running statistics follow the data, frozen layers' too (1603.04779).
            ``frozen`` ones never change, in layers that learn neither.
    """

    freeze: tuple[str, ...] | Literal["all_but_head"] = ()
    thaw: tuple[tuple[int, str], ...] = ()
    norms: Literal["trained", "statistics", "frozen"] = "trained"

    def __post_init__(self) -> None:
        for entry in self.thaw:
            if len(entry) != 2 or not isinstance(entry[0], int) or not isinstance(entry[1], str):
                raise InvalidSetting(f"freezing.thaw: {entry!r} is not [epochs, layer]")
            check_at_least("freezing.thaw", entry[0], 1)
