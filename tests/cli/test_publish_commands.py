"""``resnet-hub push`` and ``verify``: folders for others, and checked again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loopback_hub import Fault, LoopbackHub
from reference_nets import fill
from small_runs import command, fit, flip_last_bit, refusal

from resnet_hub.evaluation.receipts import record
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache
from resnet_hub.weights.card import read_card
from resnet_hub.weights.provenance import Receipt, Score
from resnet_hub.weights.readme import MARK

pytestmark = pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # the client's

TOKEN = "hf_SentinelSentinelSentinelSentinel00"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ("--trainer.limit_train_batches=30", "--schedule.warmup=0")
    return fit(tmp_path_factory.mktemp("runs") / "run", *flags)


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """The run's model with a licence, in a folder of its own."""
    origin = replace(read_card(run / "model").provenance, licence="MIT")
    ResNet.from_pretrained(run / "model").save_pretrained(tmp_path / "model", provenance=origin)
    return tmp_path / "model"


def verified(capsys, *arguments: object) -> tuple[int, dict]:
    capsys.readouterr()
    code = command("verify", *arguments, "--json")
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    return code, json.loads(out)


def receipt(folder: Path, **changes: object) -> Receipt:
    (score,) = read_card(folder).provenance.scores
    return replace(score.receipt, **changes)


def rescored(folder: Path, **changes: object) -> Score:
    """Change the folder's one score, in its card."""
    (score,) = read_card(folder).provenance.scores
    net, origin = ResNet.from_pretrained(folder), read_card(folder).provenance
    changed = replace(score, **changes)
    net.save_pretrained(folder, provenance=replace(origin, scores=(changed,)))
    return changed


# verify


def test_a_sound_folder_is_said_to_be_sound(model: Path, capsys):
    digest = read_card(model).provenance.sha256
    code, facts = verified(capsys, model)
    assert code == 0
    assert facts == {
        "model": str(model),
        "sha256": digest,
        "readme": "own",
        "verdict": "sound",
        "receipts": 1,
        "claims": 0,
    }
    assert command("verify", model) == 0
    expected = f"{model}: sound, SHA-256 {digest}, scores with a receipt: 1\n"
    assert capsys.readouterr().out == expected


def test_a_damaged_folder_is_refused(model: Path, capsys):
    (model / "README.md").unlink()
    assert refusal(capsys, "verify", model) == f"{model}: its README.md is missing"
    (model / "README.md").write_bytes(b"\xff")
    assert refusal(capsys, "verify", model).startswith(f"{model}/README.md: not text")
    (model / "README.md").write_text("Mine.")
    weights = model / "model.safetensors"
    flip_last_bit(weights)
    assert "damaged (SHA-256" in refusal(capsys, "verify", model)
    weights.unlink()
    assert "the weights file is missing" in refusal(capsys, "verify", model)
    (model / "config.json").write_text("{}")
    assert "not a card of this package" in refusal(capsys, "verify", model)


def test_a_readme_that_says_other_things_than_the_card_is_told(model: Path, capsys):
    readme = model / "README.md"
    text = readme.read_text()
    readme.write_text(text + "My own words.\n")
    assert verified(capsys, model)[1]["readme"] == "own"
    top1 = f"{read_card(model).provenance.scores[0].top1:.2%}"
    readme.write_text(text.replace(top1, "99.99%"))
    code, facts = verified(capsys, model, "--data=Digits")
    assert (code, facts["verdict"], facts["readme"]) == (0, "same bits", "contradicts")
    assert command("verify", model) == 0
    expected = "; README.md says other than config.json, which is what counts\n"
    assert capsys.readouterr().out.endswith(expected)
    readme.write_text(readme.read_text().replace(MARK, ""))
    assert verified(capsys, model)[1]["readme"] == "foreign"
    assert command("verify", model) == 0
    expected = "; README.md is not this package's, and was not compared\n"
    assert capsys.readouterr().out.endswith(expected)


def test_scores_that_are_not_measured_are_told(model: Path, capsys):
    record(model, Score(data="Digits test", top1=0.9999, top5=1.0, n=360))
    assert command("verify", model, "--data=Digits") == 0
    expected = "; not measured: Digits test (top-1 99.99%, n = 360, without a receipt)\n"
    assert capsys.readouterr().out.endswith(expected)
    assert verified(capsys, model, "--data=Digits")[1]["unmeasured"][0]["top1"] == 0.9999
    assert command("verify", model) == 0
    assert capsys.readouterr().out.endswith(", scores with a receipt: 1, without: 1\n")


