"""Steps that are not finite: nothing learns from them, the run says which they were."""

import itertools
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from poison import Poison, learnt
from small_runs import command, refusal, start
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from resnet_hub.data.batches import Batch
from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import Diverged
from resnet_hub.learning import guards
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.guards import Guard, put_back
from resnet_hub.learning.optim.optimizers import build_optimizer
from resnet_hub.learning.settings import ModelSettings, OptimizerSettings, ScheduleSettings
from resnet_hub.nets.resnet import ResNet

pytestmark = [
    pytest.mark.fault("P3"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step"),  # the scaler skipped
]

BATCHES = 8


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # on so small images threads wait longer than they work


@pytest.fixture(params=["host", "device"])
def _judged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Judge steps on the host, as on a CPU, or as on a device, whose answers are not waited for."""
    if request.param == "device":
        monkeypatch.setattr(guards, "at_hand", lambda answer: False)


def digits() -> Digits:
    return Digits(DataSettings(name="Digits", batch_size=32, pad=1), seed=3)


def classifier(*, optimizer: str = "sgd", agc: float | None = None, **model: Any) -> Classifier:
    torch.manual_seed(0)
    return Classifier(
        ResNet("cifar_resnet20", in_channels=1),
        model=ModelSettings(**{"ema_decay": 0.8, **model}),
        optimizer=OptimizerSettings(
            name=optimizer, lr=0.1 if optimizer == "sgd" else 1e-3, agc=agc
        ),
    )


def trainer(*callbacks: Callback, **options: Any) -> L.Trainer:
    own = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "limit_train_batches": BATCHES,
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    return L.Trainer(**{**own, **options}, callbacks=list(callbacks))


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def sound(state: dict[str, Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in state.values())


class Watch(Callback):
    """Keeps what had been learnt before each batch, and after the last."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: Classifier, *_: Any) -> None:
        self.states.append(learnt(trainer, module))

    def on_train_batch_end(self, trainer: L.Trainer, module: Classifier, *_: Any) -> None:
        self.last = learnt(trainer, module)


def given(batches: list[Batch]) -> DataLoader:
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)


class Without(Digits):
    """Digits whose epoch lacks some batches of the whole one."""

    left_out: tuple[int, ...] = ()

    def train_dataloader(self) -> DataLoader:
        batches = itertools.islice(super().train_dataloader(), BATCHES)
        return given([b for number, b in enumerate(batches) if number not in self.left_out])

    def train_batches(self) -> int:
        return BATCHES - len(self.left_out)


@pytest.mark.usefixtures("_judged")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_bad_batch_changes_nothing_and_stops_the_run_by_step_rate_and_samples(
    optimizer: str, accumulated: int
):
    bad = random.randrange(BATCHES)
    step, watch, poison = bad // accumulated, Watch(), Poison([bad])
    fitting = trainer(watch, poison, accumulate_grad_batches=accumulated)
    with pytest.raises(Diverged) as stopped:
        fitting.fit(classifier(optimizer=optimizer), digits())
    states = [*watch.states[::accumulated], watch.last]
    before, after = states[step], states[step + 1]
    assert "net.bn1.running_mean" in before
    assert "averaged.module.bn1.running_var" in before
    assert "train_scores.loss" in before
    if step:
        assert "optimizer.0.momentum_buffer" in before or "optimizer.0.exp_avg_sq" in before
    for name in after.keys() - before.keys():  # what the first step makes
        assert step == 0
        assert not after[name].any(), name
    same(before, {name: after[name] for name in before})
    assert sound(watch.last)
    message = str(stopped.value)
    rate = "0.1" if optimizer == "sgd" else "0.001"
    samples = ", ".join(map(str, sorted(poison.samples[0])))
    assert message.startswith(
        f"step {step + 1} (epoch 1): loss, gradients or statistics not finite, "
        f"at learning rate {rate}, on training samples {samples}; "
    )
    assert "\n" not in message


