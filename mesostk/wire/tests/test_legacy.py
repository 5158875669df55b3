"""The views of /state: keys, number formats, what is left out."""

from __future__ import annotations

import msgspec

from mesostk.wire import legacy, mesos
from mesostk.wire.json import encode


def _scalar(name: str, value: float, **fields: object) -> mesos.Resource:
    return mesos.Resource(name=name, type="SCALAR", scalar=mesos.Scalar(value), **fields)  # type: ignore[arg-type]  # each caller's fields are right


def _ports(*pairs: tuple[int, int], **fields: object) -> mesos.Resource:
    found = mesos.Ranges(range=tuple(mesos.Range(*pair) for pair in pairs))
    return mesos.Resource(name="ports", type="RANGES", ranges=found, **fields)  # type: ignore[arg-type]  # each caller's fields are right


def test_resources_always_show_four_scalars_and_sum_all_roles() -> None:
    view = legacy.resources_view(
        [
            _scalar("cpus", 0.1),
            _scalar("cpus", 0.2, role="eng"),
            _ports((33000, 33005), (31000, 31999)),
            _ports((32000, 32000), role="eng"),
            mesos.Resource(name="zones", type="SET", set=mesos.Set(item=("b", "a"))),
            _scalar("mem", 5.0, revocable=mesos.RevocableInfo()),
        ]
    )
    assert view == {
        "cpus": 0.3,
        "gpus": 0.0,
        "mem": 0.0,
        "disk": 0.0,
        "mem_revocable": 5.0,
        "ports": "[31000-32000, 33000-33005]",
        "zones": "{a, b}",
    }


def test_copies_of_a_shared_volume_count_once() -> None:
    volume = _scalar("disk", 10.0, shared=mesos.SharedInfo())
    assert legacy.resources_view([volume, volume])["disk"] == 10.0


def test_a_task_shows_the_keys_of_the_original() -> None:
    task = mesos.Task(
        name="web",
        task_id=mesos.TaskID("web.1"),
        framework_id=mesos.FrameworkID("F"),
        agent_id=mesos.AgentID("S1"),
        state="TASK_RUNNING",
        resources=(_scalar("cpus", 1.0, allocation_info=mesos.AllocationInfo(role="eng")),),
        labels=mesos.Labels(labels=(mesos.Label(key="a", value="b"), mesos.Label(key="c"))),
        statuses=(
            mesos.TaskStatus(
                task_id=mesos.TaskID("web.1"),
                state="TASK_RUNNING",
                message="not shown",
                timestamp=12.5,
                healthy=True,
                container_status=mesos.ContainerStatus(
                    executor_pid=7,
                    network_infos=(
                        mesos.NetworkInfo(
                            ip_addresses=(mesos.IPAddress(ip_address="10.0.0.1"),),
                            labels=mesos.Labels(labels=(mesos.Label(key="n"),)),
                        ),
                    ),
                ),
            ),
        ),
    )
    assert msgspec.json.decode(encode(legacy.task_view(task))) == {
        "id": "web.1",
        "name": "web",
        "framework_id": "F",
        "executor_id": "",
        "slave_id": "S1",
        "state": "TASK_RUNNING",
        "resources": {"cpus": 1.0, "gpus": 0.0, "mem": 0.0, "disk": 0.0},
        "role": "eng",
        "statuses": [
            {
                "state": "TASK_RUNNING",
                "timestamp": 12.5,
                "container_status": {
                    "network_infos": [
                        {
                            "labels": [{"key": "n"}],
                            "ip_addresses": [{"protocol": "IPv4", "ip_address": "10.0.0.1"}],
                        }
                    ]
                },
                "healthy": True,
            }
        ],
        "labels": [{"key": "a", "value": "b"}, {"key": "c"}],
    }


def test_a_queued_task_is_staging() -> None:
    info = mesos.TaskInfo(
        name="web", task_id=mesos.TaskID("t"), agent_id=mesos.AgentID("S"), resources=()
    )
    view = legacy.queued_task_view(info, "F")
    assert (view["state"], view["statuses"], view["executor_id"]) == ("TASK_STAGING", [], "")


def test_an_executor_shows_its_command_without_secrets() -> None:
    executor = mesos.ExecutorInfo(
        executor_id=mesos.ExecutorID("E"),
        framework_id=mesos.FrameworkID("F"),
        name="n",
        command=mesos.CommandInfo(
            value="run",
            environment=mesos.Environment(
                variables=(
                    mesos.Variable(name="A", value="1"),
                    mesos.Variable(name="B", type="SECRET", secret=mesos.Secret()),
                )
            ),
            uris=(mesos.CommandURI(value="http://h/x"),),
        ),
    )
    view = legacy.executor_view(executor, "S1")
    assert view["command"] == {
        "shell": True,
        "value": "run",
        "argv": (),
        "environment": {"variables": [{"name": "A", "value": "1"}]},
        "uris": [{"value": "http://h/x", "executable": False}],
    }
    assert view["slave_id"] == "S1"
    assert "role" not in view
    on_agent = legacy.agent_executor_view(executor, "c1", "/sandbox")
    assert (on_agent["id"], on_agent["container"], on_agent["directory"]) == ("E", "c1", "/sandbox")


def test_a_framework_shows_role_or_roles_by_its_capability() -> None:
    single = mesos.FrameworkInfo(user="root", name="m", role="web")
    assert legacy.framework_view(single)["role"] == "web"
    assert legacy.framework_view(single)["webui_url"] == ""
    multi = mesos.FrameworkInfo(
        user="root",
        name="m",
        id=mesos.FrameworkID("F"),
        roles=("a", "b"),
        capabilities=(mesos.FrameworkCapability(type="MULTI_ROLE"), mesos.FrameworkCapability()),
    )
    view = legacy.framework_view(multi)
    assert view["roles"] == ("a", "b")
    assert "role" not in view
    assert view["capabilities"] == ["MULTI_ROLE"]


def test_attributes_show_numbers_as_numbers() -> None:
    view = legacy.agent_view(
        "S1",
        "host",
        5051,
        (
            mesos.Attribute(name="rack", type="TEXT", text=mesos.Text("r1")),
            mesos.Attribute(name="level", type="SCALAR", scalar=mesos.Scalar(3.0)),
            mesos.Attribute(
                name="keys", type="RANGES", ranges=mesos.Ranges(range=(mesos.Range(1, 2),))
            ),
        ),
        None,
    )
    assert view == {
        "id": "S1",
        "hostname": "host",
        "port": 5051,
        "attributes": {"rack": "r1", "level": 3.0, "keys": "[1-2]"},
    }


def test_an_offer_and_a_leader_show_their_ids() -> None:
    offer = mesos.Offer(
        id=mesos.OfferID("O1"),
        framework_id=mesos.FrameworkID("F"),
        agent_id=mesos.AgentID("S1"),
        hostname="h",
        allocation_info=mesos.AllocationInfo(role="*"),
    )
    assert legacy.offer_view(offer) == {
        "id": "O1",
        "framework_id": "F",
        "allocation_info": mesos.AllocationInfo(role="*"),
        "slave_id": "S1",
        "resources": {"cpus": 0.0, "gpus": 0.0, "mem": 0.0, "disk": 0.0},
    }
    leader = legacy.leader_view(mesos.MasterInfo(id="M", ip=16777343, hostname="h"))
    assert leader == {"id": "M", "pid": "", "port": 5050, "hostname": "h"}
