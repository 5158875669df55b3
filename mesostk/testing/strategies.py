"""Hypothesis strategies for values of the wire and of the algebras over them.

Quantities are small and names few, so that bags overlap often; that is where algebra goes wrong.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mesostk.resources import ranges, scalar
from mesostk.resources.resources import Resources
from mesostk.wire import mesos

ROLES = ("eng", "eng/web", "eng/web/eu", "ops")

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12).filter(
    lambda text: not text.startswith("-") and not text.endswith("-")
)


def pairs(highest: int = 40) -> SearchStrategy[list[tuple[int, int]]]:
    """Closed intervals, in any order, overlapping or not."""
    pair = st.tuples(st.integers(0, highest), st.integers(0, 6)).map(lambda p: (p[0], p[0] + p[1]))
    return st.lists(pair, max_size=5)


def interval_sets(highest: int = 40) -> SearchStrategy[ranges.Ranges]:
    """Canonical intervals."""
    return pairs(highest).map(ranges.of)


@st.composite
def reservation_stacks(
    draw: st.DrawFn, *, static_only: bool = False
) -> tuple[mesos.ReservationInfo, ...]:
    """Valid stacks: the first may be static, each later one refines the one before."""
    if static_only:
        role = draw(st.sampled_from((None, *ROLES)))
        return () if role is None else (mesos.ReservationInfo(type="STATIC", role=role),)
    depth = draw(st.integers(0, 3))
    stack = []
    for level in range(depth):
        kind: Any = draw(st.sampled_from(("STATIC", "DYNAMIC"))) if level == 0 else "DYNAMIC"
        principal = draw(st.sampled_from((None, "ops-principal"))) if kind == "DYNAMIC" else None
        stack.append(mesos.ReservationInfo(type=kind, role=ROLES[level], principal=principal))
    return tuple(stack)


def _scalar(name: str) -> SearchStrategy[dict[str, Any]]:
    step = scalar.SCALE if name == "gpus" else 1
    return st.integers(0, 5000).map(
        lambda amount: {
            "name": name,
            "type": "SCALAR",
            "scalar": mesos.Scalar(scalar.to_float(amount * step)),
        }
    )


def _wire_ranges(found: ranges.Ranges) -> mesos.Ranges:
    return mesos.Ranges(range=tuple(mesos.Range(begin, end) for begin, end in found))


_values = st.one_of(
    st.sampled_from(("cpus", "mem", "disk", "gpus")).flatmap(_scalar),
    interval_sets().map(lambda r: {"name": "ports", "type": "RANGES", "ranges": _wire_ranges(r)}),
    st.frozensets(st.sampled_from("abcd")).map(
        lambda items: {"name": "zones", "type": "SET", "set": mesos.Set(item=tuple(sorted(items)))}
    ),
)


@st.composite
def wire_resources(
    draw: st.DrawFn, *, static_only: bool = False, volumes: bool = True
) -> mesos.Resource:
    """One valid resource in the POST format, possibly of quantity zero."""
    fields = dict(draw(_values))
    fields["reservations"] = draw(reservation_stacks(static_only=static_only))
    if static_only:
        return mesos.Resource(**fields)
    if draw(st.booleans()):
        fields["allocation_info"] = mesos.AllocationInfo(role=draw(st.sampled_from(ROLES)))
    if draw(st.integers(0, 5)) == 0:
        fields["revocable"] = mesos.RevocableInfo()
    elif volumes and fields["name"] == "disk" and fields["reservations"] and draw(st.booleans()):
        fields["disk"] = mesos.DiskInfo(
            persistence=mesos.Persistence(id=draw(st.sampled_from(("v1", "v2")))),
            volume=mesos.Volume(mode="RW", container_path="data"),
        )
        if draw(st.booleans()):
            fields["shared"] = mesos.SharedInfo()
    return mesos.Resource(**fields)


def resources(*, static_only: bool = False, volumes: bool = True) -> SearchStrategy[Resources]:
    """Bags of up to six kinds."""
    one = wire_resources(static_only=static_only, volumes=volumes)
    return st.lists(one, max_size=6).map(Resources.of)


_commands = st.builds(mesos.CommandInfo, value=st.none() | names, shell=st.booleans())
_labels = st.lists(
    st.builds(mesos.Label, key=names, value=st.none() | st.text(max_size=5)), max_size=3
).map(lambda items: mesos.Labels(labels=tuple(items)))
_wire_bags = st.lists(wire_resources(), max_size=4).map(tuple)


def task_infos() -> SearchStrategy[mesos.TaskInfo]:
    """Tasks of command kind, well-formed but not necessarily fitting any offer."""
    return st.builds(
        mesos.TaskInfo,
        name=names,
        task_id=names.map(mesos.TaskID),
        agent_id=names.map(mesos.AgentID),
        resources=_wire_bags,
        command=_commands,
        labels=st.none() | _labels,
        data=st.none() | st.binary(max_size=8),
        limits=st.dictionaries(st.sampled_from(("cpus", "mem")), st.just(mesos.Scalar(1.0))),
    )


def task_statuses() -> SearchStrategy[mesos.TaskStatus]:
    """Status updates, acknowledgeable or not."""
    return st.builds(
        mesos.TaskStatus,
        task_id=names.map(mesos.TaskID),
        state=st.sampled_from(sorted(mesos.TERMINAL_STATES | {"TASK_RUNNING", "TASK_STAGING"})),
        message=st.none() | st.text(max_size=10),
        source=st.sampled_from((None, "SOURCE_MASTER", "SOURCE_EXECUTOR")),
        agent_id=st.none() | names.map(mesos.AgentID),
        timestamp=st.none() | st.floats(0, 2e9),
        uuid=st.none() | st.binary(min_size=16, max_size=16),
        healthy=st.none() | st.booleans(),
        labels=st.none() | _labels,
    )


def offers() -> SearchStrategy[mesos.Offer]:
    """Offers of any resources to a framework in one role."""
    return st.builds(
        mesos.Offer,
        id=names.map(mesos.OfferID),
        framework_id=names.map(mesos.FrameworkID),
        agent_id=names.map(mesos.AgentID),
        hostname=names,
        resources=_wire_bags,
        attributes=st.lists(
            st.builds(
                mesos.Attribute, name=names, type=st.just("TEXT"), text=names.map(mesos.Text)
            ),
            max_size=3,
        ).map(tuple),
        allocation_info=st.sampled_from(ROLES).map(lambda role: mesos.AllocationInfo(role=role)),
    )
