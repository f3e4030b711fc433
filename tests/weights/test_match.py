"""Every difference between tensors and a net is named, and nothing is loaded by halves."""

import pytest
import torch

from resnet_hub.errors import WeightsMismatch
from resnet_hub.weights.adapt import adapted_stem
from resnet_hub.weights.match import differs_along, matched

EXPECTED = {
    "conv1.weight": torch.empty(4, 3, 3, 3, device="meta"),
    "bn1.num_batches_tracked": torch.empty((), dtype=torch.int64, device="meta"),
    "fc.weight": torch.empty(10, 4, device="meta"),
    "fc.bias": torch.empty(10, device="meta"),
}


def tensors(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    plain = {
        "fc.bias": torch.randn(10),
        "fc.weight": torch.randn(10, 4),
        "conv1.weight": torch.randn(4, 3, 3, 3),
        "bn1.num_batches_tracked": torch.tensor(5),
    }
    named = {name.replace("_", ".", 1): tensor for name, tensor in changes.items()}
    return {n: t for n, t in {**plain, **named}.items() if t is not None}


def refusal(given: dict[str, torch.Tensor]) -> str:
    with pytest.raises(WeightsMismatch) as caught:
        matched(given, EXPECTED, "f.safetensors")
    message = str(caught.value)
    assert message.startswith("f.safetensors: ")
    assert "\n" not in message
    return message


def test_fitting_tensors_come_back_in_the_nets_order():
    given = tensors()
    found = matched(given, EXPECTED, "f")
    assert list(found) == list(EXPECTED)
    assert all(torch.equal(found[name], given[name]) for name in found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_cast(dtype):
    given = {name: tensor.to(dtype) for name, tensor in tensors().items()}
    found = matched(given, EXPECTED, "f")
    assert found["conv1.weight"].dtype == torch.float32
    assert torch.equal(found["conv1.weight"], given["conv1.weight"].float())
    assert found["bn1.num_batches_tracked"].dtype == torch.int64
    assert int(found["bn1.num_batches_tracked"]) == 5


def test_another_memory_layout_is_made_plain():
    weight = torch.randn(4, 3, 3, 3)
    given = tensors(conv1_weight=weight.to(memory_format=torch.channels_last))
    found = matched(given, EXPECTED, "f")["conv1.weight"]
    assert found.is_contiguous()
    assert torch.equal(found, weight)


def test_a_missing_step_counter_begins_at_zero():
    given = tensors(bn1_num_batches_tracked=None)
    counter = matched(given, EXPECTED, "f")["bn1.num_batches_tracked"]
    assert counter.dtype == torch.int64
    assert int(counter) == 0


def test_missing_unexpected_and_misshapen_tensors_are_all_named():
    given = tensors(conv1_weight=None, fc_bias=torch.zeros(3), more_weight=torch.zeros(1))
    assert refusal(given) == (
        "f.safetensors: does not fit the net (missing: conv1.weight; unexpected: more.weight; "
        "of another shape: fc.bias (3,) for (10,))"
    )


def test_of_many_differences_the_first_are_shown_and_the_rest_counted():
    given = {**tensors(), **{f"x{i}": torch.zeros(1) for i in range(20)}}
    assert "unexpected: x0, x1, x2, x3, x4, x5, x6, x7 and 12 more" in refusal(given)


@pytest.mark.fault("L6")
def test_another_class_count_is_one_short_sentence():
    given = tensors(fc_weight=torch.zeros(7, 4), fc_bias=torch.zeros(7))
    assert refusal(given) == (
        "f.safetensors: 7 classes in the file, 10 asked; pass classes=10 for a fresh head"
    )


@pytest.mark.parametrize(
    "head",
    [
        {"fc_weight": torch.tensor(1.0)},
        {"fc_weight": torch.zeros(7, 5), "fc_bias": torch.zeros(7)},
        {"fc_weight": torch.zeros(7, 4), "fc_bias": torch.zeros(8)},
        {"fc_bias": torch.zeros(7)},
        {"fc_weight": torch.tensor(1.0), "fc_bias": torch.tensor(1.0)},
    ],
)
def test_a_head_that_differs_otherwise_is_named_by_its_shapes(head):
    assert "of another shape: fc." in refusal(tensors(**head))


@pytest.mark.parametrize(
    "kind",
    [
        lambda t: t.int(),
        lambda t: t.bool(),
        lambda t: t.to(torch.complex64),
        lambda t: t.to_sparse(),
    ],
    ids=["int", "bool", "complex", "sparse"],
)
def test_what_holds_no_plain_floating_numbers_is_named(kind):
    given = tensors(conv1_weight=kind(torch.randn(4, 3, 3, 3)))
    assert "no plain floating numbers: conv1.weight (torch." in refusal(given)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "int"),
        (None, "NoneType"),
        ([0.5], "list"),
        (torch.empty(4, 3, 3, 3, device="meta"), "without its numbers"),
        (torch.zeros(1).expand(4, 3, 3, 3), "108 numbers expanded from fewer"),
        (torch.zeros(20).as_strided((4, 3, 3, 3), (1, 1, 1, 1)), "108 numbers expanded from fewer"),
    ],
)
def test_whatever_stands_in_the_place_of_a_tensor_is_named_by_what_it_is(value, words):
    given = {**tensors(), "conv1.weight": value}
    assert f"no plain floating numbers: conv1.weight ({words})" in refusal(given)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_tensor_is_no_plain_one(layout):
    nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)], layout=layout)
    assert "no plain floating numbers: fc.weight (" in refusal({**tensors(), "fc.weight": nested})


