"""Whatever a daemon is told, it starts with it or refuses it by the name of the flag.

Every flag of the daemons, from each of its layers, through all that a daemon reads out of it before
it listens.
"""

from __future__ import annotations

import json as plain
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.agent import detect
from mesostk.agent import flags as agent_flags
from mesostk.agent import guard as agent_guard
from mesostk.base.config import Flag, FlagSet, Values
from mesostk.dns import config as dns_config
from mesostk.dns import flags as dns_flags
from mesostk.errors import ConfigError
from mesostk.lb import flags as lb_flags
from mesostk.marathon import daemon as marathon
from mesostk.marathon import flags as marathon_flags
from mesostk.master import daemon as master
from mesostk.master import flags as master_flags
from mesostk.master import guard as master_guard
from mesostk.testing.hostile import fuzz
from mesostk.wire import json

#: Each is read in another way somewhere.
NASTY: Final = (
    "", " ", "\n", "a\nb", "\t", "é☃", "\u2028", "²", "٣", "-1", "0", "1", "9" * 30, "9" * 5000,
    "-" + "9" * 5000, "nan", "inf", "-inf", "1e308", "1e400", "-0.0", "0x10", "1_000", "true", "no",
    "-5secs", "0ns", "nansecs", "1e9secs", "9" * 400 + "weeks", "10mins", "-1MB", "1.5B", "99TB",
    "[", "{", "[" * 100_000, '{"a":' * 100_000, "{}",
    "[]", "null", '"\\ud800"', '{"principal":1}', "a:b", "a:b:c",
    ":", "a=b", "=", ",", ";", "|", "%", "nan%", "1/0ns", "0/1secs", "1/" + "9" * 5000 + "secs",
    "cpus:nan", "cpus:-1", "cpus:1e400", "ports:[1-" + "9" * 5000 + "]", "ports:[2-1]", "a:{b,",
    "cpus(a/../b):1", "a=inf", "a=nan", "zk://", "zk://h/", "zk://h:²/x", "zk://h:99999/x",
    "zk://u:p@h:1/x", "zk://h/x\n", "http://", "http://[", "h:99999", "h:²", "127.0.0.1", "::1",
    "0.0.0.0", "256.1.1.1", "file://", "file:///", "file:///none/of/this", "file://{dir}",
    "file://{dir}/nul", "file://{dir}/bytes", "file://{dir}/empty", "file://{dir}/deep",
    "file://{dir}/" + "x" * 300, "file://\udcff", "\udcff", "~", "..", "a" * 100_000,
)  # fmt: skip

#: Where text comes from, and what cannot come from there.
LAYERS: Final = ("line", "environment", "file", "url")

#: Run by /bin/sh as they are.
_PROGRAMS: Final = frozenset({"ip_discovery_command"})

#: What a message says of a flag other than its name.
_OTHER_WORDS: Final = {"config_dir": "configuration directory", "work_dir": "--work_dir"}


def _master(values: Values, _environ: Mapping[str, str]) -> None:
    why = master_flags.refusal(values)
    if why is not None:
        raise ConfigError(why)
    master_guard.guard(values)
    ip, hostname = master.identity(values)
    master_flags.config_of(values, ip=ip, port=1, hostname=hostname)
    json.encode(master_flags.shown(values))


def _agent(values: Values, environ: Mapping[str, str]) -> None:
    why = agent_flags.refusal(values)
    if why is not None:
        raise ConfigError(why)
    agent_guard.guard(values)
    if Path(values.work_dir).is_dir():
        # A daemon makes it before, together with its lock.
        detect.settings_of(values, environ)
    json.encode(agent_flags.shown(values))


def _marathon(values: Values, _environ: Mapping[str, str]) -> None:
    marathon_flags.settings_of(values)
    marathon.master_addresses(values.master)
    marathon.basic_auth(values)
    marathon.authorization(values)
    json.encode(values.as_strings())


def _lb(values: Values, environ: Mapping[str, str]) -> None:
    lb_flags.options(values, environ)


#: Daemon ↦ its flags, those that it cannot do without, and all that it makes of them.
DAEMONS: Final[
    dict[str, tuple[FlagSet, dict[str, str], Callable[[Values, Mapping[str, str]], None]]]
] = {
    "master": (
        master_flags.master_flags(),
        {"ip": "127.0.0.1", "hostname": "h", "work_dir": "{dir}"},
        _master,
    ),
    "agent": (
        agent_flags.agent_flags(),
        {"master": "h:5050", "ip": "127.0.0.1", "hostname": "h", "work_dir": "{dir}"},
        _agent,
    ),
    "marathon": (marathon_flags.flag_set(), {"master": "h:5050"}, _marathon),
    "lb": (lb_flags.flag_set(), {"group": "*", "template-dir": "{dir}"}, _lb),
}

