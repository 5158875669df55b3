"""The exceptions of mesostk.

::

    MesostkError
    ├── ConfigError      (ValueError)   a flag, file or inventory value is wrong
    ├── WireError        (ValueError)   bytes from outside are not the record they should be
    ├── Rejected                        the caller's fault; carries an HTTP status and its message
    ├── Unavailable      (OSError)      a peer, leader or engine cannot be reached now
    └── StoreError                      a durable write did not happen
        ├── StaleEpoch                  another writer owns the store; this process must end
        └── UnknownOutcome              sent, but not known whether it was applied
"""

from __future__ import annotations


class MesostkError(Exception):
    """Base of all; the message is a sentence for the operator, with the remedy if there is one."""


class ConfigError(MesostkError, ValueError):
    """A flag, file or inventory value is wrong; the message names it and says what is expected."""

    #: What a daemon, like every command of the toolkit, ends with when it is told wrong things.
    exit_code = 2


class WireError(MesostkError, ValueError):
    """Bytes from outside do not decode; the message names the path of the field."""


class Rejected(MesostkError):
    """A request that is refused: `status` is the HTTP status, the message its text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Unavailable(MesostkError, OSError):
    """A peer, a leader or an engine cannot be reached at the moment; trying again may help."""


class StoreError(MesostkError):
    """A durable write did not happen."""


class StaleEpoch(StoreError):
    """Another process owns the store since; nothing was written and the writer must end."""


class UnknownOutcome(StoreError):
    """A write was sent and its answer lost: neither done nor failed until read back."""
