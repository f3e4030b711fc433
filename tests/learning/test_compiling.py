"""Compiled nets: the names and numbers they leave, what is refused, and where no compiler is.

Graphs are captured by torch's ``aot_eager``, which needs no compiler and splits a step into
forward and backward graphs as compilers do.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from small_runs import TINY, checkpoint, command, fit, refusal, untimed_rows
from torch import Tensor, nn

from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.compiling import captures, check_capture, compile_in_place
from resnet_hub.learning.settings import ModelSettings
from resnet_hub.nets.resnet import ResNet

MODES = [True, "reduce-overhead", "max-autotune"]
CPU = torch.device("cpu")

Compiled = list[tuple[nn.Module, Any]]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Compiled:
    """What is compiled, and in which mode: all of it by ``aot_eager``."""
    found: Compiled = []
    compile_: Callable[..., None] = nn.Module.compile

    def traced(module: nn.Module, *, mode: str | None = None) -> None:
        found.append((module, mode))
        compile_(module, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", traced)
    return found


def digits() -> Digits:
    return Digits(DataSettings(name="Digits", batch_size=32, pad=1), seed=3)


def net() -> ResNet:
    torch.manual_seed(0)
    return ResNet("cifar_resnet20", in_channels=1)


def trainer(**options: Any) -> L.Trainer:
    torch.set_num_threads(1)
    own = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "limit_train_batches": 2,
        "limit_val_batches": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return L.Trainer(**{**own, **options})


@pytest.mark.parametrize("mode", MODES)
def test_compiling_leaves_every_saved_key_as_it_is(mode, tmp_path, compiled: Compiled):
    plain = Classifier(net(), model=ModelSettings(ema_decay=0.9))
    classifier = Classifier(net(), model=ModelSettings(ema_decay=0.9, compile=mode))
    one, two = trainer(), trainer()
    one.fit(plain, digits())
    two.fit(classifier, digits())
    asked = None if mode is True else mode
    assert compiled[1:] == [(classifier.net, asked)]
    assert [type(module) for module, _ in compiled[:1]] == [nn.ReLU]
    two.save_checkpoint(tmp_path / "c.ckpt")
    saved = torch.load(tmp_path / "c.ckpt", weights_only=True)["state_dict"]
    assert list(saved) == list(plain.state_dict())
    assert not [name for name in saved if "_orig_mod" in name]
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(saved[name], tensor, rtol=1e-3, atol=1e-4)
    classifier.net.save_pretrained(tmp_path / "model")
    ResNet.from_pretrained(tmp_path / "model")


def test_what_was_compiled_to_be_trained_is_tested_as_it_is(compiled: Compiled):
    classifier = Classifier(net(), model=ModelSettings(compile=True))
    own = trainer()
    own.fit(classifier, digits())
    count = len(compiled)
    scored = own.test(classifier, digits(), verbose=False)[0]
    assert len(compiled) == count == 2
    plain = Classifier(classifier.net)
    classifier.net._compiled_call_impl = None
    expected = trainer().test(plain, digits(), verbose=False)[0]
    assert scored["test/n"] == expected["test/n"] == 360
    assert scored["test/loss"] == pytest.approx(expected["test/loss"], rel=1e-5)


def test_a_compiled_run_that_is_gone_on_with_ends_with_the_same_bits(tmp_path, compiled: Compiled):
    flags = (
        *("--model.compile=reduce-overhead", "--model.ema_decay=0.9", "--trainer.max_epochs=2"),
        *("--trainer.limit_train_batches=3", "--net.stochastic_depth=0.2"),
    )
    whole, cut = fit(tmp_path / "whole", *flags), tmp_path / "cut"
    stop = {"mark": str(tmp_path / "mark"), "batch": 1}
    stopping = json.dumps([{"class_path": "interruption.SignalAt", "init_args": stop}])
    stopped = ("fit", "quickstart", *TINY, *flags, "--out", cut, "--callbacks", stopping)
    assert command(*stopped) == 130
    assert checkpoint(cut)["global_step"] == 2
    assert command("fit", "--resume", cut) == 0
    for name, tensor in checkpoint(whole)["state_dict"].items():
        assert torch.equal(tensor, checkpoint(cut)["state_dict"][name]), name
    assert untimed_rows(whole) == untimed_rows(cut)
    assert len(compiled) == 2 * 3


def test_where_nothing_can_be_compiled_a_line_says_so_and_the_net_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    calls = []

    def broken(module: nn.Module, *, mode: str | None = None) -> None:
        calls.append(module)
        raise RuntimeError("backend='inductor' raised:\n\n  InvalidCxxCompiler: no g++\n  (advice)")

    monkeypatch.setattr(nn.Module, "compile", broken)
    plain, classifier = Classifier(net()), Classifier(net(), model=ModelSettings(compile=True))
    trainer().fit(plain, digits())
    own = trainer()
    with caplog.at_level(logging.WARNING, "resnet_hub"):
        own.fit(classifier, digits())
        own.test(classifier, digits(), verbose=False)
    lines = [record.message for record in caplog.records if record.name == "resnet_hub"]
    assert lines == [
        "model.compile: nothing can be compiled for cpu here (InvalidCxxCompiler: no g++); the net "
        "runs as it is"
    ]
    assert len(calls) == 1
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, classifier.state_dict()[name]), name


def test_a_reason_without_end_is_cut(monkeypatch, caplog: pytest.LogCaptureFixture):
    def broken(module: nn.Module) -> None:
        raise OSError("x" * 5000)

    monkeypatch.setattr(nn.Module, "compile", broken)
    assert not compile_in_place(net(), True, CPU)
    assert len(caplog.records[0].message) < 300


@pytest.mark.parametrize("mode", MODES[1:])
def test_cuda_graphs_are_refused_where_steps_add_gradients_up(mode, tmp_path, capsys):
    line = refusal(
        capsys,
        *("fit", "quickstart", f"--model.compile={mode}", "--out", tmp_path / "run"),
        "--trainer.accumulate_grad_batches=2",
    )
    assert line.startswith(f"model.compile: {mode} runs CUDA graphs")
    with pytest.raises(InvalidSetting, match=r"or give model.compile: true$"):
        check_capture(mode, 2)
    for allowed, accumulated in ((mode, 1), (True, 2), (False, 2)):
        check_capture(allowed, accumulated)


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        (True, "cuda", False),
        ("reduce-overhead", "cuda", True),
        ("max-autotune", "cuda", True),
        ("reduce-overhead", "cpu", False),
    ],
)
def test_cuda_graphs_are_a_gpus(mode, kind, expected):
    assert captures(mode, torch.device(kind)) is expected


def test_letting_go_of_gradients_before_each_step_changes_nothing():
    plain, captured = Classifier(net()), Classifier(net())
    captured.captured = True
    trainer().fit(plain, digits())
    trainer().fit(captured, digits())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, captured.state_dict()[name]), name


def test_logits_that_a_graph_would_write_over_are_copied():
    class Overwriting(nn.Module):
        """Answers in the same memory each time, as a captured graph does."""

        memory = torch.zeros(4, 10)

        def forward(self, images: Tensor) -> Tensor:
            return self.memory.copy_(images[:, 0, 0, :1].expand(4, 10))

    from resnet_hub.data.batches import Batch

    classifier, labels = Classifier(net()), torch.zeros(4, dtype=torch.int64)
    for captured in (False, True):
        classifier.captured = captured
        answers = [
            classifier._count(Overwriting(), Batch(x, labels, labels, labels), classifier.scores)
            for x in (torch.full((4, 1, 8, 8), n) for n in (1.0, 2.0))
        ]
        assert float(answers[0].unique()) == (1.0 if captured else 2.0)


@pytest.mark.parametrize(
    ("said", "hint"), [("reduce_overhead", "reduce-overhead"), ("fast", "max-autotune")]
)
def test_a_mode_that_is_none_is_refused_with_those_that_are(said, hint, tmp_path, capsys):
    line = refusal(capsys, "fit", "quickstart", f"--model.compile={said}", "--out", tmp_path / "r")
    assert line.startswith("--model.compile: ")
    assert hint in line


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_on_a_gpu_a_compiled_net_learns_as_the_plain_one_does(mode, tmp_path: Path):
    options = {"accelerator": "gpu", "devices": 1, "limit_train_batches": 6}
    states = []
    for asked in (False, mode):
        classifier = Classifier(net(), model=ModelSettings(compile=asked))
        own = trainer(**options)
        own.fit(classifier, digits())
        assert classifier.captured is isinstance(asked, str)
        score = own.test(classifier, digits(), verbose=False)[0]
        assert score["test/n"] == 360
        own.save_checkpoint(tmp_path / "c.ckpt")
        saved = torch.load(tmp_path / "c.ckpt", weights_only=True)["state_dict"]
        assert not [name for name in saved if "_orig_mod" in name]
        states.append({name: tensor.cpu() for name, tensor in classifier.state_dict().items()})
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=5e-2, atol=5e-3)
