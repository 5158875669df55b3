"""The secrets of this host: files, of which a task gets those that it names, and nobody else any.

::

    Secret{REFERENCE "db/password"} ─▶ SecretUse in the run's spec: only the name goes through the
                                       core, its records, states and logs
    at launch: <secrets_dir>/db/password ─┬▶ variable of the process, or of the container
                                          ├▶ credentials for the registry of its image
                                          └▶ <runtime_dir>/secrets/<container>/<n>, linked into the
                                             sandbox or mounted into the container; removed with it

The directory and its files are for root alone (or whoever the agent runs as): what others can read
is refused. Not in work_dir, so that no sandbox listing, download or backup of it holds a secret.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from mesostk.agent import sandbox
from mesostk.agent.events import SecretUse
from mesostk.agent.secret_uses import SecretError
from mesostk.errors import MesostkError

#: Half of what the kernel takes as one variable (MAX_ARG_STRLEN); a secret is no data set.
MAX_BYTES = 64 * 1024

_PULL_CONFIG = "to pull with, it must be a Docker configuration, as ~/.docker/config.json"


class Secrets:
    """The secrets of this host. Everything here blocks; for the disk thread."""

    def __init__(self, directory: Path, runtime_dir: Path) -> None:
        self._directory = directory
        self._given = runtime_dir / "secrets"

    def variables(self, uses: Iterable[SecretUse]) -> dict[str, str]:
        """The variables among `uses`, without the newline that editors leave. SecretError."""
        found: dict[str, str] = {}
        for use in uses:
            if use.variable is None:
                continue
            try:
                text = self._read(use.name).decode()
            except UnicodeDecodeError:
                text = "\0"
            if "\0" in text:
                raise SecretError(f"secret '{use.name}' is no text: give it as a file, not in env")
            found[use.variable] = text.removesuffix("\n")
        return found

    def pull_configs(self, uses: Iterable[SecretUse]) -> dict[str, str]:
        """Name → text of the secrets to pull with. Raises SecretError."""
        found: dict[str, str] = {}
        for use in uses:
            if not use.pulls:
                continue
            try:
                found[use.name] = self._read(use.name).decode()
            except UnicodeDecodeError:
                raise SecretError(f"secret '{use.name}' is no text: {_PULL_CONFIG}") from None
        return found

    def place(
        self, container_id: str, uses: Sequence[SecretUse], user: str | None, *, mounted: bool
    ) -> dict[str, Path]:
        """Path in the sandbox → file that holds it, for the files among `uses`.

        Readable by `user` alone; one that is `mounted` by everybody within the container, where ids
        may be others than the host's, and by nobody outside. Raises SecretError.
        """
        files = [use for use in uses if use.path is not None]
        if not files:
            return {}
        directory = self._given / container_id
        found: dict[str, Path] = {}
        try:
            self._given.mkdir(parents=True, exist_ok=True)
            self._given.chmod(0o711)
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(mode=0o700 if mounted else 0o711)
            for number, use in enumerate(files):
                assert use.path is not None
                path = found[use.path] = directory / str(number)
                _write(path, self._read(use.name), user, mode=0o444 if mounted else 0o400)
        except (OSError, MesostkError) as error:
            self.forget(container_id)
            if isinstance(error, OSError):
                text = f"cannot place secrets in {directory}: {error.strerror}"
                raise SecretError(text) from error
            raise
        return found

    def forget(self, container_id: str) -> None:
        """Remove what was placed for a run."""
        given = f"{self._given}/{container_id}"
        if os.path.lexists(given):
            shutil.rmtree(given, ignore_errors=True)

    def keep_only(self, known: Iterable[str]) -> None:
        """Remove what was placed for all runs but these."""
        there = {path.name for path in self._given.iterdir()} if self._given.is_dir() else set()
        for container_id in there - set(known):
            self.forget(container_id)

    def _read(self, name: str) -> bytes:
        path = self._directory / name
        try:
            self._check(self._directory, self._directory.stat())
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(fd, "rb") as file:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise SecretError(f"secret '{name}': {path} is no file")
                self._check(path, status)
                data = file.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise SecretError(
                f"secret '{name}' is not on this host: put it into {path}, owned by root, mode 0600"
            ) from None
        except OSError as error:
            raise SecretError(f"secret '{name}': cannot read {path}: {error.strerror}") from error
        if len(data) > MAX_BYTES:
            raise SecretError(f"secret '{name}': {path} is larger than {MAX_BYTES} bytes")
        return data

    def _check(self, path: Path, status: os.stat_result) -> None:
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid not in (0, os.geteuid()) or mode & 0o077:
            wanted = "0700" if stat.S_ISDIR(status.st_mode) else "0600"
            raise SecretError(
                f"{path} is open to others (uid {status.st_uid}, mode {mode:04o}): "
                f"chown root and chmod {wanted} it"
            )


def _write(path: Path, data: bytes, user: str | None, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        if user is not None:
            os.fchown(fd, *sandbox.owner_of(user))
        os.fchmod(fd, mode)
