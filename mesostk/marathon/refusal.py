"""The one exception by which Marathon's pure parts refuse a request; carries the JSON answer.

Source of statuses and texts: spec/marathon §1.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from mesostk.errors import Rejected
from mesostk.wire.marathon import DeploymentId, ErrorBody, Violation

INVALID_JSON = "Invalid JSON"
INVALID_OBJECT = "Object is not valid"


class Refused(Rejected):
    """`status` and `message` of `Rejected`, plus the violations or the deployments in the way."""

    def __init__(
        self,
        status: int,
        message: str,
        details: str | Sequence[Violation] | None = None,
        deployments: Iterable[str] = (),
    ) -> None:
        super().__init__(status, message)
        self.details = details
        self.deployments = tuple(deployments)

    def body(self) -> ErrorBody:
        """The answer's JSON."""
        details = self.details
        return ErrorBody(
            message=self.message,
            details=details if details is None or isinstance(details, str) else tuple(details),
            deployments=tuple(DeploymentId(id=id) for id in self.deployments),
        )

    def __str__(self) -> str:
        if self.details is None:
            return self.message
        if isinstance(self.details, str):
            return f"{self.message}: {self.details}"
        places = "; ".join(f"{v.path}: {', '.join(v.errors)}" for v in self.details)
        return f"{self.message}: {places}"


def violation(path: str, *errors: str) -> Violation:
    """One entry of `details`."""
    return Violation(path=path, errors=errors)


def invalid(path: str, *errors: str) -> Refused:
    """422 for one value."""
    return Refused(422, INVALID_OBJECT, [violation(path, *errors)])


def malformed(path: str, *errors: str) -> Refused:
    """400 for one value of the wrong type, or a missing one."""
    return Refused(400, INVALID_JSON, [violation(path, *errors)])


@contextmanager
def inside(at: str) -> Iterator[None]:
    """Refusals from within carry `at` before their paths."""
    try:
        yield
    except Refused as refused:
        details = refused.details
        if details is None or isinstance(details, str):
            raise
        moved = [violation(at + each.path.rstrip("/"), *each.errors) for each in details]
        raise Refused(refused.status, refused.message, moved) from None


def locked(deployments: Iterable[str]) -> Refused:
    """409: the apps are held by `deployments`."""
    return Refused(
        409,
        "App is locked by one or more deployments. Override with the option '?force=true'. "
        "View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
        deployments=deployments,
    )