@pytest.mark.usefixtures("_judged")
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"optimizer": "adamw"},
        {"accumulate_grad_batches": 2},
        {"precision": "bf16-mixed"},
        {"gradient_clip_val": 0.5},
        {"optimizer": "lamb"},
        {"agc": 0.01, "gradient_clip_val": 0.5},
    ],
    ids=lambda how: "-".join(map(str, how)) or "sgd",
)
def test_a_step_left_out_is_a_step_that_never_was(how: dict[str, Any], caplog):
    own = ("optimizer", "agc")
    options = {name: value for name, value in how.items() if name not in own}
    accumulated, bad = how.get("accumulate_grad_batches", 1), random.randrange(BATCHES)
    model = {**{n: how[n] for n in own if n in how}, "nonfinite": "skip"}
    watch, other, poison = Watch(), Watch(), Poison([bad])
    module = classifier(**model)
    trainer(watch, poison, **options).fit(module, digits())
    assert module.guard.skipped == 1
    data = Without(digits().settings, seed=3)
    first = bad // accumulated * accumulated
    data.left_out = tuple(range(first, first + accumulated))
    trainer(other, **options).fit(classifier(**model), data)
    same(watch.last, other.last)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "resnet_hub"]
    assert line.startswith(
        f"step {bad // accumulated + 1} (epoch 1): loss, gradients or statistics not finite"
    )
    assert line.endswith("; left out (model.nonfinite: skip)")


def test_a_run_without_a_bad_step_is_bit_for_bit_the_one_without_a_guard(monkeypatch):
    watch, bare = Watch(), Watch()
    trainer(watch).fit(classifier(), digits())
    for name in ("begin", "judge"):
        monkeypatch.setattr(Guard, name, lambda *_: None)
    monkeypatch.setattr(Guard, "watch", lambda _, loss, indices: loss)
    monkeypatch.setattr(Guard, "settle", lambda *_, **__: torch.tensor(True))
    trainer(bare).fit(classifier(), digits())
    same(watch.last, bare.last)


def test_more_bad_steps_than_allowed_end_the_run_though_they_are_skipped():
    allowed = classifier(nonfinite="skip", most_nonfinite=3)
    trainer(Poison([1, 2, 5])).fit(allowed, digits())
    assert allowed.guard.skipped == 3
    match = r"^step 7 \(epoch 1\): .*; more than model.most_nonfinite, 3; lower optimizer.lr"
    again, worse = classifier(nonfinite="skip", most_nonfinite=3), trainer(Poison([1, 2, 5, 6]))
    with pytest.raises(Diverged, match=match):
        worse.fit(again, digits())


def test_the_bound_counts_what_was_left_out_before_a_run_was_resumed(tmp_path: Path):
    saver = ModelCheckpoint(tmp_path, "{epoch}")
    trainer(Poison([1, 2]), saver).fit(classifier(nonfinite="skip"), digits())
    module = classifier(nonfinite="skip", most_nonfinite=2)
    again = trainer(Poison([BATCHES + 1]), max_epochs=2)
    with pytest.raises(Diverged, match=r"more than model\.most_nonfinite, 2"):
        again.fit(module, digits(), ckpt_path=tmp_path / "epoch=0.ckpt")


def test_the_host_learns_of_a_bad_step_within_fifty_and_saves_nothing_on_it(tmp_path: Path):
    seen = Watch()
    with pytest.raises(Diverged, match=r"^step 3 "):
        trainer(Poison([2]), seen, limit_train_batches=60, max_epochs=2).fit(
            classifier(), Repeated(digits().settings)
        )
    assert len(seen.states) == 50
    saver = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=2)
    with pytest.raises(Diverged, match=r"^step 3 "):
        trainer(Poison([2]), saver).fit(classifier(), digits())
    assert [path.name for path in tmp_path.iterdir()] == ["step=2.ckpt"]


class Repeated(Digits):
    """Digits in epochs of twice as many batches."""

    def train_dataloader(self) -> DataLoader:
        return given([*super().train_dataloader()] * 2)

    def train_batches(self) -> int:
        return 2 * super().train_batches()


