"""The one LightningModule, under Lightning's own Trainer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from resnet_hub.data.batches import Batch
from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import Diverged, InvalidSetting, UnknownName
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.reporting.progress import outline
from resnet_hub.learning.saving.checkpoints import FolderCheckpoints
from resnet_hub.learning.settings import ModelSettings, OptimizerSettings, ScheduleSettings
from resnet_hub.nets.resnet import ResNet


class Memory(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    name = "memory"
    version = 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any) -> None:
        pass

    def column(self, name: str) -> dict[int, float]:
        return {step: row[name] for step, row in self.rows if name in row}


class Losses(Callback):
    """Keeps each batch's training loss."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.values.append(float(arguments[2]["loss"]))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # on so small images threads wait longer than they work


def digits(**settings: Any) -> Digits:
    return Digits(DataSettings(name="Digits", **{"batch_size": 32, "pad": 1, **settings}), seed=3)


def net(**how: Any) -> ResNet:
    torch.manual_seed(0)
    return ResNet("cifar_resnet20", in_channels=1, **how)


def held_out(data: Digits) -> tuple[Tensor, Tensor]:
    """The validation split: uint8 images and labels."""
    batches = list(data.val_dataloader())
    return torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])


def trainer(**options: Any) -> L.Trainer:
    own = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "limit_train_batches": 4,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "use_distributed_sampler": False,
    }
    return L.Trainer(**{**own, **options})


def test_the_stock_trainer_trains_a_net_that_leaves_with_labels_and_preprocessing(tmp_path):
    data, learner = digits(), net()
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    L.Trainer(
        max_epochs=1,
        limit_train_batches=2,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
        use_distributed_sampler=False,
    ).fit(Classifier(learner), data)
    assert learner.labels == tuple("0123456789")
    assert learner.preprocess == data.preprocess
    after = learner.state_dict()
    assert all(not torch.equal(before[n], after[n]) for n in ("conv1.weight", "fc.bias"))
    learner.save_pretrained(tmp_path / "model")
    again = ResNet.from_pretrained(tmp_path / "model")
    assert again.labels == learner.labels
    images, _ = held_out(data)
    one, two = again(again.preprocess(images)), learner.eval()(data.preprocess(images))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)  # their tensors lie differently


def test_a_rows_name_is_a_fresh_net():
    assert Classifier("cifar_plain20").net.architecture.form == "plain"
    with pytest.raises(UnknownName, match="did you mean 'resnet50'"):
        Classifier("resnet51")


def test_the_loss_is_logged_as_the_mean_since_the_last_log_at_every_nth_step_of_all_epochs():
    memory, losses = Memory(), Losses()
    trainer(
        max_epochs=3, limit_train_batches=5, log_every_n_steps=3, logger=memory, callbacks=[losses]
    ).fit(Classifier(net()), digits())
    means = {  # the window ends with the epoch: steps 5 to 9 are the second
        2: losses.values[0:3],
        5: losses.values[5:6],
        8: losses.values[6:9],
        11: losses.values[10:12],
        14: losses.values[12:15],
    }
    logged = memory.column("train/loss")
    assert list(logged) == list(means)
    for step, window in means.items():
        assert logged[step] == pytest.approx(sum(window) / len(window), rel=1e-6)


def test_each_optimizer_step_is_logged_with_its_own_learning_rate():
    memory = Memory()
    schedule = ScheduleSettings(name="onecycle", warmup=1, warmup_factor=0.5)
    classifier = Classifier(net(), optimizer=OptimizerSettings(lr=0.2), schedule=schedule)
    trainer(max_epochs=2, log_every_n_steps=1, logger=memory).fit(classifier, digits())
    rates = [0.1, 0.125, 0.15, 0.175, 0.2, 0.15, 0.1, 0.05]  # up over 4 steps, down over 4
    assert memory.column("lr") == pytest.approx(dict(enumerate(rates)))


def test_accumulated_batches_are_one_step_of_the_schedule_and_one_row():
    memory, losses = Memory(), Losses()
    classifier = Classifier(net(), schedule=ScheduleSettings(name="cosine"))
    trainer(
        limit_train_batches=5,  # the last step of the epoch has one batch alone
        accumulate_grad_batches=2,
        log_every_n_steps=1,
        logger=memory,
        callbacks=[losses],
    ).fit(classifier, digits())
    one, two, three, four, five = (2 * loss for loss in losses.values)  # Lightning halves them
    logged = [(one + two) / 2, (three + four) / 2, five]
    assert memory.column("train/loss") == pytest.approx(dict(enumerate(logged)))
    assert memory.column("lr") == pytest.approx({0: 0.1, 1: 0.075, 2: 0.025})


