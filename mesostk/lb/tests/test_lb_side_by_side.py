"""Several load balancers that know nothing of each other, and Marathons that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesostk.lb import deployment
from mesostk.lb.zdd import Services
from mesostk.testing.balanced import Load, ScriptedMarathon
from mesostk.testing.requirements import require_haproxy
from mesostk.testing.site import Site

OTHER_IP = "127.0.0.62"
HEADERS = {"Host": "web.example"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Two balancers; each can be told from the other by its address only."""
    require_haproxy()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    made = Site(tmp_path / "one")
    await made.start()
    made.add_balancer(tmp_path / "two", OTHER_IP)
    yield made
    await made.stop()


async def test_two_balancers_serve_alike_and_rolling_upgrades_lose_nothing(site: Site) -> None:
    (other,) = site.others
    await site.grow("/web", 2)
    site.balancer.start()
    other.start()
    await site.settled()
    first, second = await site.balancer.running(), await other.running()
    assert first == second
    urls = [site.balancer.url(), other.url()]
    async with Load(urls[0], headers=HEADERS) as one, Load(urls[1], headers=HEADERS) as two:
        await one.more(20)
        for old in list(site.backends["/web"]):
            await site.grow("/web")
            await site.marathon.emit()
            await site.settled()
            await site.kill("/web", old)
        await site.settled()
        await one.more(20)
        await two.more(20)
    assert one.failures == []
    assert two.failures == []


async def test_restart_of_haproxy_loses_no_request_where_a_name_has_two_addresses(
    site: Site,
) -> None:
    (other,) = site.others
    await site.grow("/web", 2)
    site.balancer.start()
    other.start()
    await site.settled()
    async with Load(site.balancer.url(), headers=HEADERS, others=[other.url()]) as load:
        await load.more(30)
        for each in (site.balancer, other):
            await asyncio.to_thread(each.restart_haproxy)
            await site.settled()
            await load.more(30)
        await site.grow("/web")
        await site.marathon.emit()
        await site.settled()
        await load.more(20)
    assert load.failures == []


async def test_failover_of_marathon_loses_no_request_while_instances_come_and_go(
    site: Site,
) -> None:
    second = ScriptedMarathon("127.0.0.64")
    await second.start()
    second.apps = site.marathon.apps
    site.balancer.marathons.append(second.url)  # the list of both balancers
    await site.grow("/web", 3)
    site.balancer.start()
    site.others[0].start()
    await site.settled()
    first = site.marathon
    async with Load(site.balancer.url(), headers=HEADERS, others=[site.others[0].url()]) as load:
        await load.more(20)
        await first.stop()
        site.marathon = second  # it leads from now on, with what the first one knew
        await site.grow("/web", 2)
        await site.settled()
        await site.kill("/web", site.backends["/web"][0])
        await site.settled()
        await load.more(30)
        await first.start()
        site.marathon = first
        await second.stop()
        await site.grow("/web")
        await site.settled()
        await site.kill("/web", site.backends["/web"][0])
        await site.settled()
        await load.more(30)
    assert load.failures == []


async def test_deployment_looks_at_the_servers_of_both_balancers(site: Site) -> None:
    (other,) = site.others
    await site.grow("/web", 2)
    site.balancer.start()
    other.start()
    await site.settled()
    services = Services(site.marathon.url, [site.balancer.url(2, ""), other.url(2, "")])
    found = await asyncio.to_thread(services.statistics, f"web_{site.balancer.port + 100}")
    assert found is not None
    listeners, balancers = found
    assert balancers == 2
    assert len(listeners) == 4
    # One that cannot be asked might still send requests to what is to be killed.
    other.close()
    with pytest.raises(deployment.ZddError) as error:
        await asyncio.to_thread(services.statistics, f"web_{site.balancer.port + 100}")
    assert error.value.code == deployment.BALANCER
