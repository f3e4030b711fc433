"""Argument parsing that refuses in one line, with the nearest option."""

import argparse
import re
from typing import NoReturn

from resnet_hub.errors import InvalidSetting, did_you_mean


class Arguments(argparse.ArgumentParser):
    """argparse without abbreviations, whose refusals are one line and not a page of usage.

    Args:
        command: The command, for the help page.
        description: What it does.
    """

    def __init__(self, command: str, description: str, *, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"resnet-hub {command}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Refuse with the nearest option and where help is."""
        hint = ""
        if unknown := re.search(r"unrecognized arguments: (--[\w.-]+)", message):
            hint = did_you_mean(unknown[1], self._option_string_actions)
        raise InvalidSetting(f"{message}{hint} (see `{self.prog} --help`)")