def test_logging_can_be_turned_off():
    memory = Memory()
    trainer(log_every_n_steps=0, logger=memory).fit(Classifier(net()), digits())
    assert memory.column("train/loss") == {}
    assert set(memory.column("val/top1")) == set(memory.column("train/top1")) == {3}


def test_the_epochs_training_scores_are_of_every_image_of_the_epoch():
    memory, losses, answers = Memory(), Losses(), []
    classifier = Classifier(net())

    def note(module: nn.Module, inputs: Any, logits: Tensor) -> None:
        if module.training:
            answers.append(logits.argmax(1))

    labels: list[Tensor] = []

    class Labels(Callback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            labels.append(arguments[2].labels)

    classifier.net.register_forward_hook(note)
    trainer(logger=memory, callbacks=[losses, Labels()]).fit(classifier, digits())
    right = (torch.cat(answers) == torch.cat(labels)).float().mean()
    assert memory.column("train/top1") == {3: pytest.approx(float(right))}
    assert memory.column("train/epoch_loss") == {3: pytest.approx(sum(losses.values) / 4)}


def test_validation_is_named_and_measured_on_the_held_out_images():
    memory, data = Memory(), digits()
    classifier = Classifier(net())
    trainer(logger=memory).fit(classifier, data)
    images, labels = held_out(data)
    with torch.inference_mode():
        logits = classifier.net.eval()(data.preprocess(images))
    loss = float(F.cross_entropy(logits, labels))
    top1 = float((logits.argmax(1) == labels).float().mean())
    assert memory.column("val/loss") == {3: pytest.approx(loss, rel=1e-4)}
    assert memory.column("val/top1") == {3: pytest.approx(top1)}
    assert {name for _, row in memory.rows for name in row if "/" in name} == {
        *("train/loss", "train/epoch_loss", "train/top1", "train/top5"),
        *("val/loss", "val/top1", "val/top5", "val/n"),
    }


def test_without_held_out_images_the_curves_are_named_for_the_test_split():
    memory = Memory()
    trainer(logger=memory).fit(Classifier(net()), digits(held_out=0))
    assert set(memory.column("test/top1")) == {3}
    assert not memory.column("val/top1")


def test_label_smoothing_is_the_training_losss_alone():
    batch = Batch(*_inputs(), keys=torch.arange(8))
    classifier = Classifier(net(), model=ModelSettings(label_smoothing=0.3))
    classifier.trainer = trainer(log_every_n_steps=0)
    loss = classifier.training_step(batch, 0)
    logits = classifier.net(batch.images)
    target = F.one_hot(batch.labels, 10) * 0.7 + 0.03  # 1512.00567 §7
    expected = -(target * logits.log_softmax(1)).sum(1).mean().detach()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    classifier.validation_step(batch, 0)
    plain = F.cross_entropy(logits.detach(), batch.labels)
    assert float(classifier.scores.compute()["loss"]) == pytest.approx(float(plain), rel=1e-5)


class Averages(Callback):
    """Follows the live net by hand: an exponential average of everything but step counters."""

    def __init__(self, decay: float, every: int) -> None:
        self.decay, self.every, self.state = decay, every, None

    def on_train_batch_end(self, *arguments: Any) -> None:
        module, batch_idx = arguments[1], arguments[4]
        if batch_idx % self.every:
            return
        live = {name: tensor.clone() for name, tensor in module.net.state_dict().items()}
        if self.state is None:
            self.state = live
            return
        for name, tensor in self.state.items():
            if tensor.is_floating_point():
                tensor.mul_(self.decay).add_(live[name], alpha=1 - self.decay)


@pytest.mark.parametrize("every", [1, 3])
def test_the_moving_average_is_what_a_loop_by_hand_gives(every: int):
    by_hand = Averages(0.8, every)
    classifier = Classifier(net(), model=ModelSettings(ema_decay=0.8, ema_every=every))
    trainer(limit_train_batches=7, callbacks=[by_hand]).fit(classifier, digits())
    found, live = classifier.finished.state_dict(), classifier.net.state_dict()
    for name, tensor in by_hand.state.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
            assert not torch.equal(found[name], live[name]), name


def test_the_averaged_net_is_what_is_validated_and_the_live_ones_scores_stand_beside():
    memory, data = Memory(), digits()
    classifier = Classifier(net(), model=ModelSettings(ema_decay=0.7))
    trainer(logger=memory, limit_train_batches=12).fit(classifier, data)
    images, labels = held_out(data)
    for module, name in ((classifier.finished, "val/loss"), (classifier.net, "val/live_loss")):
        with torch.inference_mode():
            logits = module.eval()(data.preprocess(images))
        loss = float(F.cross_entropy(logits, labels))
        assert memory.column(name) == {11: pytest.approx(loss, rel=1e-4)}
    assert memory.column("val/loss") != memory.column("val/live_loss")
    assert set(memory.column("val/live_top1")) == {11}
    some = data.preprocess(images[:5])
    assert torch.equal(classifier(some), classifier.finished(some))
    assert classifier.finished.labels == tuple("0123456789")


def test_the_average_is_never_trained():
    classifier = Classifier(net(), model=ModelSettings(ema_decay=0.9))
    fitting = trainer()
    fitting.fit(classifier, digits())
    assert not any(p.requires_grad for p in classifier.averaged.parameters())
    trained = {id(p) for group in fitting.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in classifier.net.parameters()}


def test_bf16_mixed_trains_in_bfloat16_and_keeps_float32_weights():
    kinds = set()

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        kinds.add(output.dtype)

    classifier, memory = Classifier(net()), Memory()
    classifier.net.layer1[0].register_forward_hook(note)
    trainer(precision="bf16-mixed", logger=memory).fit(classifier, digits())
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in classifier.net.parameters()} == {torch.float32}
    assert 0 < memory.column("val/loss")[3] < 100


