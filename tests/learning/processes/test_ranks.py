"""Several processes train and evaluate as one, and none is left behind."""

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.strategies import DDPStrategy
from rank_tasks import (
    counted_by_plain_lightning,
    evaluated,
    miscounted,
    ordered,
    small_net,
    trained,
)
from ranks import Ranks
from safetensors.torch import load_file
from small_runs import start

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.processes.ranks import (
    RankStrategy,
    distributed_options,
    lost_rank,
    started,
)
from resnet_hub.learning.settings import DistributedSettings, FreezingSettings, ScheduleSettings
from resnet_hub.learning.trainer import make_trainer
from resnet_hub.nets.resnet import ResNet

COUNTS = list(range(1, 18))


def together(count: int, function, *arguments: object, cwd: Path) -> list:
    """Return what each rank returns."""
    with Ranks(count, function, *arguments, cwd=cwd) as ranks:
        return ranks.results()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list:
    """The evaluations of one process."""
    (found,) = together(1, evaluated, COUNTS, 4, cwd=tmp_path_factory.mktemp("alone"))
    return found


@pytest.mark.fault("X5")
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_evaluation_counts_every_sample_once_over_any_ranks(tmp_path: Path, alone, ranks: int):
    for number, *found in zip(
        COUNTS, alone, *together(ranks, evaluated, COUNTS, 4, cwd=tmp_path), strict=True
    ):
        (_, expected), *parts = found
        seen = [index for batches, _ in parts for batch in batches for index in batch]
        assert sorted(seen) == list(range(number))
        for _, values in parts:
            assert values["test/n"] == number
            assert values["test/top1"] == expected["test/top1"]
            assert values["test/top5"] == expected["test/top5"]
            assert values["test/loss"] == pytest.approx(expected["test/loss"], rel=1e-6)


@pytest.mark.fault("X5")
def test_plain_lightning_counts_some_samples_twice(tmp_path: Path):
    assert together(2, counted_by_plain_lightning, 9, cwd=tmp_path) == [5, 5]


@pytest.mark.fault("X5")
def test_an_evaluation_that_saw_another_number_of_images_is_an_error(tmp_path: Path):
    for error in together(2, miscounted, 1.0, cwd=tmp_path):
        assert error.startswith("BadData: test: 18 images were counted, and the split has 9: the ")
    assert together(2, miscounted, 2, cwd=tmp_path) == ["", ""]  # a part was asked for


@pytest.mark.parametrize(("ranks", "size", "workers"), [(1, 8, 2), (2, 4, 0), (2, 4, 2)])
def test_training_order_is_the_same_for_any_ranks_and_workers(
    tmp_path: Path, ranks: int, size: int, workers: int
):
    (one,) = together(1, ordered, 8, 0, cwd=tmp_path)
    parts = together(ranks, ordered, size, workers, cwd=tmp_path)
    steps = [[index for batch in step for index in batch] for step in zip(*parts, strict=True)]
    assert len(one) == 12
    assert steps == one


THAWING = FreezingSettings(
    freeze=("all_but_head",), thaw=((1, "layer3"), (2, "all")), norms="frozen"
)
WARMING = ScheduleSettings(warmup_factor=0.1, warmup_until_error=0.9)  # ends with the second epoch


@pytest.mark.parametrize("how", [("sgd",), ("lamb",), ("sgd", THAWING), ("sgd", None, WARMING)])
def test_ranks_and_accumulation_leave_weights_and_learning_rates_as_they_are(
    tmp_path: Path, how: tuple[object, ...]
):
    ((expected, rates),) = together(1, trained, 16, 1, *how, cwd=tmp_path)
    assert len(set(rates)) > (1 if WARMING in how else 5)
    for ranks, size, accumulate in ((1, 8, 2), (2, 8, 1), (2, 4, 2)):
        for weights, other_rates in together(ranks, trained, size, accumulate, *how, cwd=tmp_path):
            assert other_rates == rates
            for name, weight in weights.items():
                scale = np.abs(expected[name]).max()
                assert np.abs(weight - expected[name]).max() <= 1e-5 * scale, name


TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "0",
}
SLURM = {
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_ID": "0",
}
CPU = {"accelerator": "cpu"}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch):
    """Set environment variables."""

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize("launcher", [TORCHRUN, SLURM])
@pytest.mark.parametrize("given", [{}, {"devices": "auto", "strategy": "auto"}, {"devices": 2}])
def test_processes_that_were_started_are_one_run_whatever_auto_means(
    variables, launcher: dict[str, str], given: dict
):
    variables(**launcher)
    options = distributed_options({**CPU, **given}, timeout=5)
    assert (options["devices"], options["num_nodes"]) == (2, 2)
    assert isinstance(options["strategy"], RankStrategy)
    assert make_trainer({**CPU, **given}).world_size == 4


