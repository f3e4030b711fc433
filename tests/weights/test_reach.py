"""A server that is down costs seconds and one line, and a call is over in time."""

import socket
import time

import pytest

from resnet_hub.errors import DataMissing
from resnet_hub.weights import reach
from resnet_hub.weights.reach import in_time, probe


def test_a_host_that_has_no_encoding_is_one_line(capfd):
    for host in ("a..b", "a" * 64 + ".org"):
        with pytest.raises(DataMissing, match="cannot be reached"):
            probe(f"https://{host}/x")
    assert capfd.readouterr().err == ""


@pytest.mark.fault("H8")
def test_a_server_that_does_not_answer_costs_little(monkeypatch):
    monkeypatch.setattr(reach, "_PATIENCE", 0.2)

    def silent(*_: object, **__: object) -> None:
        time.sleep(10)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", silent)
    began = time.monotonic()
    with pytest.raises(DataMissing, match=r"example\.org:443 cannot be reached"):
        probe("https://example.org/x")
    assert time.monotonic() - began < 5


def test_a_call_that_heeds_no_timeout_is_over_in_time():
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer in 0 seconds"):
        in_time(lambda: time.sleep(5), 0.1)
    assert time.monotonic() - began < 4


def test_what_a_call_brings_or_raises_comes_through():
    def late() -> None:
        raise TimeoutError("its own")

    assert in_time(lambda: 7, 5) == 7
    with pytest.raises(TimeoutError, match="its own"):
        in_time(late, 5)
