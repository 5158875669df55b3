"""config.json and the command line: every refusal names key and remedy."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mesostk.base.clock import RealClock
from mesostk.dns import flags
from mesostk.dns.assembly import Core, make_core
from mesostk.dns.config import Config, load, parse, shown
from mesostk.dns.daemon import main
from mesostk.errors import ConfigError

MASTERS = {"masters": ["10.0.3.11:5050"]}


def parsed(**keys: Any) -> Config:
    return parse(json.dumps({**MASTERS, **keys}).encode()).config


def test_the_tutorials_file_is_understood() -> None:
    document = {
        "zk": "zk://10.0.3.11:2181,10.0.3.12:2181/mesos/",
        "masters": ["10.0.3.11:5050", "10.0.3.12:5050"],
        "refreshSeconds": 60,
        "ttl": 60,
        "domain": "mesos",
        "ns": "ns1",
        "port": 53,
        "resolvers": ["10.0.3.1"],
        "timeout": 5,
        "listener": "0.0.0.0",
        "email": "root.mesos-dns.mesos",
        "externalon": False,
        "IPSources": ["mesos", "host"],
    }
    loaded = parse(json.dumps(document).encode())
    assert not loaded.config.external_on
    assert loaded.config.ip_sources == ("mesos", "host")
    assert [line.split()[0] for line in loaded.warnings] == ["ns", "email"]


def test_keys_are_found_whatever_their_case_and_null_is_the_default() -> None:
    config = parsed(HTTPON=False, httpport=None, SRVRECORDDEFAULTWEIGHT=0, ttl=5)
    assert (config.http_on, config.http_port, config.srv_record_default_weight) == (False, 8123, 0)
    assert config.ttl == 5


def test_names_are_settled() -> None:
    config = parsed(domain="Cluster.Local", soaRname="admin@Example.org.", resolvers=["::1"])
    assert config.domain == "cluster.local"
    assert config.soa_rname == "admin.example.org"
    assert config.resolvers == ("[::1]:53",)
    assert parsed(timeout=0).timeout == 5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ttl": "60"}, "TTL: Expected `int`"),
        ({"masters": []}, "neither Zk nor Masters"),
        ({"zk": "zk://host:2181"}, "Zk: "),
        ({"dnsOn": False, "httpOn": False}, "nothing to do"),
        ({"masters": ["m1:5050"]}, "Masters: 'm1:5050'"),
        ({"masters": ["10.0.3.11"]}, "needs a port"),
        ({"masters": ["10.0.3.11:5050", "10.0.3.11:05050"]}, "there twice"),
        ({"resolvers": ["dns.example"]}, "Resolvers: 'dns.example'"),
        ({"resolvers": ["10.1.1.1", "10.1.1.1:53"]}, "there twice"),
        ({"zoneResolvers": {"weave": []}}, "ZoneResolvers[weave]: the list is empty"),
        ({"zoneResolvers": {"mesos": ["10.1.1.1"]}}, "is within mesos"),
        ({"zoneResolvers": {"a.b": ["10.1.1.1"], "b": ["10.1.1.1"]}}, "a.b is within b"),
        ({"zoneResolvers": {"a b": ["10.1.1.1"]}}, "no domain"),
        ({"IPSources": []}, "IPSources: empty"),
        ({"IPSources": ["dns"]}, "'dns' is not known"),
        ({"IPSources": ["host", "host"]}, "there twice"),
        ({"refreshSeconds": 0}, "RefreshSeconds: 0"),
        ({"stateTimeoutSeconds": -1}, "StateTimeoutSeconds: -1"),
        ({"port": 70000}, "Port: 70000"),
        ({"domain": "a..b"}, "Domain: "),
        ({"domain": "a_b"}, "Domain: "),
        ({"listener": "eth0"}, "Listener: 'eth0'"),
        ({"certFile": "/x"}, "go together"),
        ({"CACertFile": "/nowhere/ca.pem"}, "CACertFile: there is no file"),
        ({"mesosAuthentication": "kerberos"}, "MesosAuthentication: 'kerberos'"),
        ({"mesosAuthentication": "basic"}, "needs MesosCredentials"),
        ({"mesosAuthentication": "iam"}, "IAMConfigFile"),
        ({"axfrAllowed": ["everyone"]}, "AXFRAllowed: 'everyone'"),
        ({"notify": ["ns2.example"]}, "Notify: 'ns2.example'"),
        ({"workers": 0}, "Workers: 0"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(**keys)
    assert message in str(caught.value)


@pytest.mark.parametrize("resolver", ["10.0.3.1", "nonsense"])
def test_resolvers_are_not_looked_at_without_externalon(resolver: str) -> None:
    zones = {"a.example": [resolver]}
    config = parsed(externalOn=False, resolvers=[resolver], zoneResolvers=zones)
    assert config.resolvers == (resolver,)
    core = make_core(config, (), config.resolvers, RealClock(), random.Random(1))
    assert isinstance(core, Core), "nor when the server is made"


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"masters": 5}'])
def test_what_is_no_configuration_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_secrets_are_not_shown() -> None:
    config = parsed(
        zk="zk://user:geheim@10.0.3.11:2181/mesos",
        mesosAuthentication="basic",
        mesosCredentials={"principal": "dns", "secret": "geheim"},
    )
    view = shown(config)
    assert "geheim" not in json.dumps(view)
    assert view["MesosCredentials"] == {"Principal": "dns", "Secret": "****"}
    assert view["SOAMname"] == "ns1.mesos"
    assert view["TTL"] == 60


def test_a_file_is_named_in_its_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.json"):
        load(tmp_path / "missing.json")
    file = tmp_path / "c.json"
    file.write_text('{"masters": ["10.0.3.11:5050"], "ttl": true}')
    with pytest.raises(ConfigError, match=r"c\.json: TTL"):
        load(file)


# -- the command line ------------------------------------------------------------------------------


def test_flags_are_spelled_as_go_does() -> None:
    for argv in (["-config=/x/c.json"], ["--config", "/x/c.json"]):
        assert flags.parse(argv, None).config == Path("/x/c.json")
    line = flags.parse(["-config", "~/c.json", "-v=2", "-logtostderr", "-workers", "3"], "/root")
    assert line.config == Path("/root/c.json")
    assert (line.verbosity, line.workers) == (2, 3)
    assert line.without_effect == ("logtostderr",)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-colour"], "no flag is called -colour"),
        (["config.json"], "is not a flag"),
        (["-config"], "needs a value"),
        (["-workers=0"], "from 1 to 64"),
        (["-v=x"], "expected a number"),
    ],
)
def test_wrong_flags_are_named(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flags.parse(argv, None)
    assert message in str(caught.value)


def test_version_and_errors_of_the_program(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for argv in (["-version"], ["--version"]):
        assert main(argv, {}) == 0
        assert capsys.readouterr().out.startswith("mesos-dns ")
    assert main(["-config", str(tmp_path / "none.json")], {}) == 1
    out = capsys.readouterr()
    assert out.err.startswith("ERROR: cannot read ")
    assert out.err.count("\n") == 1
