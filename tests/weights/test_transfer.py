"""Fetching files: what servers and networks do to a download."""

import hashlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest
from loopback_hub import Fault, LoopbackHub

from resnet_hub.errors import CorruptFile, DataMissing
from resnet_hub.weights import transfer
from resnet_hub.weights.transfer import download, shown

DATA = bytes(range(256)) * 20_000  # 5 MB
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        hub.files["/file"] = DATA
        yield hub


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where to; an older file is there."""
    path = tmp_path / "file"
    path.write_bytes(b"older")
    return path


def refused(kind: type[Exception], hub: LoopbackHub, path: Path, **how: object) -> str:
    """Download in vain: nothing but the older file is left. Return the message."""
    with pytest.raises(kind) as caught:
        download(f"{hub.url}/file", path, **how)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == {"file": b"older"}
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("asked", [None, DIGEST, DIGEST[:8]])
def test_a_file_replaces_the_older_one_and_its_digest_is_known(hub, path: Path, asked: str | None):
    assert download(f"{hub.url}/file", path, sha256=asked, size=len(DATA)) == DIGEST
    assert path.read_bytes() == DATA
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_an_empty_file_can_be_fetched(hub, path: Path):
    hub.files["/file"] = b""
    assert download(f"{hub.url}/file", path) == hashlib.sha256().hexdigest()
    assert path.read_bytes() == b""


@pytest.mark.fault("H2")
def test_a_cut_connection_is_taken_up_where_it_broke(hub, path: Path):
    hub.faults.append(Fault("GET /file", cut_after=3_000_000, times=1))
    hub.faults.append(Fault("GET /file", cut_after=1_000_000, times=1))
    assert download(f"{hub.url}/file", path, sha256=DIGEST) == DIGEST
    assert [request.status for request in hub.log] == [200, 206, 206]


def test_a_server_that_knows_no_parts_is_asked_for_the_whole_again(hub, path: Path):
    hub.faults.append(Fault("GET /file", cut_after=3_000_000, times=1))
    hub.faults.append(Fault("GET /file", headers={"Content-Range": "bytes 4000000-"}, times=1))
    hub.faults.append(Fault("GET /file", status=503, times=1))
    assert download(f"{hub.url}/file", path, sha256=DIGEST) == DIGEST


def test_a_connection_that_brings_nothing_is_given_up(hub, path: Path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.faults.append(Fault("GET /file", cut_after=0))
    assert "could not be fetched (the connection ended early)" in refused(DataMissing, hub, path)
    assert len(hub.log) == 5


@pytest.mark.fault("H2")
@pytest.mark.parametrize(
    ("fault", "how", "words"),
    [
        (Fault("", body=DATA[:-1] + b"!"), {"sha256": DIGEST}, "another file (SHA-256 "),
        (Fault("", body=DATA[:-1]), {"sha256": DIGEST}, "another file (SHA-256 "),
        (Fault("", body=DATA[:-1]), {"size": len(DATA)}, "5,119,999 bytes, not 5,120,000"),
        (Fault("", body=DATA + b"!"), {"size": len(DATA)}, "5,120,001 bytes, not 5,120,000"),
        (Fault("", headers={"Content-Length": None}), {"most": 1_000_000}, "over 1,000,000 bytes"),
        (Fault("", headers={"Content-Length": None}), {"size": 7}, "over 7 bytes"),
        (Fault(""), {"most": 1_000_000}, "over 1,000,000 bytes"),
        (Fault("", headers={"Content-Length": "9" * 5000}), {}, "(of a length that no file has)"),
        (Fault("", headers={"Content-Length": "9" * 4000}), {}, "(of a length that no file has)"),
    ],
)
def test_another_file_than_was_asked_for_is_refused(hub, path: Path, fault, how, words: str):
    hub.faults.append(fault)
    message = refused(CorruptFile, hub, path, **how)
    assert message.startswith(f"{hub.url}/file: what came is another file")
    assert words in message


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429])
def test_a_refusal_of_the_server_is_said_at_once_and_not_in_its_words(hub, path: Path, status):
    hub.faults.append(Fault("GET /file", status=status, message="secret words"))
    message = refused(DataMissing, hub, path)
    assert message == f"{hub.url}/file: the server answers {status}"
    assert len(hub.log) == 1


def test_a_servers_bad_moment_passes(hub, path: Path):
    hub.faults.append(Fault("GET /file", status=503, times=2))
    assert download(f"{hub.url}/file", path, sha256=DIGEST) == DIGEST


@pytest.mark.fault("H5")
def test_headers_are_for_the_asked_server_and_no_other(hub, path: Path):
    away = {"Location": f"{hub.storage}/away"}
    hub.files["/away"] = DATA
    hub.faults.append(Fault("GET /file", status=302, times=1))
    hub.faults[0].headers = away
    download(f"{hub.url}/file", path, headers={"authorization": "Bearer hf_good"})
    assert [(r.path, r.authorised) for r in hub.log] == [("/file", True), ("/away", False)]


@pytest.mark.fault("H5")
def test_a_redirect_to_a_file_of_this_machine_is_not_followed(hub, path: Path, tmp_path: Path):
    secret = tmp_path.with_name("secret")
    secret.write_text("secret")
    hub.faults.append(Fault("GET /file", status=302, headers={"Location": f"file://{secret}"}))
    refused(DataMissing, hub, path)


@pytest.mark.fault("H5")
@pytest.mark.parametrize("place", ["ftp://127.0.0.1/file", "data:,file"])
def test_a_redirect_out_of_the_web_is_not_followed(hub, path: Path, place: str):
    hub.faults.append(Fault("GET /file", status=302, headers={"Location": place}))
    refused(DataMissing, hub, path)


def test_a_server_that_goes_back_and_forth_is_given_up(hub, path: Path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for cut in (900, 500) * 20:
        hub.faults.append(Fault("GET /file", cut_after=cut, times=1))
        hub.faults[-1].headers = {"Content-Range": "bytes 0-"}
    assert "could not be fetched" in refused(DataMissing, hub, path)
    assert len(hub.log) < 10


def test_a_server_that_drips_is_given_up(hub, path: Path, monkeypatch):
    monkeypatch.setattr(transfer, "_GRACE", 0)
    monkeypatch.setattr(transfer, "_SLOWEST", 1 << 50)
    assert "given up (under " in refused(DataMissing, hub, path)


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".org", "h:abc", "h:99999"])
def test_a_redirect_to_what_is_no_address_is_one_line(hub, path: Path, monkeypatch, capfd, host):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    headers = {"Location": f"http://{host}/file"}
    hub.faults.append(Fault("GET /file", status=302, headers=headers))
    assert "could not be fetched" in refused(DataMissing, hub, path)
    assert "Traceback" not in capfd.readouterr().err


# Answers that do not come to their point


@contextmanager
def server(answer: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None):
    """A server that lets ``answer`` say what it likes; its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connected, _ = listening.accept()
            except OSError:
                return
            connected.settimeout(1)  # a client that hangs up may leave a full pipe
            with suppress(OSError), connected:
                if tls:
                    connected = tls.wrap_socket(connected, server_side=True)
                with connected:
                    connected.recv(1 << 16)
                    answer(connected)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def continues(connected: socket.socket) -> None:
    while True:
        connected.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def drips(connected: socket.socket) -> None:
    connected.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        connected.sendall(b"x")
        time.sleep(0.01)


