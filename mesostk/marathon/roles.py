"""Which role an app or pod is launched in, and which it may ask for.

::

    /dev/team/web ─▶ top-level group /dev ─▶ its group-role is "dev"
        /dev enforces its role   dev                  default dev
        it does not              --mesos_role, dev    default --mesos_role
    /web, in the root group      --mesos_role
    and always the role that the app has already

Source: the original's `multirole.md`, and the texts of its validation.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mesostk.marathon import groups, paths
from mesostk.marathon.apps import Settings, is_resident
from mesostk.marathon.groups import Group
from mesostk.marathon.refusal import violation
from mesostk.wire.marathon import AppDefinition, Violation

UNRESERVED = "*"


class Choice(msgspec.Struct, frozen=True):
    """The role of a run spec that names none, and all that it may name."""

    default: str
    valid: frozenset[str]


def choice(root: Group, id: str, settings: Settings, before: AppDefinition | None) -> Choice:
    """What run spec `id` may choose in `root`, in which it may be new; `before` is what it was."""
    own = frozenset() if before is None or before.role is None else frozenset({before.role})
    top = paths.segments(id)[0]
    if paths.parent(id) == paths.ROOT:
        return Choice(settings.role, own | {settings.role})
    if is_enforced(root, id, settings):
        return Choice(top, own | {top})
    return Choice(settings.role, own | {settings.role, top})


def is_enforced(root: Group, id: str, settings: Settings) -> bool:
    """Whether the top-level group of run spec `id` makes its own role that of all new ones in it.

    A group that does not exist will be made with the flag's answer.
    """
    if paths.parent(id) == paths.ROOT:
        return False
    top = groups.find(root, "/" + paths.segments(id)[0])
    return settings.enforce_new_groups if top is None else top.enforce_role


def with_new_groups(old: Group, new: Group, settings: Settings) -> Group:
    """`new` with the flag's answer in the top-level groups that a change made on its way."""
    if not settings.enforce_new_groups or new.groups.keys() <= old.groups.keys():
        return new
    made = {
        id: group if id in old.groups else msgspec.structs.replace(group, enforce_role=True)
        for id, group in new.groups.items()
    }
    return msgspec.structs.replace(new, groups=made)


def settled(app: AppDefinition, choice: Choice) -> AppDefinition:
    """`app` with a role, the default where it names none."""
    if app.role is not None:
        return app
    return msgspec.structs.replace(app, role=choice.default)


def violations(
    app: AppDefinition, choice: Choice, before: AppDefinition | None, *, force: bool
) -> Iterator[Violation]:
    """Why `app` may not have its role, or the resource roles that it accepts."""
    role = app.role
    assert role is not None  # settled before
    if role not in choice.valid:
        expected = ", ".join(sorted(choice.valid))
        yield violation("/role", f"got {role}, expected one of: [{expected}]")
    accepted = frozenset(app.accepted_resource_roles or ())
    valid = sorted({UNRESERVED, role})
    if not accepted <= set(valid):
        yield violation(
            "/acceptedResourceRoles",
            f"acceptedResourceRoles can only contain {' and '.join(valid)}",
        )
    if is_resident(app):
        yield from _of_resident("app" if app.pod is None else "pod", role, accepted)
        yield from _of_change(role, before, force=force)


def _of_resident(kind: str, role: str, accepted: frozenset[str]) -> Iterator[Violation]:
    if role == UNRESERVED:
        yield violation(
            "/role",
            f"Resident {kind}s cannot have the role {UNRESERVED}; put the {kind} into a group and "
            "give it the group's role, or start Marathon with --mesos_role",
        )
    if accepted and accepted != {UNRESERVED}:
        yield violation(
            "/acceptedResourceRoles",
            f'A resident {kind} must have `acceptedResourceRoles = ["*"]`.',
        )


def _of_change(role: str, before: AppDefinition | None, *, force: bool) -> Iterator[Violation]:
    if before is None or before.role in {None, role} or force or not is_resident(before):
        return
    yield violation(
        "/role",
        "It is not possible to change the role for existing reservations. If you proceed with this "
        "change, all existing instances will continue to run under the previous role, "
        f"{before.role}. Only new instances will be allocated with the new role, {role}. In order "
        "to continue, retry your request with ?force=true",
    )
