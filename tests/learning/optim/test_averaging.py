"""The moving average, against a loop by hand."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from resnet_hub.learning.optim.averaging import follow


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).to(dtype=torch.float64)


def test_the_average_begins_as_the_net_and_follows_it():
    live = net()
    averaged = AveragedModel(live)
    expected = None
    for step in range(4):
        for parameter in live.parameters():
            nn.init.normal_(parameter)
        live(torch.randn(5, 2, 3, 3, dtype=torch.float64))
        follow(averaged, live, decay=0.75, good=torch.tensor(True))
        now = {name: tensor.clone() for name, tensor in live.state_dict().items()}
        means = {n: 0.75 * expected[n] + 0.25 * t if expected else t for n, t in now.items()}
        expected = {**means, "1.num_batches_tracked": torch.tensor(step + 1)}
        for name, tensor in averaged.module.state_dict().items():
            torch.testing.assert_close(tensor, expected[name])
    assert int(averaged.n_averaged) == 4


@pytest.mark.parametrize("updates", [0, 1, 2])
def test_a_step_that_is_not_good_leaves_the_average_and_its_beginning_alone(updates: int):
    live = net()
    averaged = AveragedModel(live)
    for good in [True] * updates + [False]:
        nn.init.normal_(live[0].weight)
        before = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
        follow(averaged, live, decay=0.9, good=torch.tensor(good))
    for name, tensor in averaged.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    nn.init.normal_(live[0].weight)
    follow(averaged, live, decay=0.9, good=torch.tensor(True))
    same = torch.allclose(averaged.module[0].weight, live[0].weight)
    assert same == (updates == 0)
