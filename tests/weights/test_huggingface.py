"""Hub repositories: the real client against a Hub on this machine."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from loopback_hub import Fault, LoopbackHub
from reference_nets import fill
from small_runs import environment

from resnet_hub.architecture import Architecture
from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting, ResNetHubError
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache, huggingface

SMALL = Architecture(depths=(1, 1, 1), block="basic", stem="cifar", width=8, classes=10)
FILES = ("config.json", "model.safetensors", "README.md")


def made(seed: int = 0) -> ResNet:
    return fill(ResNet(SMALL), seed)


def model(folder: Path, seed: int = 0) -> dict[str, bytes]:
    made(seed).save_pretrained(folder)
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A model folder's files."""
    return model(tmp_path_factory.mktemp("files") / "model")


@pytest.fixture
def hub(monkeypatch, tmp_path: Path, files):
    """A Hub that holds ``org/net``, and this process led to it, its caches empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with LoopbackHub() as hub:
        hub.attach(monkeypatch, tmp_path / "hf")
        hub.add("org/net", files)
        yield hub


def same(net: ResNet, seed: int = 0) -> bool:
    expected = made(seed).state_dict()
    return all(torch.equal(tensor, expected[name]) for name, tensor in net.state_dict().items())


def kept(tmp_path: Path) -> list[str]:
    """The files of the cache, its locks and notes left out."""
    files = [path for path in (tmp_path / "torch").rglob("*") if path.is_file()]
    return sorted(p.name for p in files if not re.fullmatch(r"\..+\.(lock|json)", p.name))


def refusal(kind: type[Exception], source: str, **how: object) -> str:
    with pytest.raises(kind) as caught:
        ResNet.from_pretrained(source, **how)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("source", ["org/net", "hf:org/net", "hf:org/net@main"])
def test_a_repository_is_fetched_once_and_loaded_without_a_request_from_then_on(hub, source: str):
    assert same(ResNet.from_pretrained(source))
    assert hub.asked("GET", "config.json") == 1
    assert hub.asked("GET", "/_lfs/") == 1
    before = len(hub.log)
    assert same(ResNet.from_pretrained(source))
    assert same(ResNet.from_pretrained("org/net", local_files_only=True))
    assert len(hub.log) == before


def test_branches_tags_and_commits_are_told_apart(hub, tmp_path: Path):
    first = hub.repos["org/net"].branches["main"]
    hub.add("org/net", model(tmp_path / "new", 1), tag="v2")
    hub.repos["org/net"].branches["feature/x"] = first
    assert same(ResNet.from_pretrained("org/net"), 1)
    assert same(ResNet.from_pretrained(f"org/net@{first}"), 0)
    assert same(ResNet.from_pretrained("org/net@feature/x"), 0)
    before = len(hub.log)
    assert same(ResNet.from_pretrained("org/net@feature/x"), 0)
    assert len(hub.log) == before
    assert same(ResNet.from_pretrained("org/net@v2"), 1)
    assert hub.asked("GET", "/_lfs/") == 2


def test_what_a_branch_was_it_stays_until_the_cache_is_cleared(hub, tmp_path: Path):
    ResNet.from_pretrained("org/net")
    hub.add("org/net", model(tmp_path / "new", 1))
    assert same(ResNet.from_pretrained("org/net"), 0)
    cache.clear()
    assert same(ResNet.from_pretrained("org/net"), 1)


def test_a_private_repository_needs_the_token(hub, files, monkeypatch):
    hub.add("org/private", files, private=True)
    hub.add("org/gated", files, gated=True)
    assert "no such repository, or a private one" in refusal(DataMissing, "org/private")
    assert "is gated: ask for access on its page" in refusal(DataMissing, "org/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the Hub answers 401; is HF_TOKEN right?" in refusal(DataMissing, "org/private")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert same(ResNet.from_pretrained("org/private"))
    assert same(ResNet.from_pretrained("org/gated"))
    assert not any(request.authorised for request in hub.log if "/_lfs/" in request.path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("org/nothing", "no such repository, or a private one"),
        ("org/net@nothing", "has no revision 'nothing'"),
        ("org/other", "no model folder (it lacks config.json or model"),
    ],
)
def test_what_the_hub_does_not_hold_is_one_line(hub, source: str, words: str):
    hub.add("org/other", {"README.md": "nothing else"})
    assert words in refusal(DataMissing, source)


@pytest.mark.fault("H8")
@pytest.mark.parametrize("env", [True, False])
def test_offline_nothing_is_asked(hub, monkeypatch, env: bool):
    if env:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = "hf:org/net: not cached, and requests are forbidden"
    assert words in refusal(DataMissing, "org/net", local_files_only=not env)
    assert hub.log == []


@pytest.mark.fault("H8")
def test_a_hub_that_is_down_costs_little_and_one_line(hub, monkeypatch):
    hub.__exit__()
    began = time.monotonic()
    assert "cannot be reached" in refusal(DataMissing, "org/net")
    assert time.monotonic() - began < 5


@pytest.mark.fault("H2")
def test_a_cut_connection_is_resumed(hub):
    hub.faults.append(Fault("GET /_lfs/", cut_after=10_000, times=1))
    assert same(ResNet.from_pretrained("org/net"))
    assert [r.status for r in hub.log if r.method == "GET" and "/_lfs/" in r.path] == [200, 206]


def flipped(data: bytes) -> bytes:
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


@pytest.mark.fault("H1")
@pytest.mark.parametrize("part", ["/_lfs/", "config.json"])
def test_wrong_bytes_of_the_right_length_are_refused_and_the_next_good_ones_load(
    hub, files, tmp_path: Path, part: str
):
    name = "config.json" if part == "config.json" else "model.safetensors"
    hub.faults.append(Fault(f"GET .*{part}", body=flipped(files[name]), times=1))
    assert "nothing was kept" in refusal(CorruptFile, "org/net")
    assert kept(tmp_path) == []
    assert same(ResNet.from_pretrained("org/net"))


@pytest.mark.fault("H3")
@pytest.mark.parametrize("damage", [flipped, lambda data: data[:10], lambda data: b""])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_is_damaged_in_the_cache_is_fetched_again_or_refused_offline(
    hub, monkeypatch, damage, name: str
):
    ResNet.from_pretrained("org/net")
    (entry,) = cache.entries()
    path = entry.folder / name
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(CorruptFile, "org/net", local_files_only=True)
    assert str(path) in message
    assert same(ResNet.from_pretrained("org/net"))
    assert same(ResNet.from_pretrained("org/net", local_files_only=True))


@pytest.mark.fault("H4")
@pytest.mark.parametrize(
    ("pattern", "headers"),
    [
        ("HEAD .*config.json", {"X-Repo-Commit": "../../../../outside"}),
        ("HEAD .*config.json", {"X-Repo-Commit": "/tmp/outside"}),
        ("HEAD .*config.json", {"X-Repo-Commit": "a" * 39}),
        ("HEAD .*config.json", {"X-Repo-Commit": None}),
        ("HEAD .*config.json", {"ETag": '"../../../outside"'}),
        ("HEAD .*config.json", {"ETag": "/outside"}),
        ("HEAD .*config.json", {"ETag": None}),
        ("HEAD .*safetensors", {"X-Linked-ETag": '"../../outside"'}),
        ("HEAD .*safetensors", {"X-Linked-Size": "99999999999"}),
        ("HEAD .*safetensors", {"X-Linked-Size": "-5"}),
        ("HEAD .*safetensors", {"X-Linked-Size": "12"}),
        ("HEAD .*safetensors", {"X-Repo-Commit": "b" * 40}),
        ("HEAD .*safetensors", {"Location": "file:///etc/passwd"}),
        ("GET .*_lfs", {"Content-Length": "99999999999"}),
        ("GET .*_lfs", {"Content-Length": "9" * 5000}),
        ("HEAD .*config.json", {"Content-Length": "9" * 5000}),
        ("HEAD .*config.json", {"Content-Length": "9" * 4000}),
        ("HEAD .*safetensors", {"X-Linked-Size": "9" * 4000}),
        ("HEAD .*safetensors", {"Location": "http://h:abc/x"}),
        ("HEAD .*safetensors", {"Location": "http://[::/x"}),
        ("HEAD .*safetensors", {"Location": "http://a..b/x"}),
        ("HEAD .*config.json", {"Content-Length": "9999999"}),
    ],
)
def test_hostile_headers_name_no_file_and_take_no_memory(
    hub, tmp_path: Path, pattern: str, headers: dict
):
    hub.faults.append(Fault(pattern, headers=headers))
    before = {path for path in tmp_path.rglob("*") if "torch" not in path.parts}
    assert len(refusal(ResNetHubError, "org/net")) < 250
    assert kept(tmp_path) == []
    after = {path for path in tmp_path.rglob("*") if "torch" not in path.parts}
    assert after == before


@pytest.mark.fault("H4")
@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("0", "model.safetensors has no byte at all"),
        ("-5", "model.safetensors has no byte at all"),
        ("99999999999", "model.safetensors has over 1,228,162 bytes"),
    ],
)
def test_a_size_that_cannot_be_is_said(hub, size: str, words: str):
    hub.faults.append(Fault("HEAD .*safetensors", headers={"X-Linked-Size": size}))
    message = refusal(CorruptFile, "org/net")
    assert message.startswith(f"hf:org/net: by what the server states, {words}")


ENDPOINTS = [
    "http://h:abc",
    "http://h:99999",
    "nonsense",
    "ftp://x",
    "",
    "http://[::",
    "http://a..b",
]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_hub_of_no_address_is_one_line(hub, monkeypatch, endpoint: str):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert refusal(InvalidSetting, "org/net") == (
        "HF_ENDPOINT: is no web address, such as https://huggingface.co; mend or unset it"
    )


@pytest.mark.parametrize("arguments", [("predict", "org/net", "x.png"), ("push", ".", "org/net")])
def test_a_command_says_it_before_the_client_is_imported(tmp_path: Path, arguments):
    own = {"HF_ENDPOINT": "http://h:abc", "HF_TOKEN": "hf_good", "TORCH_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "resnet_hub.cli", *arguments],
        env={**environment(), **own},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("resnet-hub: HF_ENDPOINT: is no web address")
    assert done.stderr.count("\n") == 1


def test_a_client_that_does_not_load_keeps_no_message_back(tmp_path: Path):
    code = """
