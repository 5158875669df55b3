"""Secrets of a host: who gets them, in what form, and what is refused with which remedy."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from mesostk.agent.docker_reports import launched_of
from mesostk.agent.docker_spec import DockerPlan, with_secrets
from mesostk.agent.events import SecretUse
from mesostk.agent.secret_uses import SecretError, uses_of
from mesostk.agent.secrets import MAX_BYTES, Secrets
from mesostk.agent.tests.agent_bench import task
from mesostk.wire.mesos import (
    CommandInfo,
    ContainerInfo,
    Environment,
    Image,
    ImageDocker,
    MesosInfo,
    Secret,
    SecretReference,
    SecretValue,
    TaskInfo,
    Variable,
    Volume,
    VolumeSource,
)

TEXT = "hunter2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    (folder / "db").mkdir(parents=True)
    folder.chmod(0o700)
    put(folder / "db/password", f"{TEXT}\n".encode())
    return folder


@pytest.fixture
def secrets(tmp_path: Path, folder: Path) -> Secrets:
    return Secrets(folder, tmp_path / "run")


def put(path: Path, data: bytes, mode: int = 0o600) -> None:
    path.write_bytes(data)
    path.chmod(mode)


def named(name: str, key: str | None = None) -> Secret:
    return Secret(type="REFERENCE", reference=SecretReference(name=name, key=key))


def asking(secret: Secret | None) -> TaskInfo:
    variable = Variable(name="PASSWORD", type="SECRET", secret=secret)
    plain = Variable(name="PLAIN", value="x")
    command = CommandInfo(value="x", environment=Environment(variables=(plain, variable)))
    source = VolumeSource(type="SECRET", secret=secret)
    volume = Volume(mode="RO", container_path="kept/password", source=source)
    container = ContainerInfo(type="MESOS", volumes=(volume,))
    return TaskInfo(
        name="t",
        task_id=task("t", "x").task_id,
        agent_id=task("t", "x").agent_id,
        command=command,
        container=container,
    )


def test_a_task_names_secrets_as_variables_and_files() -> None:
    wanted = (
        SecretUse("db/password", variable="PASSWORD"),
        SecretUse("db/password", path="kept/password"),
    )
    assert uses_of(asking(named("/db/password"))) == wanted
    assert uses_of(asking(named("db", "password"))) == wanted


def test_the_secret_to_pull_an_image_with_is_named_too() -> None:
    image = Image(type="DOCKER", docker=ImageDocker(name="x", config=named("registry")))
    container = ContainerInfo(type="MESOS", mesos=MesosInfo(image=image))
    wanted = (SecretUse("registry", pulls=True),)
    assert uses_of(replace(asking(named("x")), command=None, container=container)) == wanted


def test_what_is_pulled_with_must_be_text(secrets: Secrets, folder: Path) -> None:
    uses = [SecretUse("registry", pulls=True), SecretUse("db/password", variable="X")]
    put(folder / "registry", b'{"auths": {}}')
    assert secrets.pull_configs(uses) == {"registry": '{"auths": {}}'}
    put(folder / "registry", b"\xff")
    with pytest.raises(SecretError, match="must be a Docker configuration"):
        secrets.pull_configs(uses)


@pytest.mark.parametrize("name", ["", "../x", "a/../b", "a//b", ".hidden", "a b", "a\0", "a/"])
def test_names_that_lead_elsewhere_are_none(name: str) -> None:
    with pytest.raises(SecretError, match="as db/password"):
        uses_of(asking(named(name)))


@pytest.mark.parametrize("secret", [None, Secret(type="VALUE", value=SecretValue(data=b"x"))])
def test_a_secret_by_value_would_be_in_every_record(secret: Secret | None) -> None:
    with pytest.raises(SecretError, match="must be a REFERENCE"):
        uses_of(asking(secret))


def test_a_variable_has_no_newline_and_a_file_is_as_it_is(secrets: Secrets) -> None:
    uses = uses_of(asking(named("db/password")))
    assert secrets.variables(uses) == {"PASSWORD": TEXT}
    [(path, file)] = secrets.place("c1", uses, None, mounted=False).items()
    assert (path, file.read_text()) == ("kept/password", f"{TEXT}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    [mounted] = secrets.place("c2", uses, None, mounted=True).values()
    assert stat.S_IMODE(mounted.stat().st_mode) == 0o444, "the image's user is not known"
    assert stat.S_IMODE(mounted.parent.stat().st_mode) == 0o700, "and nobody else gets there"
    secrets.keep_only(["c2"])
    assert not file.exists()
    assert mounted.exists()
    secrets.forget("c2")
    assert not mounted.parent.exists()


def spoil_mode(folder: Path) -> None:
    (folder / "db/password").chmod(0o640)


def spoil_folder(folder: Path) -> None:
    folder.chmod(0o755)


def make_link(folder: Path) -> None:
    (folder / "db/password").unlink()
    (folder / "db/password").symlink_to("/etc/hostname")


def make_pipe(folder: Path) -> None:
    (folder / "db/password").unlink()
    os.mkfifo(folder / "db/password", 0o600)


def enlarge(folder: Path) -> None:
    put(folder / "db/password", b"x" * (MAX_BYTES + 1))


def remove(folder: Path) -> None:
    (folder / "db/password").unlink()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (remove, "secret 'db/password' is not on this host: put it into .*/secrets/db/password"),
        (spoil_mode, "password is open to others .uid .*, mode 0640.: chown root and chmod 0600"),
        (spoil_folder, "secrets is open to others .* chmod 0700"),
        (make_link, "cannot read .*/secrets/db/password"),
        (make_pipe, "is no file"),
        (enlarge, "is larger than 65536 bytes"),
    ],
)
def test_what_cannot_be_given_is_said_with_the_remedy_and_leaves_nothing(
    folder: Path, tmp_path: Path, secrets: Secrets, spoil: Callable[[Path], None], why: str
) -> None:
    spoil(folder)
    uses = uses_of(asking(named("db/password")))
    with pytest.raises(SecretError, match=why):
        secrets.variables(uses)
    with pytest.raises(SecretError, match=why):
        secrets.place("c1", uses, None, mounted=False)
    assert list((tmp_path / "run/secrets").iterdir()) == []


def test_bytes_that_are_no_text_are_for_files_only(folder: Path, secrets: Secrets) -> None:
    put(folder / "key", b"\xff\x00")
    uses = uses_of(asking(named("key")))
    with pytest.raises(SecretError, match="give it as a file"):
        secrets.variables(uses)
    [file] = secrets.place("c1", uses, None, mounted=False).values()
    assert file.read_bytes() == b"\xff\x00"


def test_the_engines_account_of_a_container_hides_them() -> None:
    plan = DockerPlan(
        image="i",
        force_pull=False,
        body={"Env": ["A=b"], "Labels": {}, "HostConfig": {"Mounts": []}},
    )
    body = with_secrets(plan, {"PASSWORD": TEXT}, {"kept": "/run/s/0"}, "/mnt/sandbox")
    assert body["Env"] == ["A=b", f"PASSWORD={TEXT}"]
    [mount] = body["HostConfig"]["Mounts"]
    assert (mount["Source"], mount["Target"]) == ("/run/s/0", "/mnt/sandbox/kept")
    found = {"State": {"Pid": 1}, "Config": {"Env": body["Env"], "Labels": body["Labels"]}}
    told = launched_of("c1", found).data
    assert told is not None
    assert b"PASSWORD=****" in told
    assert b"A=b" in told
    assert TEXT.encode() not in told
