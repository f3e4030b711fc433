"""Averages of nets: against softmax and mean in float64, and what they refuse."""

from dataclasses import replace

import pytest
import torch

from resnet_hub.errors import InvalidSetting
from resnet_hub.evaluation.collected import Logits
from resnet_hub.evaluation.ensemble import ensemble


def part(seed: int, *, pace: float | None = 100.0, from_cache: bool = True) -> Logits:
    values = torch.randn(7, 4, generator=torch.Generator().manual_seed(seed)) * 5
    return Logits(values, torch.arange(7) % 4, torch.arange(3, 10), pace, "1 × cpu", from_cache)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_probabilities_are_averaged_net_by_net(count: int):
    parts = [part(seed) for seed in range(count)]
    rows = []
    for image in range(7):
        answers = [torch.softmax(one.values[image].double(), 0) for one in parts]
        rows.append(sum(answers) / count)
    found = ensemble(parts)
    answered = found.values.double().softmax(1)
    torch.testing.assert_close(answered, torch.stack(rows), atol=1e-6, rtol=0)
    assert found.values.dtype == torch.float32
    assert torch.equal(found.labels, parts[0].labels)
    assert torch.equal(found.indices, parts[0].indices)


def test_logits_are_averaged_where_asked_and_differ():
    parts = [part(seed) for seed in range(3)]
    expected = sum(one.values.double() for one in parts) / 3
    found = ensemble(parts, average="logits")
    torch.testing.assert_close(found.values, expected.float(), atol=1e-6, rtol=1e-6)
    other = ensemble(parts).values.softmax(1)
    assert (found.values.softmax(1) - other).abs().max() > 0.01


def test_of_one_it_is_itself_and_of_equals_their_answer():
    one = part(0)
    assert ensemble([one]) is one
    found = ensemble([one, one, one]).values.softmax(1)
    torch.testing.assert_close(found, one.values.softmax(1), atol=1e-6, rtol=0)


def test_sure_answers_that_contradict_each_other_stay_finite():
    values = torch.tensor([[300.0, -300.0]])
    one = Logits(values, torch.zeros(1), torch.zeros(1), None, "1 × cpu", from_cache=True)
    found = ensemble([one, replace(one, values=-values)])
    assert found.values.softmax(1).tolist() == [[0.5, 0.5]]


def test_the_pace_is_that_of_all_passes_in_turn_and_unknown_where_one_is():
    assert ensemble([part(0, pace=100.0), part(1, pace=25.0)]).images_per_s == pytest.approx(20)
    assert ensemble([part(0), part(1, pace=None)]).images_per_s is None


def test_what_answered_is_named_once_each():
    gpu = replace(part(2), hardware="1 × a GPU")
    assert ensemble([part(0), part(1), gpu]).hardware == "1 × cpu, 1 × a GPU"


def test_it_is_from_the_cache_where_every_part_is():
    assert ensemble([part(0), part(1)]).from_cache
    assert not ensemble([part(0), part(1, from_cache=False)]).from_cache


@pytest.mark.parametrize(
    "change",
    [
        {"indices": torch.arange(4, 11)},
        {"labels": (torch.arange(7) + 1) % 4},
        {"values": torch.zeros(7, 5)},
        {
            "values": torch.zeros(6, 4),
            "labels": torch.arange(6) % 4,
            "indices": torch.arange(3, 9),
        },
    ],
    ids=["images", "labels", "classes", "fewer"],
)
def test_other_images_or_classes_are_refused_by_the_parts_number(change: dict):
    with pytest.raises(InvalidSetting, match=r"ensemble: the 3\. answered .* \(7, 4\)") as error:
        ensemble([part(0), part(1), replace(part(2), **change)])
    assert "\n" not in str(error.value)
