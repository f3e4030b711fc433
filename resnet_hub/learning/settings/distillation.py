"""Which teacher a recipe's net learns from beside the labels."""

from dataclasses import dataclass

from resnet_hub.learning.settings.checks import check_above, check_share


@dataclass(frozen=True, kw_only=True)
class DistillationSettings:
    """The ``distillation:`` section: a teacher's answers as further targets (1503.02531 §2).

    Attributes:
        teacher: Whatever ``from_pretrained`` takes: a published name, a model folder, a Hub
            repository, a URL with its digest; ``None`` has no teacher.
        temperature: Divides both nets' logits; a higher one shows more of the small probabilities.
        alpha: Weight of the teacher's part, in [0, 1]; the labels' loss has the rest.
    """

    teacher: str | None = None
    temperature: float = 1.0
    alpha: float = 0.5

    def __post_init__(self) -> None:
        check_above("distillation.temperature", self.temperature, 0)
        check_share("distillation.alpha", self.alpha)