def test_weights_that_a_finite_step_drives_to_infinity_are_not_saved(tmp_path: Path):
    saver = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=2)
    module = classifier()
    steep = ScheduleSettings(name="multistep", unit="iterations", milestones=(3,), gamma=1e30)
    module.recipe = replace(module.recipe, schedule=steep)
    with pytest.raises(Diverged, match="epoch 1: the training diverged, the weights are finite no"):
        trainer(saver).fit(module, digits())  # the fourth step's gradients are finite
    assert [path.name for path in tmp_path.iterdir()] == ["step=2.ckpt"]


class Plain(L.LightningModule):
    """The same net as plain Lightning trains it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = ResNet("cifar_resnet20", in_channels=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch.images), batch.labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def test_plain_lightning_ends_such_a_run_in_peace_with_weights_that_are_no_numbers(tmp_path: Path):
    saver = ModelCheckpoint(tmp_path, "last")
    trainer(Poison(within=BATCHES), saver).fit(Plain(), digits())
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert all(tensor.isnan().any() for name, tensor in state.items() if name.endswith("weight"))


@pytest.mark.usefixtures("_judged")
def test_a_loss_that_overflows_is_bad_though_its_gradients_are_finite():
    guard, weight = Guard("stop", 0), nn.Parameter(torch.tensor([1e-30]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    guard.begin([])
    loss = guard.watch((weight * 1e38).sum() * 0 + torch.inf, torch.tensor([4, 7]))
    loss.backward()
    guard.judge(optimizer)
    optimizer.step()
    assert not guard.settle(optimizer, step=9, epoch=2)
    assert float(weight.detach()) == pytest.approx(1e-30)
    with pytest.raises(Diverged, match=r"^step 9 \(epoch 2\): .* training samples 4, 7; "):
        guard.look()


@pytest.mark.parametrize("good", [True, False])
def test_tensors_of_any_kind_are_put_back_bit_by_bit_or_left(good: bool):
    kinds = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    before = [torch.randn(2, 3, 4, 5).to(kind) for kind in kinds]
    before += [torch.tensor(-0.0), torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)]
    now = [torch.randn(tensor.shape).to(tensor.dtype) for tensor in before]
    for tensor in now:
        if tensor.is_floating_point():
            tensor.view(-1)[0] = random.choice([torch.nan, torch.inf, -torch.inf])
    expected = [tensor.clone() for tensor in (now if good else before)]

    def content(tensor: Tensor) -> bytes:
        return tensor.flatten().view(torch.uint8).numpy().tobytes()

    put_back(now, before, torch.tensor(good))
    for found, tensor in zip(now, expected, strict=True):
        assert content(found) == content(tensor)


def half(**scaler: Any) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", **scaler))


def test_overflow_while_the_scale_is_found_is_no_fault():
    watch, module = Watch(), classifier()
    trainer(watch, plugins=[half(init_scale=2.0**45)]).fit(module, digits())
    moved = [not torch.equal(s["net.fc.weight"], watch.last["net.fc.weight"]) for s in watch.states]
    assert sound(watch.last)
    assert module.guard.skipped == 0
    same(watch.states[0], {n: watch.states[1][n] for n in watch.states[0]})  # it overflowed
    assert any(moved) == (float(watch.last["averaged.n_averaged"]) > 0)


def test_overflow_that_no_scale_cures_ends_the_run():
    with pytest.raises(Diverged, match=r"^step 1 \(epoch 1\)"):
        trainer(Poison(list(range(BATCHES))), plugins=[half(init_scale=64.0)]).fit(
            classifier(), digits()
        )


def test_a_run_that_stopped_goes_on_without_the_step_once_its_recipe_says_so(
    tmp_path: Path, capsys
):
    run, entry = tmp_path / "run", {"class_path": "poison.Poison", "init_args": {"batches": [5]}}
    flags = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=4", "--out", run)
    poisoned = (*flags, "--callbacks", json.dumps([entry]))
    line = refusal(capsys, "fit", "quickstart", *poisoned)
    assert line.startswith(
        "step 6 (epoch 2): loss, gradients or statistics not finite, at learning"
    )
    assert not (run / "model").exists()
    assert refusal(capsys, "fit", "--resume", run) == line
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("nonfinite: stop", "nonfinite: skip"))
    assert command("fit", "--resume", run) == 0
    assert (run / "model").is_dir()


@pytest.mark.slow
def test_two_ranks_undo_a_step_of_which_one_had_the_bad_batch(tmp_path: Path):
    init = {"batches": [3], "rank": 1, "record": str(tmp_path)}
    callbacks = f'[{{"class_path": "poison.Poison", "init_args": {init}}}]'.replace("'", '"')
    flags = (
        *("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.limit_train_batches=6"),
        *("--trainer.max_epochs=1", "--model.ema_decay=0.9", "--callbacks", callbacks),
    )
    with start("fit", "quickstart", *flags, "--out", "run", cwd=tmp_path) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    before, after = (
        [torch.load(tmp_path / f"{name}-{rank}.pt") for rank in (0, 1)]
        for name in ("before", "after")
    )
    # Before each forward pass DDP hands out rank 0's statistics.
    statistics = {n: tensor for n, tensor in before[0].items() if ".running_" in n}
    same(before[0], after[0])
    same({**before[1], **statistics}, after[1])
    assert sound(after[1])
    samples = sorted(torch.load(tmp_path / "samples-1.pt").tolist())
    assert re.search(
        r"resnet-hub: step 4 \(epoch 1\): loss, gradients or statistics not finite", err
    )
    assert f"on training samples {', '.join(map(str, samples))}; " in err
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_a_step_is_judged_and_undone_without_a_word_to_the_host(optimizer: str):
    # A meta tensor has no numbers: whoever asks for one, as a synchronisation would, gets an error.
    with torch.device("meta"):
        net = ResNet("cifar_resnet20", in_channels=1)
        images, labels = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    learning = build_optimizer(net, OptimizerSettings(name=optimizer), lr=0.1)
    guard = Guard("stop", 0)
    for step in (1, 2):
        guard.begin(net.buffers())
        guard.watch(F.cross_entropy(net(images), labels), torch.arange(4)).backward()
        guard.judge(learning)
        learning.step()
        finite = guard.settle(learning, step=step, epoch=1)
    assert finite.device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        guard.look()


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_on_a_gpu_a_bad_step_is_undone_without_a_word_to_the_host(optimizer: str):
    watch, module = Watch(), classifier(optimizer=optimizer, nonfinite="skip")

    def silent(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            torch.cuda.set_sync_debug_mode("error")
            try:
                return method(*arguments, **named)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return call

    for name in ("begin", "watch", "judge", "settle"):
        setattr(module.guard, name, silent(getattr(module.guard, name)))
    trainer(watch, Poison([2]), accelerator="gpu", devices=1).fit(module, digits())
    same(watch.states[2], watch.states[3])
    assert module.guard.skipped == 1
    assert sound(watch.last)


@pytest.mark.gpu
def test_on_a_gpu_overflow_of_16_mixed_is_tolerated_and_bounded():
    plugin = MixedPrecision("16-mixed", "cuda", torch.amp.GradScaler("cuda", init_scale=2.0**45))
    watch, module = Watch(), classifier()
    trainer(watch, accelerator="gpu", devices=1, plugins=[plugin], max_epochs=5).fit(
        module, digits()
    )
    assert sound(watch.last)
    assert module.guard.skipped == 0
    assert not torch.equal(watch.states[0]["net.fc.weight"], watch.last["net.fc.weight"])
    options = {"accelerator": "gpu", "devices": 1, "precision": "16-mixed", "max_epochs": 5}
    with pytest.raises(Diverged, match=r"^step \d+ "):
        trainer(Poison(list(range(5 * BATCHES))), **options).fit(classifier(), digits())