def test_weights_of_another_net_are_refused_though_their_hash_is_in_the_card(
    model: Path, tmp_path: Path, capsys
):
    other = ResNet("cifar_resnet32", in_channels=1).save_pretrained(tmp_path / "other")
    (tmp_path / "other/model.safetensors").replace(model / "model.safetensors")
    text = (model / "config.json").read_text()
    digests = (read_card(model).provenance.sha256, other.provenance.sha256)
    (model / "config.json").write_text(text.replace(*digests))
    assert "does not fit the net (unexpected: " in refusal(capsys, "verify", model)


def test_a_run_gives_the_same_bits_again_at_any_batch_size(run: Path, model: Path, capsys):
    for arguments in ((run,), (model, "--data=Digits"), (model, "--data=Digits", "--seed=7")):
        code, facts = verified(capsys, *arguments)
        assert (code, facts["verdict"], facts["differences"]) == (0, "same bits", [])
        assert facts["found"] == facts["recorded"]
    assert command("verify", model, "--data=Digits") == 0
    score = read_card(model).provenance.scores[0]
    expected = f"same bits (Digits test, n = 360, top-1 {score.top1:.2%}, 32-true)"
    assert capsys.readouterr().out == f"{model}: {expected}\n"


def test_other_bits_of_the_same_answers_are_no_failure_but_said(model: Path, capsys):
    rescored(model, receipt=receipt(model, logits_sha256="0" * 64))
    assert command("verify", model, "--data=Digits") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{model}: same answers, other bits (Digits test, ")


def test_other_weights_under_the_old_scores_differ(model: Path, capsys):
    net, origin = ResNet.from_pretrained(model), read_card(model).provenance
    with torch.no_grad():
        net.fc.bias[0] += 100  # now it is the answer to everything
    net.save_pretrained(model, provenance=origin)
    assert verified(capsys, model)[0] == 0  # the hash is of these weights
    code, facts = verified(capsys, model, "--data=Digits")
    assert (code, facts["verdict"]) == (1, "differs")
    assert facts["differences"][-1] == "other answers for some images"
    assert facts["found"]["top1"] < facts["recorded"]["top1"]


def test_other_data_differ(model: Path, capsys):
    assert command("verify", model, "--data=Digits", "--data.eval_size=9") == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{model}: differs; other images, labels or order (SHA-256 ")
    assert "; other preprocessing; " in out


def test_the_recorded_precision_is_measured_at(model: Path, capsys):
    rescored(model, receipt=None)
    message = refusal(capsys, "verify", model, "--data=Digits")
    assert message.startswith("the card has no receipt of Digits test to compare with")
    flags = ("--data=Digits", "--trainer.precision=bf16-mixed")
    assert command("test", model, *flags) == 0
    code, facts = verified(capsys, model, "--data=Digits")
    assert (code, facts["verdict"]) == (0, "same bits")
    assert facts["found"]["receipt"]["precision"] == "bf16-mixed"
    message = refusal(capsys, "verify", model, "--data=Digits", "--trainer.precision=32-true")
    assert "no receipt of Digits test at 32-true" in message


@pytest.mark.data
def test_a_published_net_on_real_images_gives_the_same_bits_again(
    real_data: Path, lossless_cifar10: Path, tmp_path: Path, capsys
):
    checkpoint = real_data / "published-weights/resnet20-12fca82f.th"
    if not checkpoint.is_file():
        pytest.skip(f"{checkpoint} is not there")
    assert command("convert", checkpoint, tmp_path / "model", "--net=cifar_resnet20") == 0
    flags = ("--data=Cifar10", f"--data.root={lossless_cifar10}", "--data.download=false")
    assert command("test", tmp_path / "model", *flags) == 0
    code, facts = verified(capsys, tmp_path / "model", *flags, "--data.batch_size=100")
    assert (code, facts["verdict"], facts["found"]["n"]) == (0, "same bits", 1017)
    assert facts["found"]["top1"] == 932 / 1017  # what the author's code gives on these images


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], None),
        (["a", "b"], "verify: needs one model folder or run (see `resnet-hub verify --help`)"),
        (["MODEL", "--optimizer.lr=1"], "--optimizer: verify takes --data…, --trainer…, --seed"),
        (["MODEL", "--data=Cifar10", "--data.root=X", "--data.download=false"], "there is no X"),
        (["MODEL", "--data=Digits", "--trainer.limit_test_batches=1"], "measures all images"),
        (["./nowhere"], "nowhere': no such folder"),
    ],
)
def test_what_cannot_be_verified_is_refused_in_one_line(
    model: Path, capsys, arguments: list[str], message: str | None
):
    arguments = [argument.replace("MODEL", str(model)) for argument in arguments]
    if message is None:
        assert command("verify", *arguments) == 0  # help
        assert "usage: resnet-hub verify" in capsys.readouterr().out
    else:
        assert message in refusal(capsys, "verify", *arguments)


# push


