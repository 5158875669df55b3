"""HAProxy's runtime API: one command a connection, and what its answers say.

Source: management.txt of HAProxy 2.6, sections 9.3 (show servers state, add server) and 9.1 (CSV).
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mesostk.base.units import whole_number
from mesostk.errors import MesostkError, Unavailable

TIMEOUT_S: Final = 5.0

#: The whole answer of `show stat` for 1,000 apps has 2 MB.
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024

#: Answers of commands that change something; anything else is a refusal.
_DONE: Final = ("", "New server registered.", "Server deleted.")


class Refused(MesostkError):
    """HAProxy will not do this at run time; the message is its own."""


class RunningServer(msgspec.Struct, frozen=True, gc=False):
    """A server as the running process knows it. `admin` 0: not in maintenance, nor draining."""

    backend: str
    name: str
    address: str
    id: int
    operational: int
    admin: int


class Process(msgspec.Struct, frozen=True):
    """One line of the master's `show proc`."""

    pid: int
    kind: str
    is_old: bool


async def ask(path: str, command: str, timeout_s: float = TIMEOUT_S) -> str:
    """The answer to `command`; Unavailable if nobody answers on the socket at `path`."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(command.encode() + b"\n")
                # The master waits for more commands until it sees that none will come.
                writer.write_eof()
                chunks, size = [], 0
                while chunk := await reader.read(262_144):
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > MAX_ANSWER_BYTES:
                        raise Unavailable(f"the answer of {path} to {command!r} has no end")
            finally:
                writer.close()
    except TimeoutError as error:
        raise Unavailable(f"HAProxy does not answer on {path} within {timeout_s:g} s") from error
    except OSError as error:
        if isinstance(error, Unavailable):
            raise
        raise Unavailable(f"HAProxy cannot be reached on {path}: {error.strerror}") from error
    return b"".join(chunks).decode(errors="replace")


async def change(path: str, command: str) -> None:
    """Do `command`; Refused with HAProxy's words if it will not."""
    answer = (await ask(path, command)).strip()
    if answer not in _DONE:
        raise Refused(f"{command}: {answer}")


# -- answers ----------------------------------------------------------------------------------


def servers(state: str) -> Iterator[RunningServer]:
    """The servers in an answer to `show servers state`."""
    for line in state.splitlines():
        words = line.split()
        if len(words) < 19 or words[0].startswith("#"):
            continue
        ip = f"[{words[4]}]" if ":" in words[4] and not words[4].startswith("/") else words[4]
        yield RunningServer(
            backend=words[1],
            name=words[3],
            address=f"{ip}:{words[18]}",
            id=int(words[2]),
            operational=int(words[5]),
            admin=int(words[6]),
        )


def state_to_keep(state: str) -> str:
    """What of `show servers state` the next process shall start with: who is up and who is down.

    Servers that an operator or marathon-lb put into maintenance are left out, because the file says
    by itself which servers there are and which are disabled.
    """
    lines = state.splitlines()
    kept = []
    for line in lines:
        words = line.split()
        if len(words) >= 19 and not words[0].startswith("#") and words[6] != "0":
            continue
        kept.append(line)
    return "\n".join(kept) + "\n"


def processes(answer: str) -> list[Process]:
    """The processes in the master's answer to `show proc`."""
    found = []
    is_old = False
    for line in answer.splitlines():
        if line.startswith("#"):
            is_old = "old" in line
            continue
        words = line.split()
        if len(words) >= 3 and words[0].isdigit():
            found.append(Process(int(words[0]), words[1], is_old))
    return found


def failed_reloads(answer: str) -> int:
    """How many reloads the master calls failed since it started."""
    for line in answer.splitlines():
        if " master " in line and "[failed:" in line:
            text = line.partition("[failed:")[2].partition("]")[0].strip()
            return whole_number(text) or 0
    return 0


def statistics(answer: str) -> list[dict[str, str]]:
    """The rows of `show stat`, by the names of the columns."""
    text = answer.lstrip().removeprefix("# ")
    return list(csv.DictReader(io.StringIO(text)))


def number(row: dict[str, str], column: str) -> int:
    """A column as a number; 0 where HAProxy leaves it empty."""
    text = row.get(column) or ""
    return int(text) if text.lstrip("-").isdigit() else 0


def only_of(rows: Iterable[dict[str, str]], kind: str) -> list[dict[str, str]]:
    """Rows of FRONTENDs or BACKENDs only."""
    return [row for row in rows if row.get("svname") == kind]
