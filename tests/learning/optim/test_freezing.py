"""Layers that do not learn, and that learn again after some epochs."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small_runs import checkpoint, command, fit, refusal
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting, UnknownName
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.optim.freezing import Freezing
from resnet_hub.learning.saving.checkpoints import FolderCheckpoints
from resnet_hub.learning.settings import FreezingSettings, ModelSettings, OptimizerSettings
from resnet_hub.nets.resnet import ResNet


def small_net() -> ResNet:
    torch.set_num_threads(1)  # on so small images threads wait longer than they work
    torch.manual_seed(0)
    return ResNet("cifar_resnet20", in_channels=1)


def idle() -> L.Trainer:
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


class States(Callback):
    """Keeps the classifier's state before each epoch, and what had a gradient in it."""

    def __init__(self) -> None:
        self.before: list[dict[str, Tensor]] = []
        self.moved: list[set[str]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: Classifier) -> None:
        self.before.append(state(module))

    def on_train_batch_end(self, trainer: L.Trainer, module: Classifier, *_: Any) -> None:
        self.last = state(module)
        names = {name for name, p in module.net.named_parameters() if p.grad is not None}
        self.moved[trainer.current_epoch :] = [names]


def state(module: Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(one: dict[str, Tensor], two: dict[str, Tensor], prefix: str = "net.") -> set[str]:
    """Names of the net's tensors of which a bit differs."""

    def bits(tensor: Tensor) -> Tensor:
        return tensor.flatten().view(torch.uint8)

    return {
        name.removeprefix(prefix)
        for name, tensor in one.items()
        if name.startswith(prefix) and not torch.equal(bits(tensor), bits(two[name]))
    }


def train(
    freezing: FreezingSettings,
    *,
    optimizer: str = "sgd",
    epochs: int = 1,
    net: ResNet | None = None,
) -> tuple[Classifier, States, L.Trainer]:
    states = States()
    classifier = Classifier(
        net or small_net(),
        model=ModelSettings(ema_decay=0.5),
        optimizer=OptimizerSettings(name=optimizer, lr=0.01, weight_decay=0.1),
        freezing=freezing,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_train_batches=2,
        limit_val_batches=1,
        num_sanity_val_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[states],
        plugins=[FolderCheckpoints()],
    )
    data = Digits(DataSettings(name="Digits", batch_size=32, pad=1), seed=3)
    trainer.fit(classifier, data)
    return classifier, states, trainer


def of(net: ResNet, *layers: str) -> set[str]:
    """Names of all tensors of some layers."""
    return {name for name in net.state_dict() if name.startswith(layers)}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_frozen_layers_keep_every_bit_until_they_are_thawed(optimizer: str):
    freezing = FreezingSettings(freeze=("all_but_head",), thaw=((1, "layer3.2"), (2, "layer3")))
    module, states, trainer = train(freezing, optimizer=optimizer, epochs=3)
    net = module.net
    learning = [of(net, "fc"), of(net, "fc", "layer3.2"), of(net, "fc", "layer3")]
    snapshots = [*states.before, states.last]
    for epoch, names in enumerate(learning):
        one, two = snapshots[epoch : epoch + 2]
        assert changed(one, two) == names
        assert changed(one, two, "averaged.module.") == names
        assert states.moved[epoch] == names & {name for name, _ in net.named_parameters()}
    weights = dict(net.named_parameters())
    kept = {name for name, weight in weights.items() if weight in trainer.optimizers[0].state}
    assert kept == learning[-1] & weights.keys()
    if optimizer != "sgd":
        counts = {"fc.bias": 6, "layer3.2.bn1.bias": 4, "layer3.0.conv1.weight": 2}
        for name, count in counts.items():
            assert float(trainer.optimizers[0].state[weights[name]]["step"]) == count


@pytest.mark.parametrize(
    ("norms", "moving"),
    [
        ("trained", {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}),
        ("statistics", {"running_mean", "running_var", "num_batches_tracked"}),
        ("frozen", set()),
    ],
)
def test_of_norms_that_all_layers_have_the_recipe_says_what_moves(norms: str, moving: set[str]):
    module, states, _ = train(FreezingSettings(norms=norms))
    moved = changed(states.before[0], states.last)
    norm = {name for name in moved if ".bn" in name or name.startswith("bn")}
    assert {name.rpartition(".")[2] for name in norm} == moving
    assert len(norm) == 19 * len(moving)  # every norm of the net
    assert moved - norm == {n for n in module.net.state_dict() if "conv" in n or "fc" in n}


def test_the_statistics_of_frozen_layers_follow_the_data_where_the_recipe_says_so():
    freezing = FreezingSettings(freeze=("stem", "layer1"), norms="statistics")
    _, states, _ = train(freezing)
    moved = changed(states.before[0], states.last)
    assert {"bn1.running_mean", "layer1.2.bn2.num_batches_tracked"} <= moved
    frozen = {name for name in moved if name.startswith(("conv1", "bn1", "layer1"))}
    kinds = {name.rpartition(".")[2] for name in frozen}
    assert kinds == {"running_mean", "running_var", "num_batches_tracked"}


def test_frozen_norms_normalise_by_their_statistics_whatever_mode_the_net_is_put_in():
    net = small_net()
    net(torch.randn(8, 1, 8, 8))  # statistics of their own
    images = torch.randn(4, 1, 8, 8)
    expected = net.eval()(images)
    freezing = Freezing(net.train(), FreezingSettings(norms="frozen"))
    freezing.begin(idle(), 0)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for mode in (True, False, True):
        net.train(mode)
        assert net.training is mode
        assert torch.equal(net(images), expected)
    assert not changed(before, net.state_dict(), "")


def test_thawed_norms_are_in_training_again():
    net, trainer = small_net(), idle()
    freezing = Freezing(net, FreezingSettings(freeze=("stem", "layer2"), thaw=((3, "layer2"),)))

    def in_training() -> set[str]:
        return {n for n, m in net.named_modules() if isinstance(m, _BatchNorm) and m.training}

    every = in_training()
    assert len(every) == 19
    frozen = {name for name in every if name.startswith(("bn1", "layer2"))}
    for epoch in (0, 1, 2):
        freezing.begin(trainer, epoch)
        assert in_training() == every - frozen
    freezing.begin(trainer, 3)
    assert in_training() == every - {"bn1"}


def test_a_copy_is_told_which_norms_stay_still_in_an_epoch():
    net = small_net()
    copy = deepcopy(net)
    freezing = Freezing(net, FreezingSettings(freeze=("stem", "layer2"), thaw=((3, "layer2"),)))
    assert freezing.still_norms(copy, 3) == {copy.bn1}
    assert len(freezing.still_norms(copy, 2)) == 1 + 6
    for norms, count in (("frozen", 19), ("statistics", 0)):
        assert len(Freezing(net, FreezingSettings(norms=norms)).still_norms(copy, 0)) == count


def test_what_was_frozen_by_hand_stays_so():
    net = small_net()
    net.layer1.requires_grad_(False)
    _, states, _ = train(FreezingSettings(), net=net)
    assert not {name for name in states.moved[0] if name.startswith("layer1")}
    assert "conv1.weight" in states.moved[0]


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"freeze": ("stam",)}, UnknownName, r"freezing.freeze: .* 'stam'; did you mean 'stem'\?"),
        ({"freeze": ("layer1.3",)}, UnknownName, r"no layer 'layer1.3'; did you mean 'layer1.\d'"),
        (
            {"freeze": ("stem",), "thaw": ((1, "layer"),)},
            UnknownName,
            r"freezing.thaw: the net has no layer 'layer'; did you mean 'layer\d",
        ),
        ({"freeze": ("all",)}, InvalidSetting, "freezing.freeze: nothing is left to learn"),
        ({"freeze": ("all_but_head", "head")}, InvalidSetting, "nothing is left to learn"),
        (
            {"freeze": ("stem",), "thaw": ((1, "layer1"),)},
            InvalidSetting,
            "freezing.thaw: layer1 is not frozen",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_the_layer(
    settings: dict[str, Any], kind: type[Exception], message: str
):
    with pytest.raises(kind, match=message):
        Freezing(small_net(), FreezingSettings(**settings))


@pytest.mark.parametrize("entry", [(1,), ("layer1", 1), (0, "layer1"), (1, "layer1", 2)])
def test_what_is_thawed_is_given_as_epochs_and_a_layer(entry: tuple[Any, ...]):
    with pytest.raises(InvalidSetting, match=r"freezing\.thaw: "):
        FreezingSettings(freeze=("layer1",), thaw=(entry,))


def test_synchronised_norms_cannot_be_frozen_though_their_scales_can():
    net, trainer = small_net(), idle()
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    Freezing(synchronised, FreezingSettings(freeze=("stem",), norms="statistics")).begin(trainer, 0)
    assert not synchronised.bn1.weight.requires_grad
    with pytest.raises(
        InvalidSetting, match=r"a SyncBatchNorm cannot be frozen; leave trainer.sync"
    ):
        Freezing(synchronised, FreezingSettings(freeze=("stem",))).begin(trainer, 0)


def test_a_checkpoint_says_what_was_frozen(tmp_path: Path):
    freezing = FreezingSettings(freeze=("stem",), thaw=((2, "stem"),), norms="frozen")
    _, _, trainer = train(freezing)
    trainer.save_checkpoint(tmp_path / "checkpoint")
    found = Classifier.load_from_checkpoint(tmp_path / "checkpoint")
    assert found.recipe.freezing == freezing


def test_a_run_may_go_on_with_other_layers_frozen_if_that_is_allowed(tmp_path: Path, capsys):
    short = ("--trainer.limit_train_batches=2", "--trainer.max_epochs=1")
    run = fit(tmp_path / "run", *short, "--freezing.freeze=all_but_head")
    before = checkpoint(run)["state_dict"]
    recipe = run / "recipe.yaml"
    text = recipe.read_text().replace("max_epochs: 1", "max_epochs: 2")
    recipe.write_text(text.replace("freeze: all_but_head", "freeze: [stem]"))
    assert "freezing.freeze: 'all_but_head' before" in refusal(capsys, "fit", "--resume", run)
    assert command("fit", "--resume", run, "--allow-changed") == 0
    moved = changed(before, checkpoint(run)["state_dict"])
    assert "layer1.0.conv1.weight" in moved
    assert not {"conv1.weight", "bn1.running_mean", "bn1.num_batches_tracked"} & moved