@pytest.fixture
def hub(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with LoopbackHub(tokens=(TOKEN,)) as hub:
        hub.attach(monkeypatch, tmp_path / "hf", token=TOKEN)
        yield hub


def test_a_trained_model_is_pushed_fetched_and_verified(hub: LoopbackHub, model: Path, capsys):
    capsys.readouterr()
    assert command("push", model, "org/net") == 0
    out, err = capsys.readouterr()
    commit = hub.repos["org/net"].branches["main"]
    assert (out, err) == (f"org/net: {hub.url}/org/net/commit/{commit}\n", "")
    assert command("push", model, "org/net") == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"org/net: nothing to push, {commit[:12]} holds the same\n", "")
    code, facts = verified(capsys, "org/net", "--data=Digits")
    assert (code, facts["verdict"]) == (0, "same bits")


def test_a_damaged_copy_in_the_cache_is_fetched_again_and_verified(
    hub: LoopbackHub, model: Path, capsys, monkeypatch
):
    assert command("push", model, "org/net") == 0
    assert verified(capsys, "org/net")[1]["verdict"] == "sound"
    (weights,) = cache.root().rglob("model.safetensors")
    flip_last_bit(weights)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refusal(capsys, "verify", "org/net")
    assert "damaged (SHA-256" in message
    assert message.endswith("as after `resnet-hub cache clear hf:org/net`")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert verified(capsys, "org/net")[1]["verdict"] == "sound"


def test_own_words_in_the_readme_are_pushed_and_a_foreign_one_is_not_dropped(
    hub: LoopbackHub, model: Path, capsys
):
    readme = model / "README.md"
    readme.write_text(readme.read_text() + "My own words.\n")
    assert command("push", model, "org/net") == 0
    assert hub.read("org/net", "README.md").endswith(f"{MARK}My own words.\n".encode())
    readme.write_text("# All mine\n")
    message = refusal(capsys, "push", model, "org/net")
    assert "this package did not write its README.md; begin it with the line <!--" in message
    readme.write_text(f"{MARK}# All mine\n")
    assert command("push", model, "org/net") == 0
    pushed = hub.read("org/net", "README.md").decode()
    assert pushed.startswith("---\n")
    assert pushed.endswith(f"```\n\n{MARK}# All mine\n")


def test_its_options_reach_the_hub(hub: LoopbackHub, run: Path, capsys):
    message = refusal(capsys, "push", run / "model", "org/net")
    assert message == f"{run}/model: not pushed, its card lacks a licence (--licence MIT, for one)"
    flags = ("--private", "--revision=dev", "--licence=MIT", "--json")
    assert command("push", run / "model", "org/net", *flags) == 0
    facts = json.loads(capsys.readouterr().out)
    repo = hub.repos["org/net"]
    assert repo.private
    assert facts == {
        "repo": "org/net",
        "commit": repo.branches["dev"],
        "url": f"{hub.url}/org/net/commit/{repo.branches['dev']}",
        "changed": True,
    }
    assert read_card(run / "model").provenance.licence == "MIT"
    assert command("push", run / "model", "org/net", "--pr") == 0
    assert capsys.readouterr().out == f"org/net: {hub.url}/org/net/discussions/1\n"


def test_a_fresh_net_has_nothing_to_be_pushed_with(hub: LoopbackHub, tmp_path: Path, capsys):
    fill(ResNet("cifar_resnet20"), 0).save_pretrained(tmp_path / "model")
    message = refusal(capsys, "push", tmp_path / "model", "org/net")
    assert message.endswith(
        "its card lacks a licence (--licence MIT, for one) and a score (`resnet-hub test` measures "
        "one and records the data set) and the recipe (what `resnet-hub fit` exports has it)"
    )
    assert hub.log == []


@pytest.mark.fault("H6")
def test_a_refusal_shows_no_token_in_the_traceback_either(hub: LoopbackHub, model: Path, capsys):
    hub.faults.append(Fault("POST .*/commit/", status=403, message="go away {token}"))
    assert "the token may not write there" in refusal(capsys, "push", model, "org/net")
    assert command("push", model, "org/net", "--debug") == 1
    out, err = capsys.readouterr()
    assert "Traceback" in err
    assert TOKEN not in out + err


@pytest.mark.fault("H6")
def test_a_token_in_an_argument_is_not_repeated(hub: LoopbackHub, model: Path, capsys):
    message = refusal(capsys, "push", model, f"org/{TOKEN}@x")
    assert message == "org/***@x: give the branch by --revision"


def test_a_score_that_is_recorded_later_is_pushed_too(hub: LoopbackHub, model: Path):
    assert command("push", model, "org/net") == 0
    published = Score(data="Elsewhere test", top1=0.5, top5=0.75, n=4)
    record(model, published)
    assert command("push", model, "org/net") == 0
    assert b"| Elsewhere test | 50.00% | 75.00% | 4 |" in hub.read("org/net", "README.md")
    assert hub.asked("PUT") == 1
