"""Writing a recipe in which each value says why it is what it is."""

from collections.abc import Sequence
from dataclasses import fields
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import yaml

from resnet_hub.errors import printable
from resnet_hub.learning.settings import Recipe

if TYPE_CHECKING:
    from resnet_hub.learning.finetuning import Choice

_COLUMN, _WIDTH = 32, 100
"""Where comments begin, and where a line ends."""


def commented(opening: Sequence[str], choices: "Sequence[Choice]") -> str:
    """Return a recipe's text.

    Args:
        opening: Lines of the opening comment, without their marks.
        choices: Its keys; sections come in the order that recipes have them in.
    """
    lines = [printable(f"# {line}".rstrip()) for line in opening]
    for section in (field.name for field in fields(Recipe)):
        own = [choice for choice in choices if choice.key.partition(".")[0] == section]
        if own and own[0].key != section:
            lines.append(f"{section}:")
        for choice in own:
            name = choice.key.partition(".")[2]
            text = (
                f"  {name}: {_flow(choice.value)}" if name else f"{section}: {_flow(choice.value)}"
            )
            lines += _beside(text, choice.why)
    return "\n".join(lines) + "\n"


def _beside(text: str, why: str) -> list[str]:
    """Return a line with its comment behind it, in as many lines as that needs."""
    if not why:
        return [text]
    column = max(_COLUMN, len(text) + 2)
    if column > _WIDTH // 2:  # no room is left beside it
        return [*(f"  # {line}" for line in wrap(printable(why), _WIDTH - 4)), text]
    first, *more = wrap(printable(why), _WIDTH - column - 2)
    return [f"{text:{column}}# {first}", *(f"{'':{column}}# {line}" for line in more)]


def _flow(value: Any) -> str:
    """Return a value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 30)
    return text.removesuffix("\n").removesuffix("\n...")
