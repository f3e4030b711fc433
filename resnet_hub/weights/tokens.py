"""Keeping a person's Hub token out of every log line and message."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def hidden_token() -> Iterator[None]:
    """Put ``***`` for the token in whatever is logged inside the block, by anyone, at any level.

    A server may echo it, and HTTP libraries log what servers say.
    """
    from huggingface_hub import get_token

    token, before = get_token(), logging.getLogRecordFactory()

    def scrubbed(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = before(*arguments, **named)
        if token and token in (message := record.getMessage()):
            record.msg, record.args = message.replace(token, "***"), ()
        return record

    logging.setLogRecordFactory(scrubbed)
    try:
        yield
    finally:
        if logging.getLogRecordFactory() is scrubbed:  # else one of another thread needs this one
            logging.setLogRecordFactory(before)


def without_token(text: str) -> str:
    """Return text with ``***`` for every token that this process knows of."""
    tokens = {os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}
    if "huggingface_hub" in sys.modules:  # else nobody has read the login's
        with suppress(Exception):  # a client that HF_ENDPOINT keeps from loading, for one
            from huggingface_hub import get_token

            tokens.add(get_token())
    for token in filter(None, tokens):
        text = text.replace(token.strip() or token, "***")
    return text