import sys
from resnet_hub.weights.tokens import without_token
try:
    import huggingface_hub.utils._http
except ValueError:
    sys.stderr.write(without_token("a hf_good line"))
"""
    own = {"HF_ENDPOINT": "http://h:abc", "HF_TOKEN": "hf_good"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), **own},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr in ("a *** line", "")  # the client's first releases load


def test_a_card_of_other_weights_is_refused(hub, files, tmp_path: Path):
    other = model(tmp_path / "other", 1)
    hub.add("org/mixed", {**files, "model.safetensors": other["model.safetensors"]})
    assert "its card says" in refusal(CorruptFile, "org/mixed")
    assert kept(tmp_path) == []


@pytest.mark.fault("L5")
@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"architecture": {"depths": [10**9]}},
        {"padding": "x" * (1 << 20)},
    ],
)
def test_a_hostile_card_is_refused_before_the_weights_are_asked_for(hub, files, change: dict):
    content = {**json.loads(files["config.json"]), **change}
    hub.add("org/hostile", {**files, "config.json": json.dumps(content)})
    refusal(CorruptFile, "org/hostile")
    assert hub.asked("HEAD", "model.safetensors") == 0


@pytest.mark.fault("L4")
def test_no_pickle_of_a_repository_is_ever_asked_for(hub, files):
    others = {"pytorch_model.bin": b"\x80\x04.", "model.ckpt": b"\x80\x04."}
    hub.add("org/pickles", {"config.json": files["config.json"], **others})
    refusal(DataMissing, "org/pickles")
    assert not [r for r in hub.log if r.path.endswith((".bin", ".ckpt"))]


def test_a_copy_of_the_hubs_own_client_is_used_if_it_is_whole(hub, monkeypatch):
    from huggingface_hub import snapshot_download

    copy = Path(snapshot_download("org/net"))
    before = len(hub.log)
    assert same(ResNet.from_pretrained("org/net"))
    assert len(hub.log) == before
    blob = (copy / "model.safetensors").resolve()
    blob.write_bytes(flipped(blob.read_bytes()))
    assert same(ResNet.from_pretrained("org/net"))
    assert len(hub.log) > before


@pytest.mark.fault("H3")
def test_a_copy_of_the_hubs_own_client_with_another_card_is_not_used(hub, files):
    from huggingface_hub import snapshot_download

    card = (Path(snapshot_download("org/net")) / "config.json").resolve()
    changed = files["config.json"].replace(b'"size": 32', b'"size": 16')
    assert changed != files["config.json"]
    card.write_bytes(changed)
    assert ResNet.from_pretrained("org/net").preprocess.size == 32


@pytest.mark.fault("H8")
def test_an_answer_that_does_not_end_is_given_up(hub, monkeypatch):
    monkeypatch.setattr(huggingface, "_ANSWER", 0.5)
    hub.faults.append(Fault("HEAD", endless=True))
    assert refusal(DataMissing, "org/net") == (
        "hf:org/net: the Hub cannot be reached (TimeoutError); try again"
    )


def test_a_commit_is_that_commit(hub, files, tmp_path: Path):
    other = hub.repos["org/net"].branches["main"]
    hub.repos["org/net"].branches["b" * 40] = other
    assert "another commit under that name" in refusal(CorruptFile, f"org/net@{'b' * 40}")


def test_the_token_goes_over_no_other_scheme(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    place = {"Location": hub.storage.replace("http:", "ftp:")}
    hub.faults.append(Fault("HEAD .*safetensors", headers=place))
    assert "the server sends to ftp:, not http:" in refusal(CorruptFile, "org/net")


@pytest.mark.fault("H6")
@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_an_error_carries_no_cause_that_repeats_the_token(hub, monkeypatch, status: int):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    hub.faults.append(Fault("HEAD", status=status, message="bad token {token}"))
    with pytest.raises(DataMissing) as caught:
        ResNet.from_pretrained("org/net")
    assert "hf_good" not in "".join(traceback.format_exception(caught.value))


def test_a_token_that_no_header_can_hold_is_one_line(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_gööd")
    assert "are its name and HF_TOKEN right?" in refusal(DataMissing, "org/net")


@pytest.mark.fault("H6")
def test_a_token_is_in_no_line_log_or_file(hub, monkeypatch, tmp_path: Path, caplog, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_sentinel")
    caplog.set_level(logging.DEBUG)
    hub.tokens = ("hf_sentinel",)
    hub.faults.append(Fault("HEAD", status=401, message="bad token {token}", times=1))
    message = refusal(DataMissing, "org/net")
    ResNet.from_pretrained("org/net")
    assert any(request.authorised for request in hub.log)
    out, err = capfd.readouterr()
    assert "hf_sentinel" not in message + out + err + caplog.text
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"hf_sentinel" not in path.read_bytes()


LOAD = """
from resnet_hub import ResNet
print(float(ResNet.from_pretrained("org/net").fc.weight.sum()))
"""


def process(hub: LoopbackHub, tmp_path: Path) -> "subprocess.Popen[str]":
    paths = {"TORCH_HOME": str(tmp_path / "torch"), **hub.environment(tmp_path / "hf")}
    return subprocess.Popen(
        [sys.executable, "-c", LOAD],
        env={**environment(), **paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.fault("H7")
def test_three_processes_that_fill_one_cache_end_well_and_fetch_once(hub, tmp_path: Path):
    processes = [process(hub, tmp_path) for _ in range(3)]
    answers = [each.communicate(timeout=100) for each in processes]
    assert {each.returncode for each in processes} == {0}, answers
    assert len({out for out, _ in answers}) == 1
    assert hub.asked("GET", "/_lfs/") == 1
    assert kept(tmp_path) == ["README.md", "config.json", "main", "model.safetensors"]


@pytest.mark.fault("H7")
def test_a_process_killed_while_it_fetches_leaves_nothing_that_the_next_one_does_not_sweep(
    hub, tmp_path: Path
):
    hub.faults.append(Fault("GET /_lfs/", cut_after=1000, holds=True))
    first = process(hub, tmp_path)
    while not hub.asked("GET", "/_lfs/"):
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    hub.faults.clear()
    assert same(ResNet.from_pretrained("org/net"))
    assert kept(tmp_path) == ["README.md", "config.json", "main", "model.safetensors"]


def test_a_process_that_is_told_to_end_while_it_fetches_leaves_nothing(hub, tmp_path: Path):
    hub.faults.append(Fault("GET /_lfs/", cut_after=1000, holds=True))
    first = process(hub, tmp_path)
    while not hub.asked("GET", "/_lfs/"):
        assert first.poll() is None
        time.sleep(0.01)
    first.terminate()
    first.communicate()
    assert first.returncode == 128 + signal.SIGTERM
    assert [path for path in (tmp_path / "torch").rglob("*") if path.suffix != ".lock"] == [
        *(tmp_path / "torch" / place for place in ("hub", "hub/resnet_hub", "hub/resnet_hub/hub")),
        tmp_path / "torch/hub/resnet_hub/hub/org--net",
    ]


@pytest.mark.fault("H3")
def test_a_cached_card_that_was_changed_is_fetched_again(hub, tmp_path: Path, files):
    ResNet.from_pretrained("org/net")
    (card,) = (tmp_path / "torch").rglob("*/config.json")
    card.write_text(card.read_text().replace('"size": 32', '"size": 16'))
    message = refusal(CorruptFile, "org/net", local_files_only=True)
    assert "config.json: changed since it was fetched; " in message
    assert message.endswith("`resnet-hub cache clear hf:org/net`")
    assert ResNet.from_pretrained("org/net").preprocess.size == 32
    assert card.read_bytes() == files["config.json"]
