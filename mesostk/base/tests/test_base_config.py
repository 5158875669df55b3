"""Flags and their layers."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.base.config import Flag, FlagSet, duration, size_bytes
from mesostk.base.units import format_bytes, format_duration, printed_duration
from mesostk.base.zk import ZkUrl
from mesostk.errors import ConfigError

FLAGS = FlagSet(
    "mesos-master",
    "MESOS_",
    [
        Flag("quorum", int, None, "Size of the quorum.", minimum=1),
        Flag("zk", ZkUrl.parse, None, "ZooKeeper URL."),
        Flag("cluster", str, None, "Name of the cluster."),
        Flag("hostname_lookup", bool, True, "Look the hostname up."),
        Flag("agent_ping_timeout", duration, "15secs", "Ping.", old_names=("slave_ping_timeout",)),
        Flag("max_body", size_bytes, "16MB", "Largest body.", minimum=1024),
        Flag(
            "registry", str, "replicated_log", "Backend.", choices=("replicated_log", "in_memory")
        ),
        Flag("attributes", str, None, "Attributes.", keyed_dir=True),
        Flag("work_dir", str, "/tmp/x", "Directory."),
    ],
    version="mesos 1.11.0",
    negations=("no-", "disable_"),
    from_zk=lambda text: {"zk": str(ZkUrl.parse(text))},
)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


def test_defaults() -> None:
    values = FLAGS.load([], {})
    assert values.quorum is None
    assert values.hostname_lookup is True
    assert values.agent_ping_timeout == 15.0
    assert values.max_body == 16 << 20
    assert values.origin("max_body") == "default"
    assert values.as_strings()["max_body"] == "16MB"
    assert "quorum" not in values.as_strings()
    with pytest.raises(AttributeError):
        _ = values.nothing


def test_a_later_layer_wins(etc: Path) -> None:
    (etc / "quorum").write_text("1\n")
    dirs = [f"--config_dir={etc}"]
    env = {"MESOS_QUORUM": "2", "MESOS_NATIVE_JAVA_LIBRARY": "/usr/lib/libmesos.so"}
    assert FLAGS.load(dirs, {}).quorum == 1
    assert FLAGS.load(dirs, {}).origin("quorum") == str(etc / "quorum")
    values = FLAGS.load(dirs, env)
    assert (values.quorum, values.origin("quorum")) == (2, "MESOS_QUORUM")
    assert len(values.warnings) == 1
    assert "MESOS_QUORUM overrides" in values.warnings[0]
    assert FLAGS.load([*dirs, "--quorum=3"], env).quorum == 3
    assert FLAGS.load([*dirs, "--quorum", "4"], env).origin("quorum") == "command line"


def test_agreeing_layers_give_no_warning(etc: Path) -> None:
    (etc / "quorum").write_text(" 2\n")
    assert FLAGS.load([], {"MESOS_QUORUM": "2"}, [etc]).warnings == ()


def test_one_file_per_flag(etc: Path) -> None:
    (etc / "cluster").write_text("  west coast \n")
    (etc / "?no-hostname_lookup").write_text("")
    (etc / ".quorum.swp").write_text("junk")
    (etc / "attributes").mkdir()
    (etc / "attributes" / "rack").write_text("r1\n")
    (etc / "attributes" / "os").write_text("debian")
    (etc / "attributes" / "empty").write_text("\n")
    (etc / "attributes" / ".hidden").write_text("x")
    values = FLAGS.load([], {}, [etc])
    assert values.cluster == "west coast"
    assert values.hostname_lookup is False
    assert values.attributes == "os:debian;rack:r1"
    assert values.warnings == ()


def test_several_directories_the_later_wins(tmp_path: Path) -> None:
    for name, quorum in (("a", "1"), ("b", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "quorum").write_text(quorum)
    a, b = tmp_path / "a", tmp_path / "b"
    assert FLAGS.load([f"--config_dir={a}", f"--config_dir={b}"], {}).quorum == 2
    assert FLAGS.load([f"--config_dir={b}:{a}"], {}).quorum == 1
    assert FLAGS.load([], {"MESOS_CONFIG_DIR": f"{a}:{b}"}).quorum == 2
    values = FLAGS.load([f"--config_dir={tmp_path / 'none'}"], {})
    assert "does not exist" in values.warnings[0]


def test_nothing_below_etc_is_read_unless_told() -> None:
    assert FLAGS.load([], {}).as_strings().keys().isdisjoint({"config_dir", "zk_file"})


def test_zk_file_stands_below_the_directories(etc: Path, tmp_path: Path) -> None:
    shared = tmp_path / "zk"
    shared.write_text("zk://a:2181,b:2181/mesos\n")
    values = FLAGS.load([f"--zk_file={shared}"], {})
    assert values.zk.hosts == "a:2181,b:2181"
    assert values.origin("zk") == str(shared)
    (etc / "zk").write_text("zk://c/mesos")
    assert FLAGS.load([f"--zk_file={shared}", f"--config_dir={etc}"], {}).zk.hosts == "c:2181"
    shared.write_text("")
    with pytest.raises(ConfigError, match="empty"):
        FLAGS.load([f"--zk_file={shared}"], {})
    shared.write_text("localhost")
    with pytest.raises(ConfigError, match=f"{shared}.*zk://"):
        FLAGS.load([f"--zk_file={shared}"], {})


@pytest.mark.parametrize(
    ("argv", "env", "expected"),
    [
        (["--hostname_lookup"], {}, True),
        (["--no-hostname_lookup"], {}, False),
        (["--disable_hostname_lookup"], {}, False),
        (["--hostname_lookup=false"], {}, False),
        ([], {"MESOS_HOSTNAME_LOOKUP": "false"}, False),
        ([], {"MESOS_HOSTNAME_LOOKUP": ""}, True),
        ([], {"MESOS_DISABLE_HOSTNAME_LOOKUP": ""}, False),
        ([], {"MESOS_NO_HOSTNAME_LOOKUP": "true"}, False),
        (["--hostname_lookup"], {"MESOS_HOSTNAME_LOOKUP": "false"}, True),
    ],
)
def test_booleans(argv: list[str], env: dict[str, str], expected: bool) -> None:
    assert FLAGS.load(argv, env).hostname_lookup is expected


def test_old_names_work_with_a_warning_and_clash_with_the_new(etc: Path) -> None:
    values = FLAGS.load(["--slave_ping_timeout=1mins"], {})
    assert values.agent_ping_timeout == 60.0
    assert "old name of agent_ping_timeout" in values.warnings[0]
    assert FLAGS.load([], {"MESOS_SLAVE_PING_TIMEOUT": "2secs"}).agent_ping_timeout == 2.0
    both = ["--slave_ping_timeout=1mins", "--agent_ping_timeout=1mins"]
    with pytest.raises(ConfigError, match="set the same flag"):
        FLAGS.load(both, {})


def test_values_from_files_by_url(tmp_path: Path) -> None:
    secret = tmp_path / "zk"
    secret.write_text("zk://mesos:hunter2@a/mesos\n")
    values = FLAGS.load([f"--zk=file://{secret}"], {})
    assert values.zk.password == "hunter2"
    assert "hunter2" not in str(values.as_strings())
    assert values.as_strings()["zk"] == "zk://****@a/mesos"
    with pytest.raises(ConfigError, match="cannot read"):
        FLAGS.load([f"--zk=file://{tmp_path}/none"], {})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--quorm=2"], "is quorum meant"),
        (["--quorum=two"], r"--quorum: 'two' is refused: not integer"),
        (["--quorum=0"], "least value, 1"),
        (["--quorum=1", "--quorum=1"], "given twice"),
        (["--quorum"], "needs a value"),
        (["--no-quorum"], "no boolean"),
        (["--no-hostname_lookup=true"], "takes no value"),
        (["--hostname_lookup=maybe"], "true or false"),
        (["--agent_ping_timeout=5"], "a duration like"),
        (["--agent_ping_timeout=5min"], "unknown unit 'min'"),
        (["--max_body=12"], "a size like"),
        (["--max_body=1KB", "--max_body=2KB"], "given twice"),
        (["--max_body=5B"], "least value, 1KB"),
        (["--registry=etcd"], "not one of replicated_log, in_memory"),
        (["quorum"], "is not a flag"),
        (["-q"], "is not a flag"),
        (["--"], "is not a flag"),
        (["--zk=localhost:2181"], "zk://host1"),
    ],
)
def test_what_is_not_understood_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FLAGS.load(argv, {})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("quorm", b"1", "is quorum meant"),
        ("?quorum", b"", "is for booleans"),
        ("no-hostname_lookup", b"", r"\?no-hostname_lookup"),
        ("quorum", b"", "''.*not integer"),
        ("cluster", b"\xff\xfe", "not UTF-8"),
        ("cluster", b"x" * (1 << 21), "larger than 1MB"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_it(
    etc: Path, name: str, content: bytes, message: str
) -> None:
    (etc / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        FLAGS.load([], {}, [etc])
    assert str(etc / name) in str(caught.value)


def test_a_variable_that_is_nearly_a_flag_is_pointed_out() -> None:
    warnings = FLAGS.load([], {"MESOS_QUORM": "2", "MESOS_SANDBOX": "/x"}).warnings
    assert warnings == ("MESOS_QUORM is ignored: no such flag; is MESOS_QUORUM meant?",)


def test_required_flags_are_required() -> None:
    flags = FlagSet(
        "x", "X_", [Flag("work_dir", str, None, "Where it keeps state.", required=True)]
    )
    with pytest.raises(ConfigError, match="--work_dir is required: Where"):
        flags.load([], {})
    assert flags.load(["--work_dir=/x"], {}).work_dir == "/x"


def test_a_flag_declared_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="declared twice"):
        FlagSet("x", "X_", [Flag("a", str, None, ""), Flag("b", str, None, "", old_names=("a",))])


def test_programs_end_with_0_for_help_and_2_for_errors() -> None:
    out, err = io.StringIO(), io.StringIO()
    codes = []
    with redirect_stdout(out), redirect_stderr(err):
        for argv in (["--help"], ["--version"], ["--quorum=2", "--typo"]):
            with pytest.raises(SystemExit) as caught:
                FLAGS.main(argv, {})
            codes.append(caught.value.code)
    assert codes == [0, 0, 2]
    assert "--quorum=VALUE  (integer)" in out.getvalue()
    assert "default 15secs; was slave_ping_timeout" in out.getvalue()
    assert out.getvalue().endswith("mesos 1.11.0\n")
    assert "mesos-master: command line: no flag is called 'typo'" in err.getvalue()


def test_describe_tells_what_documentation_needs() -> None:
    records = {record.name: record for record in FLAGS.describe()}
    assert records["max_body"].kind == "bytes"
    assert records["max_body"].default == "16MB"
    assert records["hostname_lookup"].default == "true"
    assert records["quorum"].env == "MESOS_QUORUM"
    assert list(records) == sorted(records)


NAMES = ("cluster", "work_dir")


@given(
    layers=st.fixed_dictionaries(
        {
            layer: st.dictionaries(
                st.sampled_from(NAMES),
                st.text("abc xyz=-,.", min_size=1, max_size=8).filter(str.strip),
            )
            for layer in ("file", "env", "line")
        }
    )
)
def test_the_highest_layer_that_says_something_decides(
    layers: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("layers")
    for name, text in layers["file"].items():
        (directory / name).write_text(text)
    env = {f"MESOS_{name.upper()}": text for name, text in layers["env"].items()}
    argv = [f"--{name}={text}" for name, text in layers["line"].items()]
    values = FLAGS.load(argv, env, [directory])
    for name in NAMES:
        told = [layers[layer].get(name) for layer in ("line", "env", "file")]
        expected = next((text.strip() for text in told if text is not None), None)
        if expected is None:
            expected = None if name == "cluster" else "/tmp/x"
        assert values[name] == expected


@given(st.integers(0, 10**18))
def test_durations_round_trip(nanoseconds: int) -> None:
    seconds = nanoseconds / 10**9
    text = format_duration(seconds)
    assert duration(text) == pytest.approx(seconds, rel=1e-15, abs=0)
    assert format_duration(duration(text)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ns"), (5.0, "5secs"), (90.0, "90secs"), (900.0, "15mins"), (5400.0, "90mins"),
        (0.0015, "1500us"), (1.5, "1500ms"), (61.5, "1.025mins"), (864_000.0, "10days"),
        (1e6, "1.65343915343915weeks"), (9e9, "14880.9523809524weeks"),
    ],
)  # fmt: skip
def test_durations_are_printed_as_by_the_original(seconds: float, text: str) -> None:
    assert printed_duration(seconds) == text


@given(st.integers(0, 9 * 10**18))
def test_printed_durations_can_be_read(nanoseconds: int) -> None:
    seconds = nanoseconds / 10**9
    assert duration(printed_duration(seconds)) == pytest.approx(seconds, rel=1e-14, abs=0)


@given(st.integers(0, 2**64 - 1))
def test_sizes_round_trip(amount: int) -> None:
    assert size_bytes(format_bytes(amount)) == amount


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10mins", 600.0), ("1.5hrs", 5400.0), ("2weeks", 1209600.0), ("0ns", 0.0), ("5 secs", 5.0),
     ("250ms", 0.25), ("1days", 86400.0), ("3us", 3e-6)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "secs", "5 s", "5m", "1e3secs", "5secs x", "９ mins x"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|unknown"):
        duration(text)


@pytest.mark.parametrize("text", ["-1MB", "1.5B", "20000000TB", "MB", "1mb"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        size_bytes(text)


@given(st.text())
def test_any_text_is_a_duration_and_a_size_or_refused(text: str) -> None:
    for parse in (duration, size_bytes):
        try:
            parse(text)
        except ValueError:
            continue
