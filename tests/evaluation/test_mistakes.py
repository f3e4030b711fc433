"""The mistakes that a net is most sure of: which they are, and that each is drawn."""

import pytest
import torch
from matplotlib.image import AxesImage
from reference_nets import fill

from resnet_hub.data.batches import Selection
from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting
from resnet_hub.evaluation.collected import Logits
from resnet_hub.evaluation.mistakes import Mistake, draw_mistakes, mistakes_of
from resnet_hub.nets.resnet import ResNet


def digits(net: ResNet) -> Digits:
    data = Digits(DataSettings(), preprocess=net.preprocess)
    data.open()
    return data


def own_net() -> ResNet:
    return fill(ResNet("cifar_resnet20", classes=10, in_channels=1))


def test_the_most_confident_come_first_and_right_answers_never():
    logits = torch.tensor([[5.0, 0, 0], [0, 2, 0], [0, 9, 0], [0, 2, 0], [0, 0, 4]]).log_softmax(1)
    labels, numbers = torch.tensor([0, 0, 2, 2, 2]), torch.tensor([40, 30, 20, 10, 0])
    found = mistakes_of(Logits(logits, labels, numbers, None, "1 × cpu", from_cache=False))
    assert [mistake.index for mistake in found] == [20, 10, 30]  # of two alike the lower number
    first = found[0]
    assert (first.label, first.given) == (2, 1)
    assert first.probability == pytest.approx(float(logits[2].exp()[1]))
    assert first.own == pytest.approx(float(logits[2].exp()[2]))


def test_a_temperature_divides_the_logits_and_may_change_who_comes_first():
    logits = torch.tensor([[4.0, 3.0, -9.0], [3.0, 1.6, 1.6]])
    answered = Logits(logits, torch.tensor([1, 1]), torch.tensor([0, 1]), None, "", False)
    assert [mistake.index for mistake in mistakes_of(answered)] == [0, 1]
    cold = mistakes_of(answered, 0.25)
    assert [mistake.index for mistake in cold] == [1, 0]
    assert cold[1].probability == pytest.approx(float((logits[0] * 4).softmax(0)[0]))


@pytest.mark.parametrize("count", [1, 5, 16])
def test_each_mistake_is_drawn_once_with_both_classes(count: int):
    net = own_net()
    data = digits(net)
    found = [Mistake(7 * n, n % 10, (n + 1) % 10, 0.9, 0.01) for n in range(count)]
    figure = draw_mistakes(found, data)
    drawn = [axes for axes in figure.axes if axes.get_images()]
    assert len(drawn) == count
    split = data.split("test").as_evaluated(data.preprocess)
    for axes, mistake in zip(drawn, found, strict=True):
        assert axes.get_title(loc="left") == f"90.00% {mistake.given}\nis: {mistake.label}"
        (image,) = axes.get_images()
        assert isinstance(image, AxesImage)
        pixels = split[Selection(0, torch.tensor([mistake.index]))].images[0, 0]
        shown = torch.as_tensor(image.get_array()[..., 0].copy())
        side = shown.shape[0] // pixels.shape[0]
        assert torch.equal(shown[::side, ::side], pixels)


def test_explained_mistakes_stand_beside_their_heat():
    net = own_net()
    data = digits(net)
    found = [Mistake(n, 0, 1, 0.9, 0.01) for n in range(3)]
    plain, hot = draw_mistakes(found, data), draw_mistakes(found, data, explained_by=net)
    for own, other in zip(plain.axes, hot.axes, strict=False):
        if own.get_images():
            one, both = (axes.get_images()[0].get_array() for axes in (own, other))
            assert both.shape[1] > 2 * one.shape[1]
            assert (both[:, : one.shape[1]] == one).all()
            assert (both[:, -one.shape[1] :] != one).any()


def test_names_are_no_formulas_and_are_kept_short(tmp_path):
    net = own_net()
    data = digits(net)
    data.labels[1], data.labels[0] = "$x^$", "a" * 40
    figure = draw_mistakes([Mistake(0, 0, 1, 0.9, 0.01)], data)
    figure.savefig(tmp_path / "a.png")
    assert figure.axes[0].get_title(loc="left") == f"90.00% \\$x^\\$\nis: {'a' * 21}…"


def test_nothing_is_no_picture():
    net = own_net()
    with pytest.raises(InvalidSetting, match="none to be drawn"):
        draw_mistakes([], digits(net))
