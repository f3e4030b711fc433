"""Pushing: the real client against a Hub on this machine."""

import logging
import socket
import traceback
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest
import torch
from huggingface_hub import ModelCard, hf_hub_download
from loopback_hub import Fault, LoopbackHub
from reference_nets import fill

from resnet_hub.architecture import Architecture
from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting, ResNetHubError
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import publish
from resnet_hub.weights.card import read_card
from resnet_hub.weights.provenance import Provenance, Score
from resnet_hub.weights.publish import push

pytestmark = pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # the client's

SMALL = Architecture(depths=(1, 1, 1), block="basic", stem="cifar", width=8, classes=10)
FILES = ("model.safetensors", "config.json", "README.md")
TOKEN = "hf_SentinelSentinelSentinelSentinel00"
SCORE = Score(data="CIFAR-10 test", top1=0.9, top5=0.99, n=10_000)
WHOLE = Provenance(licence="MIT", scores=(SCORE,), recipe={"seed": 1})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", WHOLE)


def saved(folder: Path, provenance: Provenance, seed: int = 0) -> Path:
    fill(ResNet(SMALL), seed).save_pretrained(folder, provenance=provenance)
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path: Path):
    """An empty Hub that knows one token, and this process led to it with that."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with LoopbackHub(tokens=(TOKEN,)) as hub:
        hub.attach(monkeypatch, tmp_path / "hf", token=TOKEN)
        yield hub


def sent(hub: LoopbackHub) -> int:
    """Requests that brought or changed something."""
    return sum(hub.asked(method) for method in ("POST", "PUT"))


def refused(kind: type[ResNetHubError], *arguments: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        push(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


# What arrives


def test_what_was_pushed_comes_back_to_the_byte_in_one_commit(hub: LoopbackHub, folder: Path):
    pushed = push(folder, "org/net")
    assert (pushed.repo, pushed.changed) == ("org/net", True)
    repo = hub.repos["org/net"]
    assert repo.branches["main"] == pushed.commit
    assert len(repo.commits) == 2  # the Hub's own first one, and this
    assert set(repo.commits[pushed.commit]) == {".gitattributes", *FILES}
    for name in FILES[:2]:
        assert Path(hf_hub_download("org/net", name)).read_bytes() == (folder / name).read_bytes()
    net = ResNet.from_pretrained("org/net")
    expected = ResNet.from_pretrained(folder).state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in net.state_dict().items())
    assert pushed.url == f"{hub.url}/org/net/commit/{pushed.commit}"


def test_a_temperature_goes_along(hub: LoopbackHub, tmp_path: Path):
    net = fill(ResNet(SMALL), 0)
    net.temperature = 1.75
    net.save_pretrained(tmp_path / "model", provenance=WHOLE)
    push(tmp_path / "model", "org/net")
    assert ResNet.from_pretrained("org/net").temperature == 1.75
    assert "temperature: 1.75" in Path(hf_hub_download("org/net", "README.md")).read_text()


def test_the_weights_go_by_lfs_and_the_token_only_to_the_hub(hub: LoopbackHub, folder: Path):
    push(folder, "org/net")
    (upload,) = [request for request in hub.log if request.method == "PUT"]
    digest = read_card(folder).provenance.sha256
    assert upload.path == f"/_lfs/{digest}"
    assert not upload.authorised
    commit = hub.repos["org/net"].commits[hub.repos["org/net"].branches["main"]]
    assert [name for name, entry in commit.items() if entry.lfs] == ["model.safetensors"]


def test_the_model_card_is_the_one_that_the_hub_understands(hub: LoopbackHub, folder: Path):
    push(folder, "org/net", revision="v2")
    text = hub.read("org/net", "README.md", "v2").decode()
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.datasets) == (
        "mit",
        "resnet_hub",
        ["uoft-cs/cifar10"],
    )
    assert {(r.metric_name, r.metric_value) for r in data.eval_results} == {
        ("Top-1 accuracy", 0.9),
        ("Top-5 accuracy", 0.99),
    }
    assert "ResNet.from_pretrained('org/net@v2')" in text
    assert hub.asked("POST", "/api/validate-yaml") == 1


def test_unchanged_content_makes_no_commit(hub: LoopbackHub, folder: Path):
    first, second = push(folder, "org/net"), push(folder, "org/net")
    assert (second.commit, second.changed) == (first.commit, False)
    assert len(hub.repos["org/net"].commits) == 2
    saved(folder, replace(WHOLE, seed=5))
    third = push(folder, "org/net")
    assert third.changed
    assert hub.asked("PUT") == 1  # the weights are the same


def test_a_private_repository_is_made_private(hub: LoopbackHub, folder: Path, monkeypatch):
    push(folder, "org/net", private=True)
    assert hub.repos["org/net"].private
    push(folder, "org/net", private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DataMissing, match="a private one"):
        ResNet.from_pretrained("org/net")


def test_a_repository_that_is_public_already_gets_nothing_private(hub: LoopbackHub, folder: Path):
    hub.add("org/net", {"a": b""})
    message = refused(InvalidSetting, folder, "org/net", private=True)
    assert message.startswith("org/net: is there already and public")
    assert hub.asked("PUT") == 0
    assert len(hub.repos["org/net"].commits) == 1


def test_a_pull_request_makes_nothing_private(hub: LoopbackHub, folder: Path):
    message = refused(InvalidSetting, folder, "org/net", private=True, pull_request=True)
    assert "--private cannot change" in message
    assert hub.log == []


def test_a_branch_is_made_and_the_main_one_stays(hub: LoopbackHub, folder: Path):
    main = hub.add("org/net", {"a": b""})
    pushed = push(folder, "org/net", revision="longer")
    assert hub.repos["org/net"].branches == {"main": main, "longer": pushed.commit}
    assert not push(folder, "org/net", revision="longer").changed
    ResNet.from_pretrained("org/net@longer")


def test_a_pull_request_leaves_every_branch_as_it_was(hub: LoopbackHub, folder: Path):
    main = hub.add("org/net", {"a": b""})
    pushed = push(folder, "org/net", pull_request=True)
    assert pushed.url == f"{hub.url}/org/net/discussions/1"
    assert hub.repos["org/net"].branches == {"main": main, "refs/pr/1": pushed.commit}
    for name in FILES[:2]:
        assert hub.read("org/net", name, "refs/pr/1") == (folder / name).read_bytes()
    assert hub.asked("POST", "/api/repos/create") == 0


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"licence": None}, "lacks a licence (--licence MIT, for one)"),
        ({"scores": ()}, "lacks a score (`resnet-hub test`"),
        ({"recipe": None}, "lacks the recipe"),
        ({"licence": None, "recipe": None}, "for one) and the recipe"),
    ],
)
def test_a_card_without_licence_score_or_recipe_is_refused(
    hub: LoopbackHub, tmp_path: Path, changes: dict, words: str
):
    folder = saved(tmp_path / "model", replace(WHOLE, **changes))
    message = refused(InvalidSetting, folder, "org/net")
    assert words in message
    assert message.startswith(f"{folder}: not pushed, its card lacks ")
    assert hub.log == []


def test_a_flipped_bit_is_refused(hub: LoopbackHub, folder: Path):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert "damaged" in refused(CorruptFile, folder, "org/net")
    assert hub.log == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(hub: LoopbackHub, folder: Path, name: str):
    (folder / name).unlink()
    refused(CorruptFile, folder, "org/net")
    assert hub.log == []


@pytest.mark.parametrize(
    "repo", ["net", "a/b/c", "-/x", "x/n.git", "../x", "org/..", "org/net@v1", "org/n\net", ""]
)
def test_a_name_that_no_repository_has_is_refused(hub: LoopbackHub, folder: Path, repo: str):
    refused(InvalidSetting, folder, repo)
    assert hub.log == []


@pytest.mark.parametrize("revision", ["../x", "a b", "refs/../main", "-x"])
def test_a_branch_that_cannot_be_is_refused(hub: LoopbackHub, folder: Path, revision: str):
    refused(InvalidSetting, folder, "org/net", revision=revision)
    assert hub.log == []


def test_a_licence_can_be_given_where_the_card_has_none(hub: LoopbackHub, tmp_path: Path):
    folder = saved(tmp_path / "model", replace(WHOLE, licence=None))
    push(folder, "org/net", licence="Apache-2.0")
    assert read_card(folder).provenance == replace(
        WHOLE,
        licence="Apache-2.0",
        sha256=read_card(folder).provenance.sha256,
        version=read_card(folder).provenance.version,
    )
    assert hub.read("org/net", "config.json") == (folder / "config.json").read_bytes()
    assert b"license: apache-2.0\n" in hub.read("org/net", "README.md")


def test_another_licence_is_not_put_over_the_cards(hub: LoopbackHub, folder: Path):
    message = refused(InvalidSetting, folder, "org/net", licence="Apache-2.0")
    assert message.startswith(f"{folder}: its card says MIT; another licence is not put over it")
    assert message.endswith("where it is wrong, edit it in config.json")
    assert "is no SPDX name" in refused(
        InvalidSetting, saved(folder, replace(WHOLE, licence=None)), "org/net", licence="my own\n"
    )
    assert hub.log == []


@pytest.mark.parametrize("licence", ["not a licence", "", "Apache 2.0"])
def test_a_licence_that_spdx_does_not_know_is_refused(hub: LoopbackHub, tmp_path: Path, licence):
    folder = saved(tmp_path / "model", replace(WHOLE, licence=None))
    assert "is no SPDX name" in refused(InvalidSetting, folder, "org/net", licence=licence)
    assert read_card(folder).provenance.licence is None
    assert hub.log == []


def test_a_licence_is_written_as_spdx_does(hub: LoopbackHub, tmp_path: Path):
    folder = saved(tmp_path / "model", replace(WHOLE, licence=None))
    push(folder, "org/net", licence="apache-2.0")
    assert read_card(folder).provenance.licence == "Apache-2.0"


def test_a_licence_that_a_card_has_already_is_not_judged(hub: LoopbackHub, tmp_path: Path):
    assert push(saved(tmp_path / "model", replace(WHOLE, licence="My-Own")), "org/net").changed


def test_a_run_leads_to_the_model_in_it(hub: LoopbackHub, tmp_path: Path):
    saved(tmp_path / "run1" / "model", WHOLE)
    message = refused(InvalidSetting, tmp_path / "run1", "org/net")
    assert message.endswith(f"/run1: is a run; push {tmp_path}/run1/model, the model folder in it")
    assert hub.log == []


@pytest.mark.parametrize(
    "repo", ["https://huggingface.co/org/net", "https://me:secret@host/org/net"]
)
def test_a_web_address_is_no_repository(hub: LoopbackHub, folder: Path, repo: str):
    message = refused(InvalidSetting, folder, repo)
    assert message == "push: a repository is written org/name, without the Hub's address"
    assert hub.log == []


def test_a_hub_of_no_address_is_one_line(hub: LoopbackHub, folder: Path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://h:abc")
    assert refused(InvalidSetting, folder, "org/net").startswith("HF_ENDPOINT: is no web address")


def test_without_a_token_nothing_is_asked(hub: LoopbackHub, folder: Path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    message = refused(DataMissing, folder, "org/net")
    assert message == (
        "push: the Hub takes nothing without a token; set HF_TOKEN or run `hf auth login`"
    )
    assert hub.log == []


def test_the_token_of_the_clients_login_is_used(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hf").mkdir(exist_ok=True)
    (tmp_path / "hf/token").write_text(TOKEN)
    assert push(folder, "org/net").changed


def test_offline_nothing_is_asked(hub: LoopbackHub, folder: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids" in refused(DataMissing, folder, "org/net")
    assert hub.log == []


# What a server refuses


def test_a_server_that_is_down_costs_seconds_and_one_line(
    hub: LoopbackHub, folder: Path, monkeypatch
):
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    start = perf_counter()
    message = refused(DataMissing, folder, "org/net")
    assert perf_counter() - start < 5
    assert message.startswith(f"127.0.0.1:{port} cannot be reached (Connection refused)")


def test_a_token_that_the_hub_does_not_know_is_refused(hub: LoopbackHub, folder: Path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    message = refused(DataMissing, folder, "org/net")
    assert message == (
        "org/net: not pushed, the Hub does not accept the token; set HF_TOKEN or run "
        "`hf auth login`"
    )
    assert hub.repos == {}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not accept the token"),
        (403, "the token may not write there"),
        (404, "there is no such repository"),
        (409, "its name is taken"),
        (412, "somebody else committed meanwhile"),
        (400, "the Hub answers 400"),
    ],
)
def test_each_refusal_of_the_commit_is_one_line(
    hub: LoopbackHub, folder: Path, status: int, words: str
):
    hub.faults.append(Fault("POST .*/commit/", status=status))
    message = refused(DataMissing, folder, "org/net")
    assert message.startswith("org/net: not pushed, ")
    assert words in message
    assert len(hub.repos["org/net"].commits) == 1


def test_no_right_to_make_a_repository_is_one_line(hub: LoopbackHub, folder: Path):
    hub.faults.append(Fault("POST /api/repos/create", status=403))
    assert "the token may not write there" in refused(DataMissing, folder, "org/net")
    hub.repos.clear()
    assert "no such repository" in refused(DataMissing, folder, "org/net", pull_request=True)


def test_no_right_to_make_one_does_not_matter_where_it_is_there(hub: LoopbackHub, folder: Path):
    hub.add("org/net", {"a": b""})
    hub.faults.append(Fault("POST /api/repos/create", status=403))
    assert push(folder, "org/net").changed


@pytest.mark.parametrize("status", [403, 413])
def test_a_refused_upload_of_the_weights_is_one_line(hub: LoopbackHub, folder: Path, status: int):
    hub.faults.append(Fault("PUT /_lfs", status=status))
    words = {403: "the token may not write there", 413: "takes no file that large"}[status]
    assert words in refused(DataMissing, folder, "org/net")
    assert len(hub.repos["org/net"].commits) == 1


@pytest.mark.parametrize(
    "pattern",
    ["POST .*/commit/", pytest.param("PUT /_lfs", marks=pytest.mark.slow)],  # tried for 23 s
)
def test_a_connection_that_breaks_is_one_line_and_leaves_no_half(
    hub: LoopbackHub, folder: Path, pattern: str
):
    push(saved(folder, WHOLE, seed=1), "org/net")
    saved(folder, WHOLE)
    hub.faults.append(Fault(pattern, vanishes=True))
    message = refused(DataMissing, folder, "org/net")
    assert message.startswith("org/net: not pushed, the connection broke (")
    assert len(hub.repos["org/net"].commits) == 2
    hub.faults.clear()
    assert push(folder, "org/net").changed


@pytest.mark.parametrize("pattern", ["POST /api/repos/create", "POST .*/commit/"])
def test_an_answer_that_does_not_end_is_given_up(
    hub: LoopbackHub, folder: Path, monkeypatch, pattern: str
):
    monkeypatch.setattr(publish, "_ANSWER", 1)
    monkeypatch.setattr(publish, "_SLOWEST", 1 << 40)
    hub.faults.append(Fault(pattern, endless=True))
    message = refused(DataMissing, folder, "org/net")
    assert message.startswith("org/net: not pushed, the connection broke (TimeoutError)")


def test_what_was_committed_before_the_hub_failed_is_said_to_be_there(
    hub: LoopbackHub, folder: Path
):
    hub.faults.append(Fault("GET .*/tree/", status=404))
    message = refused(DataMissing, folder, "org/net")
    assert message.startswith("org/net: pushed, but not looked at again, ")
    assert len(hub.repos["org/net"].commits) == 2


def test_weights_that_come_while_it_is_pushed_never_go_under_the_old_card(
    hub: LoopbackHub, folder: Path, monkeypatch
):
    def make(*_: object, **__: object) -> None:
        hub.add("org/net", {"a": b""})
        saved(folder, WHOLE, seed=1)

    monkeypatch.setattr(publish, "_make_place", make)
    assert "other weights came there meanwhile" in refused(CorruptFile, folder, "org/net")
    assert len(hub.repos["org/net"].commits) == 1


def test_a_pull_request_against_a_branch_that_is_not_there_is_one_line(
    hub: LoopbackHub, folder: Path
):
    hub.add("org/net", {"a": b""})
    message = refused(DataMissing, folder, "org/net", revision="v9", pull_request=True)
    assert message == "org/net: not pushed, it has no branch 'v9'"


# The token


@pytest.mark.fault("H6")
@pytest.mark.parametrize(
    ("pattern", "status"),
    [
        ("POST /api/repos/create", 400),
        ("POST /api/repos/create", 200),
        ("POST .*/preupload/", 400),
        ("POST .*/preupload/", 200),
        ("PUT /_lfs", 400),
        ("POST .*/commit/", 400),
        ("POST .*/commit/", 200),
    ],
)
def test_the_token_is_in_no_log_output_error_or_file_though_the_server_echoes_it(
    hub: LoopbackHub, folder: Path, tmp_path: Path, capfd, pattern: str, status: int
):
    headers = {"X-Own": f"a {TOKEN}"}
    hub.faults.append(Fault(pattern, status=status, message="no {token} here", headers=headers))
    log = tmp_path / "log.txt"
    handler = logging.FileHandler(log)
    root = logging.getLogger()
    levels = {n: logging.getLogger(n).level for n in ("", "huggingface_hub", "httpcore", "httpx")}
    root.addHandler(handler)
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.DEBUG)
        with pytest.raises(DataMissing) as caught:
            push(folder, "org/net")
    finally:
        root.removeHandler(handler)
        handler.close()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    shown = "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    assert log.stat().st_size > 0
    for text in (written.decode(errors="ignore"), shown, "".join(capfd.readouterr())):
        assert TOKEN not in text


@pytest.mark.fault("H6")
def test_a_push_leaves_the_token_nowhere(
    hub: LoopbackHub, folder: Path, tmp_path: Path, capfd, caplog
):
    with caplog.at_level(logging.DEBUG):
        push(folder, "org/net")
    stored = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert TOKEN.encode() not in stored + b"".join(hub.blobs.values())
    assert TOKEN not in caplog.text + "".join(capfd.readouterr())


def test_a_push_that_the_hub_takes_only_a_part_of_is_no_success(hub: LoopbackHub, folder: Path):
    hub.ignored.add("model.safetensors")
    with pytest.raises(DataMissing, match=r"the Hub left out model\.safetensors; does its \.git"):
        push(folder, "me/net")