@pytest.mark.parametrize("asked", [True, False])
def test_channels_last_is_kept_from_the_batch_to_the_last_stage(asked: bool):
    layouts = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        layouts.extend(
            x.is_contiguous(memory_format=torch.channels_last) for x in (*inputs, output)
        )
        layouts.append(not output.is_contiguous())

    settings = ModelSettings(channels_last=asked, ema_decay=0.9)
    classifier = Classifier(net(), model=settings)
    # The second stage: with one channel, or a 1×1 map, both layouts are the same.
    for own in (classifier.net, classifier.finished):
        own.layer2[1].conv1.register_forward_hook(note)
    trainer(limit_val_batches=1).fit(classifier, digits())
    assert set(layouts) == {asked}
    weight = classifier.net.layer2[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is asked


def test_another_number_of_classes_is_refused_before_any_step():
    with pytest.raises(InvalidSetting, match="net: 11 classes, but Digits has 10"):
        trainer().fit(Classifier(net(classes=11)), digits())


def test_a_net_for_other_classes_is_refused_though_their_number_is_the_same():
    other = net(classes=10)
    other.labels = ("zero", *"123456789")
    with pytest.raises(InvalidSetting, match="its class 0 is 'zero', but Digits's is '0'; from_pr"):
        trainer().fit(Classifier(other), digits())
    assert other.labels[0] == "zero"


def test_weights_that_are_finite_no_more_end_the_training_before_they_are_kept(tmp_path: Path):
    kept = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    mad = {"name": "multistep", "milestones": (1,), "gamma": 1e30}

    class Validated(Callback):
        def on_validation_epoch_end(self, trainer: L.Trainer, module: Classifier) -> None:
            seen.append(trainer.current_epoch)

    seen: list[int] = []
    fitting = trainer(max_epochs=5, enable_checkpointing=True, callbacks=[kept, Validated()])
    with pytest.raises(
        Diverged, match=r"^step 6 \(epoch 2\): loss, gradients or statistics not finite, at lea"
    ):
        fitting.fit(Classifier(net(), schedule=ScheduleSettings(**mad)), digits())
    assert seen == [0]
    assert [path.name for path in tmp_path.iterdir()] == ["epoch=0.ckpt"]


def test_another_number_of_image_channels_is_refused_before_any_step():
    with pytest.raises(InvalidSetting, match="takes 3 image channels, but Digits has 1; give in_"):
        trainer().fit(Classifier("cifar_resnet20"), digits())


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_data_of_others_cannot_be_trained_on():
    loader = DataLoader([(torch.zeros(1, 8, 8), 0)])
    with pytest.raises(InvalidSetting, match="needs a data module of this package"):
        trainer().fit(Classifier(net()), loader)


def test_the_outline_says_what_is_about_to_happen():
    lines = []

    class Ask(Callback):
        def on_train_start(self, trainer: L.Trainer, module: Classifier) -> None:
            lines.append(outline(trainer, module))

    optimizer = OptimizerSettings(lr=0.2, scaled=True)
    trainer(accumulate_grad_batches=2, callbacks=[Ask()]).fit(
        Classifier(net(), optimizer=optimizer), digits()
    )
    (line,) = lines
    for part in ("cifar_resnet20", "269,434 parameters", "64 images a step", "2 steps an epoch"):
        assert part in line
    assert line.endswith("effective learning rate 0.05")


def test_what_is_left_to_torchs_generator_is_keyed_by_seed_epoch_and_batch():
    def draws(seed: int) -> list[int]:
        found = []

        class Draw(Callback):
            def on_train_batch_end(self, *arguments: Any) -> None:
                found.append(int(torch.randint(1 << 40, ())))

        torch.manual_seed(len(found))  # where the stream stood before is of no account
        classifier = Classifier(net(), seed=seed)
        trainer(max_epochs=2, limit_train_batches=2, callbacks=[Draw()]).fit(classifier, digits())
        return found

    one = draws(1)
    assert len(set(one)) == 4
    assert draws(1) == one
    assert not set(draws(2)) & set(one)


def test_stochastic_depth_depends_on_each_samples_key():
    seen = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training:
            seen.append(inputs[1])

    classifier, data = Classifier(net(stochastic_depth=0.3)), digits()
    classifier.net.register_forward_pre_hook(note)
    trainer(limit_train_batches=1, limit_val_batches=0).fit(classifier, data)
    (keys,) = seen
    (batch,) = [next(iter(data.train_dataloader()))]
    assert torch.equal(keys, batch.keys)


def test_a_checkpoint_says_what_net_it_holds(tmp_path):
    classifier, fitting = Classifier(net()), trainer()
    fitting.fit(classifier, digits())
    fitting.save_checkpoint(tmp_path / "c.ckpt")
    described = torch.load(tmp_path / "c.ckpt", weights_only=True)["net"]
    assert described["architecture"] == classifier.net.architecture.to_dict()
    assert described["preprocess"] == classifier.net.preprocess.to_dict()
    assert described["labels"] == list("0123456789")


def test_testing_counts_each_image_once_and_says_how_many():
    classifier = Classifier(net())
    (values,) = trainer().test(classifier, digits(batch_size=100), verbose=False)
    assert values["test/n"] == 360
    assert set(values) == {"test/loss", "test/top1", "test/top5", "test/n"}


def test_a_rank_without_images_scores_its_empty_batch():
    classifier = Classifier(net().eval())
    empty = Batch(torch.zeros(0, 1, 8, 8), *(torch.zeros(0, dtype=torch.int64) for _ in range(3)))
    classifier.test_step(empty, 0)
    assert int(classifier.scores.compute()["n"]) == 0


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(10, (8,), generator=generator)
    return torch.randn(8, 1, 8, 8, generator=generator), labels, torch.arange(8)


@pytest.mark.parametrize("first", ["validate", "test"])
def test_a_net_may_be_scored_before_it_is_trained(first: str):
    module, data = Classifier(net()), digits()
    getattr(trainer(), first)(module, data, verbose=False)
    trainer().fit(module, data)
    getattr(trainer(), first)(module, data, verbose=False)
    trainer().fit(module, data)


def test_what_plain_lightning_saves_by_our_plugin_is_the_same_classifier_again(tmp_path: Path):
    settings = {"model": ModelSettings(ema_decay=0.5, label_smoothing=0.2)}
    module = Classifier(net(), **settings, optimizer=OptimizerSettings(lr=0.5), seed=3)
    fitting = trainer(plugins=[FolderCheckpoints()])
    fitting.fit(module, digits())
    fitting.save_checkpoint(tmp_path / "checkpoint")
    found = Classifier.load_from_checkpoint(tmp_path / "checkpoint")
    assert (found.recipe.model, found.recipe.optimizer) == (
        module.recipe.model,
        module.recipe.optimizer,
    )
    assert found.recipe.seed == 3
    for name, tensor in module.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    elsewhere = Classifier.load_from_checkpoint(tmp_path / "checkpoint", map_location="meta")
    assert elsewhere.device.type == "meta"