def test_an_expanded_tensor_of_any_size_is_refused_before_it_is_copied():
    expected = {"fc.weight": torch.empty(10**9, 10**5, device="meta")}
    with pytest.raises(WeightsMismatch, match="100,000,000,000,000 numbers expanded from fewer"):
        matched({"fc.weight": torch.zeros(1, 1).expand(10**9, 10**5)}, expected, "f")


def test_a_part_of_a_larger_tensor_is_plain():
    weight = torch.randn(9, 3, 3, 3)
    found = matched(tensors(conv1_weight=weight[3:7]), EXPECTED, "f")
    assert torch.equal(found["conv1.weight"], weight[3:7])


def test_names_give_a_terminal_no_commands():
    message = refusal({**tensors(), "x\x1b[2J\n\u202e": torch.zeros(1)})
    assert r"unexpected: x\x1b[2J\n\u202e" in message


@pytest.mark.parametrize("old", [1, 3, 4])
@pytest.mark.parametrize("new", [1, 2, 3, 4, 6, 7])
def test_equal_channels_give_the_response_they_gave(old, new):
    weight = torch.randn(5, old, 3, 3)
    grey = torch.randn(2, 1, 8, 8)
    adapted = adapted_stem(weight, new)
    assert adapted.shape == (5, new, 3, 3)
    respond = torch.nn.functional.conv2d
    expected = respond(grey.expand(2, old, 8, 8), weight)
    found = respond(grey.expand(2, new, 8, 8), adapted)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_twice_the_channels_repeat_the_old_ones_at_half_weight():
    weight = torch.randn(5, 3, 3, 3)
    torch.testing.assert_close(adapted_stem(weight, 6), torch.cat([weight, weight], 1) / 2)


def test_half_precision_is_summed_in_single_precision():
    weight = torch.tensor([2048.0, 1.0, 0.0]).view(1, 3, 1, 1).half()
    assert adapted_stem(weight, 1).item() == 2049  # in half precision 2048 + 1 is 2048


@pytest.mark.parametrize(
    ("shape", "differs"),
    [((7, 4), True), ((10, 4), False), ((10, 5), False), ((7, 5), False), ((7,), False)],
)
def test_only_another_length_along_the_axis_counts(shape, differs):
    assert differs_along(0, torch.zeros(shape), EXPECTED["fc.weight"]) is differs
    assert not differs_along(0, None, EXPECTED["fc.weight"])
    assert not differs_along(0, torch.zeros(0, 4), EXPECTED["fc.weight"])
