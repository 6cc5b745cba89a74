"""Addresses of workers: what people write, and what `--rpc` gets."""

from __future__ import annotations

import pytest

from supervisor.profile.worker_address import WorkerAddress, parse_worker, parse_workers


@pytest.mark.parametrize(
    ("written", "passed"),
    [
        ("mini2.local", "mini2.local:50052"),
        ("10.0.0.3:50053", "10.0.0.3:50053"),
        (" mini-2 ", "mini-2:50052"),
        ("my_box.lan", "my_box.lan:50052"),
        ("localhost:1", "localhost:1"),
    ],
)
def test_the_port_is_added_where_it_is_missing(written, passed):
    assert str(parse_worker(written)) == passed


@pytest.mark.parametrize("written", ["[fd00::3]:50052", "fd00::3", "[::1]", "fe80::1%eth0"])
def test_ipv6_is_refused_with_the_reason(written):
    with pytest.raises(ValueError, match=r"IPv4 only; write the machine's IPv4 address"):
        parse_worker(written)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "http://mini2.local",
        "mini2:port",
        "mini2:1:2",
        "a b",
        "mini2:0",
        "mini2:70000",
        "-x",
        "a,b",
        "a..b",
        "5",
        "50052:1",
        "a" * 64,
    ],
)
def test_what_is_no_address_is_refused(written):
    with pytest.raises(ValueError, match="must"):
        parse_worker(written)


def test_several_are_separated_by_commas():
    assert parse_workers("10.0.0.3:1, mini2.local,") == (
        WorkerAddress("10.0.0.3", 1),
        WorkerAddress("mini2.local", 50052),
    )


@pytest.mark.parametrize(
    ("host", "is_private"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("10.0.0.3", True),
        ("192.168.1.9", True),
        ("169.254.1.1", True),
        ("100.100.1.1", True),
        ("8.8.8.8", False),
        ("0.0.0.0", False),
        ("mini2.local", None),
    ],
)
def test_which_addresses_a_private_network_has(host, is_private):
    assert WorkerAddress(host).is_private is is_private
