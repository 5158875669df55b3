"""The filter that holds the inventory's variables against what the roles know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import StrictUndefined

from mesostk.ops.paths import data_root
from mesostk.testing.plugins import load

variables = load("filter_plugins", "variables")

ROOT = data_root()


def told(values: dict[str, Any]) -> list[str]:
    found = variables.findings(["h"], {"h": values})
    assert {one["where"] for one in found} <= {"host h"}
    return [f"{one['problem']}. {one['remedy']}" for one in found]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("mesos_master_port", "fifty", "is 'fifty'. make it a whole number"),
        ("mesos_master_port", True, "is True. make it a whole number"),
        ("mesos_master_port", [1], "is a list. make it a whole number"),
        ("marathon_http_port", 99999, "is 99999. use a number from 1 to 65535"),
        ("marathon_http_port", "0", "is 0. use a number from 1 to 65535"),
        ("zookeeper_heap_mib", -3, "is -3. use a number of at least 0"),
        ("mesos_agent_attributes", "rack:1", "is 'rack:1'. make it a mapping of names to values"),
        ("mesos_agent_containerizers", "docker", "is 'docker'. make it a list"),
        ("marathon_lb_stats_bind", 9090, "is 9090. make it text; put it in quotes"),
        ("mesos_dns_external", "maybe", "is 'maybe'. make it true or false"),
        ("dns_client_mode", "resolv", "is 'resolv'. use one of none, resolv_conf, resolved, bind"),
        ("mesos_agent_work_dir", None, "is empty. leave it out, or give it a value"),
    ],
)
def test_value_that_a_role_could_not_use_is_named_with_what_it_could(
    name: str, value: object, expected: str
) -> None:
    assert told({name: value}) == [f"{name} {expected}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mesos_master_port", "5050"),
        ("zookeeper_purge_hours", 0),
        ("mesos_dns_external", "no"),
        ("marathon_lb_credentials", ""),
        ("dns_client_mode", "none"),
        ("mesos_agent_secrets", {"db/password": "x"}),
    ],
)
def test_value_that_a_role_can_use_is_no_finding(name: str, value: object) -> None:
    assert told({name: value}) == []


def test_secret_of_a_wrong_type_is_not_shown() -> None:
    found = told({"mesos_agent_secrets": "hunter2", "marathon_lb_credentials": 12345})
    assert found == [
        "mesos_agent_secrets is text. make it a mapping of names to values",
        "marathon_lb_credentials is a number. make it text; put it in quotes",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mesos_agnet_port", "mesos_agent_port"),
        ("marathon_htpp_port", "marathon_http_port"),
        ("mesos_agent_secret", "mesos_agent_secrets"),
        ("mesos_dns_resolver", "mesos_dns_resolvers"),
    ],
)
def test_slip_of_the_finger_is_named_with_what_was_meant(name: str, meant: str) -> None:
    assert told({name: "x"}) == [f"variable {name} is not known. call it {meant}"]


def test_operators_own_variables_are_left_alone() -> None:
    own = ("mesos_agent_port2", "rack", "app_port", "ansible_port", "mesos_agents_of_lab", "docker")
    assert told(dict.fromkeys(own, "x")) == []


@pytest.mark.parametrize("name", ["mesos_agent_hostname", "marathon_lb_credentials"])
def test_value_made_of_what_is_not_there_is_named(name: str) -> None:
    found = variables.findings(["h"], {"h": {name: StrictUndefined(name="rack")}})
    (problem,) = [one["problem"] for one in found]
    assert problem == f"{name} cannot be worked out: 'rack' is undefined"


def names_in(tree: Any) -> Iterator[str]:
    """Every name that a playbook or role gives to a value of a host."""
    if isinstance(tree, list):
        for one in tree:
            yield from names_in(one)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key == "register":
                yield value
            elif key == "ansible.builtin.set_fact":
                yield from value
            yield from names_in(value)


def test_no_name_of_playbooks_and_roles_is_taken_for_a_slip() -> None:
    files = [path for top in ("playbooks", "roles") for path in (ROOT / top).rglob("*.yml")]
    names = {name for path in files for name in names_in(yaml.safe_load(path.read_text()))}
    for path in (ROOT / "roles").glob("*/*/main.yml"):
        if path.parent.name in ("defaults", "vars"):
            names |= set(yaml.safe_load(path.read_text()) or {})
    for path in files:
        names |= set(re.findall(r"\b([a-z_]+) \| default", path.read_text()))
    assert len(names) > 150
    service = {name for name in names if name.startswith("service_")}
    found = variables.findings(["h"], {"h": dict.fromkeys(names - service)})
    assert [one for one in found if "not known" in one["problem"]] == []


def settings() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in (ROOT / "inventory").glob("*/group_vars/*.yml"):
        yield path, yaml.safe_load(path.read_text()) or {}
    for path in (ROOT / "molecule").glob("*/molecule.yml"):
        groups = yaml.safe_load(path.read_text()).get("provisioner", {}).get("inventory", {})
        for values in groups.get("group_vars", {}).values():
            yield path, values


def test_inventories_and_scenarios_of_the_project_have_no_finding() -> None:
    checked = [told(values) for _, values in settings()]
    assert len(checked) > 15
    assert not any(checked), checked


def test_default_of_each_role_is_a_value_that_it_takes() -> None:
    known = variables.options()
    for path in sorted((ROOT / "roles").glob("*/defaults/main.yml")):
        for name, value in (yaml.safe_load(path.read_text()) or {}).items():
            if name in known and "{{" not in str(value):
                assert variables.wrong(name, known[name], value) is None, name