@pytest.mark.parametrize("launcher", [TORCHRUN, SLURM])
@pytest.mark.parametrize(
    "given", [{"devices": 1}, {"num_nodes": 1}, {"strategy": "single_device", "devices": 1}]
)
def test_other_devices_than_processes_were_started_are_refused_in_one_line(
    variables, launcher: dict[str, str], given: dict
):
    variables(**launcher)
    with pytest.raises(InvalidSetting, match="started 2 processes on each of 2 nodes") as error:
        make_trainer({**CPU, **given})
    assert "\n" not in str(error.value)


def test_tasks_of_slurm_that_srun_did_not_start_are_refused(variables, monkeypatch):
    variables(**SLURM)
    monkeypatch.delenv("SLURM_STEP_ID")
    with pytest.raises(InvalidSetting, match="the job has 4 tasks; start the command by srun"):
        started()


@pytest.mark.parametrize("other", [{"SLURM_NTASKS": "1"}, {"SLURM_JOB_NAME": "interactive"}])
def test_one_task_and_an_interactive_job_are_no_group(variables, other: dict[str, str]):
    variables(**{**SLURM, **other})
    assert started() is None


def test_nobody_started_this_process():
    assert started() is None
    assert "strategy" not in distributed_options(CPU, timeout=5)


@pytest.mark.parametrize(
    ("name", "unused"),
    [("ddp", False), ("auto", False), ("ddp_find_unused_parameters_true", True)],
)
def test_lightnings_ddp_gets_a_timeout(name: str, unused: bool):
    trainer = make_trainer({**CPU, "devices": 2, "strategy": name}, timeout=7)
    strategy = trainer.strategy
    assert isinstance(strategy, RankStrategy)
    assert strategy.timeout.total_seconds() == 7
    assert strategy._timeout == strategy.timeout
    assert strategy._ddp_kwargs == {"find_unused_parameters": unused}
    assert trainer.world_size == 2


def test_lightning_has_what_is_kept_from_its_signals():
    # Were it called otherwise, Lightning's own handlers would be back unnoticed.
    trainer = L.Trainer(**CPU, logger=False)
    assert callable(trainer._signal_connector.register_signal_handlers)
    assert callable(trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor)
    assert issubclass(RankStrategy, DDPStrategy)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionResetError("reset"), "ended"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer [::1]"), "ended"),
        (RuntimeError("[gloo/…] Timed out waiting 4000ms for recv operation"), "did not answer"),
        (RuntimeError("Application timeout caused pair closure"), "did not answer"),
        (torch.distributed.DistStoreError("socket Timeout"), "did not answer"),
        (torch.distributed.DistNetworkError("failed to recv, got 0 bytes"), "ended"),
    ],
)
def test_errors_that_say_a_rank_is_lost_are_known(error: Exception, words: str):
    assert words in (lost_rank(error) or "")


def test_other_errors_are_their_own():
    assert lost_rank(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_synchronised_norms_leave_plain_keys_and_the_same_net(tmp_path: Path):
    classifier = Classifier(small_net())
    expected = {n: t.clone() for n, t in classifier.net.state_dict().items()}
    sync = TorchSyncBatchNorm()
    sync.apply(classifier)  # as Lightning does with trainer.sync_batchnorm
    kinds = {type(m) for m in classifier.modules() if "Norm" in type(m).__name__}
    assert kinds == {torch.nn.SyncBatchNorm}
    assert classifier.net.state_dict().keys() == expected.keys()
    sync.revert(classifier)  # and at the end
    classifier.finished.save_pretrained(tmp_path / "model")
    saved = load_file(tmp_path / "model/model.safetensors")
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[n], t) for n, t in expected.items())
    images = torch.rand(2, 1, 8, 8)
    with torch.inference_mode():
        found = classifier.finished.eval()(images)
        loaded = ResNet.from_pretrained(tmp_path / "model")(images)
        assert torch.equal(loaded, small_net().eval()(images))
    torch.testing.assert_close(found, loaded)  # the classifier's is channels-last


def test_synchronised_norms_on_cpus_are_refused():
    with pytest.raises(InvalidSetting, match="sync_batchnorm: torch has it for GPUs alone"):
        make_trainer({**CPU, "devices": 2, "sync_batchnorm": True})
    make_trainer({**CPU, "sync_batchnorm": True})  # of one process there is nothing to synchronise


@pytest.mark.gpu
def test_synchronised_norms_train_over_gpus_and_export_plain_keys(tmp_path: Path):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    flags = ("--trainer.accelerator=gpu", "--trainer.devices=2", "--trainer.strategy=ddp")
    short = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2")
    sync = "--trainer.sync_batchnorm=true"
    with start("fit", "quickstart", *flags, *short, sync, "--out=run", cwd=tmp_path) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    saved = load_file(tmp_path / "run/model/model.safetensors")
    assert saved.keys() == small_net().state_dict().keys()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(timeout: float):
    with pytest.raises(InvalidSetting, match=r"distributed.timeout: .* is not a number above 0"):
        DistributedSettings(timeout=timeout)
