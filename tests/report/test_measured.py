"""What a page shows of a net's answers."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_hub.data.digits import Digits
from resnet_hub.evaluation.collected import Logits
from resnet_hub.report.measured import (
    calibration_section,
    confusion_section,
    examples_section,
    measured,
)


@pytest.fixture(scope="module")
def data() -> Digits:
    return Digits().open()


@pytest.fixture(scope="module")
def answered(data: Digits) -> Logits:
    """Right but for three images: 7 taken for 1 with more and more confidence, the first least."""
    labels = data.split("test").targets
    values = 4.0 * torch.nn.functional.one_hot(labels, 10).float()
    sevens = (labels == 7).nonzero().flatten()[:3]
    for number, place in enumerate(sevens.tolist()):
        values[place, 1] = 6.0 + number
    return Logits(values, labels, torch.arange(len(labels)), 100.0, "1 × cpu", from_cache=False)


def test_mistakes_are_the_most_confident_ones_and_show_the_images_themselves(data, answered):
    found = measured(answered, data)
    assert [(e.true, e.given) for e in found.wrong] == [("7", "1")] * 3
    confidences = [example.probability for example in found.wrong]
    assert confidences == sorted(confidences, reverse=True)
    last = (answered.labels == 7).nonzero().flatten()[2]
    kind, _, content = found.wrong[0].image.partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        shown = torch.from_numpy(np.array(picture))
    assert torch.equal(shown, data.split("test").images[last, 0])


def test_examples_are_told_at_the_nets_own_temperature(data, answered):
    found = measured(answered, data, temperature=2.0)
    before = measured(answered, data).wrong[0].probability
    assert found.wrong[0].probability < before
    logits = answered.values[answered.labels != answered.values.argmax(1)].double()
    assert found.wrong[0].probability == pytest.approx(float((logits / 2).softmax(1).max()))
    assert "temperature, 2." in examples_section(found).note
    assert "temperature" not in examples_section(measured(answered, data)).note


def test_right_answers_are_right_and_drawn_alike_each_time(data, answered):
    one, two = measured(answered, data), measured(answered, data)
    assert one.right == two.right
    assert len(one.right) == 12
    assert all(example.true == example.given for example in one.right)
    assert len({example.true for example in one.right}) > 3


def test_classes_are_listed_by_their_errors_and_mistakes_by_their_number(data, answered):
    facts = confusion_section(measured(answered, data)).facts
    assert facts["pairs"] == [
        {"true": "7", "given": "1", "count": 3, "of": int((answered.labels == 7).sum())}
    ]
    assert facts["classes"][0].name == "7"
    cells = facts["rows"][7]["cells"]
    assert (cells[1]["count"], cells[1]["kind"], cells[7]["kind"]) == (3, "wrong", "right")
    assert sum(cell["share"] for cell in cells) == pytest.approx(100)


def test_calibration_stands_before_and_after_the_temperature(data, answered):
    section = calibration_section(measured(answered, data))
    (before, _), (after, _) = section.facts["rows"]
    assert before == "as they are"
    assert after.startswith("divided by ")
    assert "fitted on the tested images themselves" in section.note
    assert len(section.facts["charts"]) == 2