FLAGS_OF: Final = {
    daemon: [flag for name, flag in flag_set.flags.items() if name not in _PROGRAMS]
    for daemon, (flag_set, _, _) in DAEMONS.items()
}

texts = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.tuples(st.integers(), st.sampled_from(("secs", "ns", "weeks", "MB", "%"))).map(
        lambda pair: f"{pair[0]}{pair[1]}"
    ),
)


DNS_WORDS: Final = ("-config", "-workers", "-v", "-workers=²", "-v=" + "9" * 5000, "--v=0", "-h")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that `file://` may name."""
    path = tmp_path_factory.mktemp("flags")
    for name, content in (
        ("nul", b"a\0b"),
        ("bytes", b"\xff\xfe"),
        ("empty", b""),
        ("deep", b"[" * 100_000),
    ):
        (path / name).write_bytes(content)
    return path


def told(
    daemon: str, flag: Flag, layer: str, text: str, directory: Path
) -> tuple[list[str], dict[str, str], list[Path]]:
    """What the daemon is started with: command line, environment, directories of files."""
    flag_set, needed, _ = DAEMONS[daemon]
    argv = [
        f"--{name}={value.replace('{dir}', str(directory))}"
        for name, value in needed.items()
        if name != flag.name
    ]
    text = text.replace("{dir}", str(directory))
    if layer == "line":
        return [*argv, f"--{flag.name}={text}"], {}, []
    if layer == "environment":
        variable = flag.env if flag.env is not None else flag_set.env_prefix + flag.name.upper()
        return argv, {variable: text}, []
    files = directory / "files"
    files.mkdir(exist_ok=True)
    for found in files.iterdir():
        found.unlink()
    target = files / flag.name if layer == "file" else directory / "value"
    target.write_bytes(text.encode("utf-8", "surrogatepass"))
    if layer == "file":
        return argv, {}, [files]
    return [*argv, f"--{flag.name}=file://{target}"], {}, []


@pytest.mark.parametrize("daemon", DAEMONS)
@fuzz(40)
@given(layer=st.sampled_from(LAYERS), data=st.data())
def test_any_text_of_any_flag_is_a_value_or_refused_by_the_name_of_the_flag(
    daemon: str, layer: str, data: st.DataObject, directory: Path
) -> None:
    flag = data.draw(st.sampled_from(FLAGS_OF[daemon]))
    text = data.draw(texts)
    said = refusal(daemon, flag, layer, text, directory)
    assert said is None or _is_named(flag, said), (flag.name, text, said)


def _is_named(flag: Flag, said: str) -> bool:
    return any(word in said for word in (flag.name, _OTHER_WORDS.get(flag.name, flag.name)))


def refusal(daemon: str, flag: Flag, layer: str, text: str, directory: Path) -> str | None:
    """Why the daemon does not start; None if it does. Anything but ConfigError is a failure."""
    flag_set, _, settle = DAEMONS[daemon]
    argv, environ, dirs = told(daemon, flag, layer, text, directory)
    try:
        settle(flag_set.load(argv, environ, dirs), environ)
    except ConfigError as error:
        return str(error)
    return None


dns_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@fuzz(60)
@given(data=st.data())
def test_any_value_of_any_key_of_config_json_is_taken_or_refused_by_its_name(
    data: st.DataObject, directory: Path
) -> None:
    names = [field.encode_name for field in msgspec.structs.fields(dns_config.Config)]
    key = data.draw(st.sampled_from(names))
    value = data.draw(dns_values)
    document = {"zk": "zk://h/mesos", key: value}
    raw = plain.dumps(document).encode("utf-8", "surrogatepass")
    said = None
    try:
        loaded = dns_config.parse(raw)
    except ConfigError as error:
        said = str(error)
    else:
        json.encode(dns_config.shown(loaded.config))
    assert said is None or key in said or said.startswith("no JSON"), (key, value, said)


@fuzz(30)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_configuration_or_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError):
        dns_config.parse(raw)


@fuzz(60)
@given(
    st.lists(texts.filter(lambda text: len(text) < 1000) | st.sampled_from(DNS_WORDS), max_size=4)
)
def test_any_words_are_a_command_line_of_the_name_server_or_refused(words: list[str]) -> None:
    with suppress(ConfigError):
        dns_flags.parse(words, "/root")
