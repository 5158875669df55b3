"""Whatever is in a leader's node, those who look for a leader live and say so."""

from __future__ import annotations

import json as plain
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesostk.agent.daemon import leader_url
from mesostk.base import election
from mesostk.base.client import Client, redirected
from mesostk.dns import members
from mesostk.errors import Unavailable, WireError
from mesostk.framework.core import leader_address, redirect_target
from mesostk.master.daemon import readable
from mesostk.testing.hostile import damaged, fuzz, garbage
from mesostk.wire import json
from mesostk.wire.mesos import MasterInfo

LEADER: dict[str, Any] = {
    "id": "m1",
    "ip": 16777343,
    "port": 5050,
    "pid": "master@127.0.0.1:5050",
    "hostname": "m1",
    "address": {"hostname": "m1", "ip": "127.0.0.1", "port": 5050},
}
WHOLE = plain.dumps(LEADER).encode()

#: What no URL can name, and no resolver is asked for.
NO_HOSTS = ("[::1", "a..b", ".", "x" * 300, "[é]", "[", "256.1.1.1")

#: Where no host is, or none that a URL can name.
hosts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        (
            "[::1",
            "a..b",
            ".",
            "",
            "x" * 300,
            "[é]",
            "a b",
            "h\nX: y",
            "\0",
            "[",
            "256.1.1.1",
            "@",
            "#",
        )
    ),
)
nodes = st.one_of(
    garbage,
    damaged(WHOLE),
    st.builds(
        lambda host, port: plain.dumps(
            {**LEADER, "hostname": host, "address": {"ip": host, "port": port}}
        ).encode("utf-8", "surrogatepass"),
        hosts,
        st.integers(-(2**40), 2**40),
    ),
    hosts.map(lambda host: f"{host}:5050".encode("utf-8", "replace")),
)


def url_of(data: bytes) -> str:
    return leader_url(json.decode(data, MasterInfo))


@fuzz(150)
@given(nodes)
@example(b'{"id":"m","ip":1,"port":1,"address":{"ip":"[::1","port":1}}')
def test_a_leaders_node_is_an_address_or_refused(data: bytes) -> None:
    for read in (url_of, leader_address, lambda data: members.address_of("json.info_1", data)):
        with suppress(WireError):
            assert isinstance(read(data), str)
    try:
        found = readable(json.decode(data, MasterInfo))
    except WireError:
        return
    assert found.hostname is None or found.hostname.isprintable()


@fuzz(100)
@given(st.lists(st.text(max_size=12) | st.integers().map(lambda n: f"json.info_{n}"), max_size=4))
@example(["json.info_" + "9" * 5000])
def test_any_names_are_candidates_or_passed_over(names: list[str]) -> None:
    leader = election.leader_of(names)
    assert leader is None or leader in names
    assert set(members.candidates(names)) <= set(names)


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_an_address_that_is_none_is_a_peer_that_cannot_be_reached(host: str) -> None:
    client = Client("test")
    try:
        with pytest.raises(Unavailable):
            await client.open("GET", f"http://{host}:1/")
    finally:
        await client.close()


@fuzz(100)
@given(st.text(max_size=30) | hosts.map(lambda host: f"//{host}"))
@example("//[x")
def test_any_location_is_a_redirect_or_refused(location: str) -> None:
    redirect_target(location)
    with suppress(Unavailable):
        assert redirected("http://h:1/x", location).startswith("http")