def is_silent(connected: socket.socket) -> None:
    connected.recv(1)


@pytest.fixture
def tls(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> ssl.SSLContext:
    """What a server of this machine shows, and this process trusts it."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=here"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "here.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "here.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "here.pem", folder / "key.pem")
    return context


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(transfer, "_ANSWER", 0.2)
    monkeypatch.setattr(transfer, "_TRIES", 2)


@pytest.mark.parametrize("answer", [continues, drips, is_silent])
def test_an_answer_whose_head_does_not_end_is_given_up(tmp_path: Path, impatient, answer):
    with server(answer) as port, pytest.raises(DataMissing) as caught:
        download(f"http://127.0.0.1:{port}/file", tmp_path / "file")
    assert str(caught.value) == (
        f"http://127.0.0.1:{port}/file: could not be fetched (no answer in 0 seconds); try again"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [continues, drips])
def test_over_tls_too(tmp_path: Path, impatient, tls: ssl.SSLContext, answer):
    with server(answer, tls) as port, pytest.raises(DataMissing, match="no answer in 0 seconds"):
        download(f"https://127.0.0.1:{port}/file", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def whole(connected: socket.socket) -> None:
    connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile")


def test_a_server_of_tls_is_trusted_by_its_certificate_alone(tmp_path: Path, tls, monkeypatch):
    with server(whole, tls) as port:
        assert download(f"https://127.0.0.1:{port}/file", tmp_path / "file", size=4)
        monkeypatch.setattr(transfer, "_TRIES", 1)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(DataMissing, match="certificate verify failed"):
            download(f"https://127.0.0.1:{port}/file", tmp_path / "other")
    assert (tmp_path / "file").read_bytes() == b"file"
    assert not (tmp_path / "other").exists()


def test_of_a_redirect_only_the_head_is_read(hub, path: Path):
    def endless(connected: socket.socket) -> None:
        head = f"HTTP/1.1 302 Found\r\nLocation: {hub.url}/file\r\n\r\n"
        connected.sendall(head.encode())
        while True:
            connected.sendall(bytes(1000))

    with server(endless) as port:
        assert download(f"http://127.0.0.1:{port}/file", path) == DIGEST


@pytest.mark.fault("H8")
def test_a_server_that_is_down_costs_little_and_one_line(path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(DataMissing, match=rf"127\.0\.0\.1:{port} cannot be reached"):
        download(f"http://127.0.0.1:{port}/file", path)
    assert time.monotonic() - began < 5


@pytest.mark.fault("H6")
def test_what_may_be_secret_in_a_url_is_not_shown():
    assert shown("https://me:pw@host:8/a/b?token=x#y") == "https://host:8/a/b"
