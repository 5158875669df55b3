"""Who a command says that it is: the principal and secret of a file, as the agents' --credential.

::

    MESOSTK_CREDENTIAL, else the context's `credential` ─▶ path of {"principal":…,"secret":…}

Only the path is kept in a context: the secret stays in its file.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import requests

from mesostk.base import regular
from mesostk.base.flagtext import decode_json
from mesostk.cli.contexts import Context
from mesostk.errors import ConfigError, Rejected

_REMEDY = (
    'name a file of {"principal":…,"secret":…} with `mesostk context add --credential FILE` or in '
    "MESOSTK_CREDENTIAL"
)


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of HTTP Basic."""

    principal: str
    secret: str

    @property
    def basic(self) -> tuple[str, str]:
        """As `requests` wants it."""
        return self.principal, self.secret


def credential_of(context: Context) -> Credential | None:
    """The credential for a cluster; None where none is named. Raises ConfigError with the path."""
    name = os.environ.get("MESOSTK_CREDENTIAL") or context.credential
    return read(name) if name else None


def read(name: str) -> Credential:
    """The credential of a file; ConfigError says what is wrong with it."""
    path = Path(name.removeprefix("file://"))
    try:
        return decode_json(regular.read(path.expanduser()), Credential)
    except OSError as error:
        raise ConfigError(f"credential {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, RuntimeError) as error:  # the last: no such home
        raise ConfigError(
            f'credential {path}: {error}; expected {{"principal":…,"secret":…}}'
        ) from error


def refused(what: str, status: int, text: str, known: Credential | None) -> Rejected:
    """What a service's refusal means; 401, 403 and 404 with what to do about it."""
    if status == requests.codes.unauthorized and known is None:
        return Rejected(status, f"{what} asks who you are: {_REMEDY}")
    if status == requests.codes.unauthorized:
        why = f"{what} knows no principal {known.principal!r} with that secret" if known else ""
        return Rejected(status, f"{why}; {_REMEDY}")
    if status == requests.codes.forbidden:
        who = f"the principal {known.principal!r}" if known is not None else "who gives no name"
        return Rejected(status, f"{what} does not allow this to {who}: {text}")
    if status == requests.codes.not_found and text.startswith("App '"):
        return Rejected(status, f"{text}; `mesostk apps` lists those that do")
    return Rejected(status, text)
