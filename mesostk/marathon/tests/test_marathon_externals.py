"""External volumes: accepted or refused with the reason. Source: spec/marathon §2.2."""

from __future__ import annotations

from typing import Any

import pytest

from mesostk.marathon.events import ChangeGroup, CreateApp, Reply
from mesostk.marathon.externals import ISOLATORS
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import World
from mesostk.wire.marathon import ErrorBody


def world(*features: str) -> World:
    made = World(settings=Settings(features=frozenset({"external_volumes", *features})))
    made.connect()
    return made


def external(**changes: Any) -> dict[str, Any]:
    return {"name": "data", "provider": "dvdi", "options": {"dvdi/driver": "local"}, **changes}


def app(*volumes: dict[str, Any], kind: str = "DOCKER", **fields: Any) -> dict[str, Any]:
    container: dict[str, Any] = {
        "type": kind,
        "volumes": [
            {"containerPath": f"/d{index}", "mode": "RW", "external": each}
            for index, each in enumerate(volumes)
        ],
    }
    if kind == "DOCKER":
        container["docker"] = {"image": "alpine"}
    return {"id": "/db", "cmd": "sleep 1000", "cpus": 0.1, "container": container, **fields}


def why(reply: Reply) -> list[tuple[str, str]]:
    assert reply.status == 422, reply
    assert isinstance(reply.body, ErrorBody)
    assert isinstance(reply.body.details, tuple)
    return [(each.path, each.errors[0]) for each in reply.body.details]


AT = "/container/volumes(0)/external"


@pytest.mark.parametrize(
    ("body", "path", "text"),
    [
        (app(external(), instances=2), "/instances",
         "Number of instances is limited to 1 when declaring DVDI volumes in app [/db]"),
        (app(external(), upgradeStrategy={"maximumOverCapacity": 1}),
         "/upgradeStrategy/maximumOverCapacity", "must be 0 with external volumes"),
        (app(external(), external()), "/container/volumes",
         "Requested DVDI volume 'data' is declared more than once within app /db"),
        (app(external(provider="csi")), f"{AT}/provider", "csi needs agents with CSI plugins"),
        (app(external(provider="x")), f"{AT}/provider", "is unknown provider"),
        (app(external(name="")), f"{AT}/name", "must not be empty"),
        (app(external(options={})), f"{AT}/options", "must name the volume driver"),
        (app(external(size=5)), f"{AT}/size", "must be undefined for Docker containers"),
        (app(external(options={"dvdi/driver": "x", "dvdi/iops": "5"})), f"{AT}/options",
         "must only contain dvdi/driver"),
        (app(external(), kind="MESOS"), AT, "agents mount external volumes only into Docker"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_reason(
    body: dict[str, Any], path: str, text: str
) -> None:
    found = why(world().ask(CreateApp, body=body))
    assert [(at, said[: len(text)]) for at, said in found] == [(path, text)]


def test_without_the_feature_they_are_refused_with_the_flag(world: World) -> None:
    [(path, text)] = why(world.ask(CreateApp, body=app(external())))
    assert path == "/container/volumes"
    assert "--enable_features external_volumes" in text


def test_a_volume_driver_of_docker_gets_the_volume_by_name() -> None:
    made = world()
    assert made.ask(CreateApp, body=app(external())).status == 201
    made.offer()
    [task] = made.tasks.values()
    assert task.container is not None
    [volume] = task.container.volumes
    assert volume.source is not None
    named = volume.source.docker_volume
    assert named is not None
    assert (named.driver, named.name, named.driver_options) == ("local", "data", None)


def test_agents_with_the_isolator_get_size_and_options() -> None:
    made = world(ISOLATORS)
    wanted = external(size=5, options={"dvdi/driver": "rexray", "dvdi/iops": "7"})
    assert made.ask(CreateApp, body=app(wanted, kind="MESOS")).status == 201
    made.offer()
    [task] = made.tasks.values()
    assert task.container is not None
    [volume] = task.container.volumes
    assert volume.source is not None
    named = volume.source.docker_volume
    assert named is not None
    assert named.driver_options is not None
    options = {each.key: each.value for each in named.driver_options.parameter}
    assert (named.driver, options) == ("rexray", {"iops": "7", "size": "5"})


def test_a_name_belongs_to_one_app_unless_all_share_it() -> None:
    made = world()
    assert made.ask(CreateApp, body=app(external())).status == 201
    other = {**app(external()), "id": "/other"}
    assert why(made.ask(CreateApp, body=other)) == [
        (
            "/container/volumes",
            "Volume name 'data' in /other conflicts with volume(s) of same name in app(s): /db",
        )
    ]
    shared = [{**app(external(name="s", shared=True)), "id": f"/s{n}"} for n in (1, 2)]
    assert [made.ask(CreateApp, body=body).status for body in shared] == [201, 201]
    one_only = {**app(external(name="s")), "id": "/s3"}
    [(_, text)] = why(made.ask(CreateApp, body=one_only))
    assert text.endswith("in app(s): /s1, /s2")


def test_an_app_may_take_over_the_volume_of_one_that_goes_with_the_same_change() -> None:
    made = world()
    assert made.ask(CreateApp, body={**app(external()), "id": "/g/old"}).status == 201
    new = {**app(external()), "id": "new"}
    reply = made.ask(ChangeGroup, group_id="/g", body={"apps": [new]}, force=True)
    assert reply.status == 200
