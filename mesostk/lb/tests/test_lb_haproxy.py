"""marathon-lb and HAProxy as processes: what changes reaches traffic, and no request is lost."""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mesostk.lb import runtime
from mesostk.lb.haproxy import run
from mesostk.testing.balanced import PATIENCE_S, Load, ScriptedMarathon, program, until
from mesostk.testing.requirements import require_haproxy
from mesostk.testing.site import IP, Site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    require_haproxy()
    made = Site(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_instances_come_and_go_without_a_reload_or_a_lost_request(site: Site) -> None:
    await site.grow("/web", 2)
    site.balancer.start()
    await site.settled()
    async with Load(site.balancer.url(), headers={"Host": "web.example"}) as load:
        await load.more(30)
        await site.grow("/web", 3)
        await site.marathon.emit()
        await site.settled()
        await load.more(50)
        for victim in list(site.backends["/web"][:3]):
            await site.kill("/web", victim)
        await site.settled()
        await load.more(50)
    assert load.failures == []
    assert len(load.answers) == 5

    async def counted() -> bool:
        return (await site.balancer.metrics())["lb/runtime_changes"] >= 6

    await until(counted, "six changes")
    assert (await site.balancer.metrics())["lb/reloads"] == 1


async def test_rolling_upgrade_loses_no_request_though_tasks_die_at_once(site: Site) -> None:
    await site.grow("/web", 3)
    site.balancer.start()
    await site.settled()
    async with Load(site.balancer.url(), headers={"Host": "web.example"}) as load:
        await load.more(20)
        for old in list(site.backends["/web"]):
            await site.grow("/web")
            await site.marathon.emit()
            await site.settled()
            await site.kill("/web", old)
        await site.settled()
        await load.more(30)
    assert load.failures == []


async def test_reload_and_restart_of_marathon_lb_lose_no_request(site: Site) -> None:
    await site.grow("/web", 2)
    site.balancer.start()
    await site.settled()
    async with Load(site.balancer.url(), headers={"Host": "web.example"}) as load:
        await load.more(20)
        for number in range(3):  # structure: each needs a reload
            await site.grow(f"/other{number}")
            await site.marathon.emit("api_post_event")
            await site.settled()
        assert (await site.get(site.balancer.url(2, "/_mlb_signal/usr1")))[0] == 200

        async def reloaded() -> bool:
            return (await site.balancer.metrics())["lb/reloads"] == 5

        await until(reloaded, "five reloads")
        site.balancer.stop()
        await load.more(20)
        site.balancer.start()
        await site.grow("/web")
        await site.marathon.emit()
        await site.settled()
        await load.more(20)
        # The new marathon-lb found everything as it should be and reloaded nothing.
        assert (await site.balancer.metrics()).get("lb/reloads", 0.0) <= 1
    assert load.failures == []


async def test_without_marathon_the_last_good_file_serves_on(site: Site) -> None:
    await site.grow("/web", 2)
    site.balancer.start()
    await site.settled()
    text = site.balancer.config.read_text()
    async with Load(site.balancer.url(), headers={"Host": "web.example"}) as load:
        await site.marathon.stop()
        await site.get(site.balancer.url(2, "/_mlb_signal/hup"))

        async def failed() -> bool:
            return (await site.balancer.metrics())["lb/failed_passes"] >= 1

        await until(failed, "a failed pass")
        await load.more(30)
        assert site.balancer.config.read_text() == text
        await site.marathon.start()
        await site.grow("/web")
        await site.settled()
    assert load.failures == []


async def test_second_marathon_takes_over(site: Site) -> None:
    await site.grow("/web", 2)
    other = ScriptedMarathon("127.0.0.62")
    await other.start()
    other.apps = site.marathon.apps
    site.balancer.marathons.append(other.url)
    site.balancer.start()
    await site.settled()
    async with Load(site.balancer.url(), headers={"Host": "web.example"}) as load:
        await site.marathon.stop()
        await site.grow("/web")
        await site.settled()  # by the pass that every new stream begins with
        await load.more(20)
    assert load.failures == []
    await other.stop()


async def test_port_9090_answers_as_the_originals(site: Site) -> None:
    await site.grow("/web")
    site.balancer.start("--haproxy-map")
    await site.settled()
    base = site.balancer.url(2, "")
    number = site.balancer.port + 100
    assert await site.get(base + "/_haproxy_getconfig") == (200, site.balancer.config.read_text())
    assert await site.get(base + "/_haproxy_getvhostmap") == (200, f"web.example web_{number}\n")
    assert await site.get(base + "/_haproxy_getappmap") == (200, f"/web web_{number}\n")
    assert (await site.get(base + "/_haproxy_health_check"))[0] == 200
    status, pids = await site.get(base + "/_haproxy_getpids")
    assert status == 200
    assert str(site.balancer.haproxy.pid if site.balancer.haproxy else "") in pids.split()
    assert (await site.get(base + "/_mlb_signal/hup"))[0] == 200
    status, text = await site.get(base + "/haproxy?stats;csv")
    assert f"web_{number},FRONTEND" in text
    assert "haproxy_backend_active_servers" in (await site.get(base + "/metrics"))[1]
    status, text = await site.get(base + "/_mlb_status")
    assert status == 200
    assert f'"backend":"web_{number}"' in text.replace(" ", "")


async def test_every_way_to_an_app_leads_to_it(site: Site) -> None:
    (backend,) = await site.grow("/web")
    site.balancer.start()
    await site.settled()
    answer = (200, f"/web:{backend.port}")
    await until_up(site)
    headers = {"Host": "web.example"}
    assert await site.get(site.balancer.url(0), headers=headers) == answer
    assert await site.get(f"http://{IP}:{site.balancer.port + 100}/") == answer
    assert await site.get(site.balancer.url(3), headers={"X-Marathon-App-Id": "/web"}) == answer
    context = ssl.create_default_context(cafile=str(site.directory / "lab.crt"))
    context.check_hostname = False
    secure = f"https://{IP}:{site.balancer.port + 1}/"
    options: dict[str, Any] = {"ssl": context, "server_hostname": "web.example"}
    assert await site.get(secure, **options) == answer
    assert (await site.get(site.balancer.url(0), headers={"Host": "no.example"}))[0] == 503


async def test_each_host_name_is_served_with_its_own_certificate(site: Site) -> None:
    authorities = {
        name: site.balancer.make_certificate(name) for name in ("web.example", "shop.example")
    }
    await site.grow("/web")
    await site.grow("/shop")
    site.balancer.start()
    await site.settled()
    await until_up(site)
    secure = f"https://{IP}:{site.balancer.port + 1}/"
    for name, authority in authorities.items():
        # Only this one is trusted, and only for its own name.
        context = ssl.create_default_context(cafile=str(authority))
        status, text = await site.get(secure, ssl=context, server_hostname=name)
        assert status == 200
        assert text.startswith("/" + name.partition(".")[0])
    strange = {"ssl": context, "server_hostname": "web.example"}
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await site.get(secure, **strange)


async def until_up(site: Site) -> None:
    async def up() -> bool:
        state = await runtime.ask(site.balancer.stats_socket, "show servers state", PATIENCE_S)
        return all(one.operational == 2 for one in runtime.servers(state))

    await until(up, "all servers up")


async def test_app_that_haproxy_refuses_is_left_out_and_named(site: Site) -> None:
    await site.grow("/web")
    await site.grow("/bad")
    site.marathon.apps["/bad"]["labels"]["HAPROXY_0_BACKEND_HTTP_OPTIONS"] = "  nonsense here\n"
    site.balancer.start()
    await site.balancer.serves(1)
    status, text = await site.get(site.balancer.url(4, "/_mlb_status"))
    assert status == 200
    assert "unknown keyword 'nonsense'" in text
    assert (await site.balancer.metrics())["lb/apps_left_out"] == 1
    assert "Leaving out" in site.balancer.log.read_text()
    site.publish("/bad")  # corrected
    await site.marathon.emit("api_post_event")
    await site.settled()


async def test_port_of_another_process_costs_only_its_app(site: Site) -> None:
    await site.grow("/web")
    stranger = await asyncio.start_server(lambda _r, _w: None, IP, site.balancer.port + 101)
    await site.grow("/late")
    site.balancer.start()
    await site.balancer.serves(1)
    assert "another process has the port" in site.balancer.log.read_text()
    stranger.close()
    await stranger.wait_closed()
    await site.get(site.balancer.url(2, "/_mlb_signal/hup"))
    await site.settled()


async def test_burst_of_events_is_one_change(site: Site) -> None:
    await site.grow("/web")
    site.balancer.start()
    await site.settled()
    fetches = site.marathon.fetches
    for _ in range(5):
        await site.grow("/web")
    await site.marathon.emit(times=50)
    await site.settled()
    assert site.marathon.fetches - fetches <= 3
    assert (await site.balancer.metrics())["lb/runtime_changes"] in (0, 5)  # counted when done

    async def counted() -> bool:
        return (await site.balancer.metrics())["lb/runtime_changes"] == 5

    await until(counted, "five changes")


async def test_cookies_make_a_reload_of_what_would_be_a_step(site: Site) -> None:
    site.labels["/web"] = {"HAPROXY_0_STICKY": "true"}
    await site.grow("/web")
    site.balancer.start()
    await site.settled()
    await site.grow("/web")
    await site.marathon.emit()
    await site.settled()

    async def reloaded() -> bool:
        return (await site.balancer.metrics())["lb/reloads"] == 2

    await until(reloaded, "two reloads")


@pytest.mark.parametrize("seed", [1, 2])
async def test_after_any_events_process_and_file_and_a_fresh_start_agree(
    site: Site, seed: int
) -> None:
    rng = random.Random(seed)
    await site.grow("/a", 2)
    site.balancer.start()
    await site.settled()
    for step in range(15):
        app_id = rng.choice(["/a", "/b", "/c"])
        backends = site.backends.get(app_id, [])
        if backends and rng.random() < 0.4:
            backends.remove(gone := rng.choice(backends))
            gone.die()
        elif backends and rng.random() < 0.2:
            site.labels[app_id] = {"HAPROXY_0_BALANCE": rng.choice(["leastconn", "source"])}
        else:
            await site.grow(app_id)
        if app_id in site.backends:
            site.publish(app_id)
        await site.marathon.emit()
        if step % 4 == 0:
            await site.settled()
    await site.settled()
    running = await site.balancer.running()
    code, output = await run([program(), "-c", "-f", str(site.balancer.config)], 90)
    assert code == 0, output
    assert site.balancer.haproxy is not None
    site.balancer.stop()
    site.balancer.haproxy.terminate()
    site.balancer.haproxy.wait(60)
    (site.directory / "global").unlink(missing_ok=True)
    site.balancer.start_haproxy()

    async def starts() -> bool:
        try:
            return await site.balancer.running() == running
        except OSError:
            return False

    await until(starts, "the same servers after a fresh start")


async def test_polling_sees_changes_without_any_event(site: Site) -> None:
    await site.grow("/web")
    site.balancer.start("--mode=poll", "--poll-interval=0.2")
    await site.settled()
    await site.grow("/web")
    await site.settled()
    assert not (await site.balancer.status())["marathon"]["connected"]


async def test_script_of_the_tutorial_makes_one_pass_and_dry_only_prints(site: Site) -> None:
    await site.grow("/web")
    code = "import sys; from mesostk.lb.daemon import main_py; sys.exit(main_py())"
    environ = [f"{name}={value}" for name, value in site.balancer.environ().items()]
    command = ["env", *environ, sys.executable, "-c", code, *site.balancer.arguments()]
    before = site.balancer.config.read_text()
    status, text = await run([*command, "--dry"], 90)
    assert status == 0
    assert "\nbackend web_" in text
    assert site.balancer.config.read_text() == before
    status, text = await run(command, 90)
    assert status == 0, text
    assert await site.balancer.running() == site.balancer.in_file() != set()
