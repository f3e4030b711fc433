"""Messages: printable whatever is in them, and with the nearest name."""

import os

import pytest

from resnet_hub import errors
from resnet_hub.errors import ResNetHubError, did_you_mean, printable

KINDS = [kind for kind in vars(errors).values() if type(kind) is type]


@pytest.mark.parametrize("text", ["", "a b", "café", "鳥 🐦", "a\\nb", "'\""])
def test_what_is_printable_stays(text: str):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\r\t", r"a\nb\r\t"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x7f\x9b31m", r"\x7f\x9b31m"),
        ("abc\u202edcba", r"abc\u202edcba"),
        ("\u2028", r"\u2028"),
        ("\U000e0041", r"\U000e0041"),
        (os.fsdecode(b"caf\xe9.pth"), r"caf\udce9.pth"),
        ("鳥\n", r"鳥\n"),
    ],
)
def test_what_is_not_is_escaped_as_python_writes_it(text: str, expected: str):
    assert printable(text) == expected
    assert printable(text).encode().decode().isprintable()
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_is_one_printable_line(kind: type[ResNetHubError]):
    message = str(kind("x\x1b]0;title\x07\ny: " + os.fsdecode(b"\xff")))
    assert message == r"x\x1b]0;title\x07\ny: \udcff"


def test_the_nearest_name_is_offered_where_one_is_near():
    assert did_you_mean("resnet5O", ["resnet18", "resnet50"]) == "; did you mean 'resnet50'?"
    assert did_you_mean("vgg", ["resnet18", "resnet50"]) == ""
