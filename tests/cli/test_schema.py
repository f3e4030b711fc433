"""Which keys a recipe has, and of what type their values are."""

from typing import Union, get_args

import pytest

from resnet_hub.cli.schema import choices, has_key, is_string, is_text, kind_of, trainer_options


@pytest.mark.parametrize(
    ("key", "text", "string"),
    [
        ("data.root", True, True),
        ("data.augment", True, True),
        ("data.classes", True, False),
        ("data", True, False),
        ("net.weights", True, True),
        ("trainer.strategy", True, True),
        ("trainer.max_time", True, False),
        ("trainer.devices", False, False),
        ("trainer.val_check_interval", False, False),
        ("trainer", False, False),
        ("seed", False, False),
        ("data.held_out", False, False),
        ("data.scale", False, False),
        ("data.download", False, False),
        ("callbacks", False, False),
        ("callbacks.class_path", False, False),
    ],
)
def test_what_is_text_is_known_by_its_type(key: str, text: bool, string: bool):
    parts = tuple(key.split("."))
    assert has_key(parts)
    assert (is_text(parts), is_string(parts)) == (text, string)


@pytest.mark.parametrize("key", ["out", "resume", "data.rot", "trainer.max_epoch", ""])
def test_other_keys_are_no_recipes(key: str):
    parts = tuple(key.split("."))
    assert not has_key(parts)
    assert not is_text(parts)
    assert not is_string(parts)


def test_inside_a_value_any_key_may_stand():
    assert has_key(("seed", "x"))
    assert has_key(("trainer", "max_time", "hours"))
    assert not is_text(("trainer", "max_time", "hours"))


def test_the_choices_of_an_optional_literal_are_its_strings():
    assert choices(kind_of(("net", "shortcut"))) == ["A", "B", "C", "D"]
    assert choices(kind_of(("trainer", "precision"))) == ["32-true", "bf16-mixed", "16-mixed"]
    assert choices(kind_of(("data", "root"))) == []


def test_another_librarys_union_does_not_change_what_six_is():
    assert get_args(Union[float, int, None])[0] is float  # noqa: UP007 - typing keeps this one
    trainer_options.cache_clear()
    kind_of.cache_clear()
    assert get_args(kind_of(("trainer", "limit_train_batches")))[0] is int
