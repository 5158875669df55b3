"""The algebra of resources: laws, formats, indivisible kinds, views."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mesostk.errors import ConfigError, WireError
from mesostk.resources import attributes, conversions, quantity, roles, scalar, text, validity
from mesostk.resources.kinds import Kind, with_format
from mesostk.resources.resources import EMPTY, Resources
from mesostk.testing.strategies import resources, wire_resources
from mesostk.wire import mesos


def _overlap(a: Resources, b: Resources) -> bool:
    """Whether some range or set item is in both, so that a sum forgets that it was twice."""
    mine = dict(a.items())
    return any(
        not isinstance(q, int) and kind in mine and quantity.minus(mine[kind], q) != mine[kind]
        for kind, q in b.items()
    )


# -- laws ---------------------------------------------------------------------------------------


@given(resources(), resources())
def test_what_was_added_can_be_taken_away(a: Resources, b: Resources) -> None:
    assume(not _overlap(a, b))
    assert (a + b) - b == a


@given(resources(), resources(), resources())
def test_addition_is_commutative_and_associative(a: Resources, b: Resources, c: Resources) -> None:
    assert a + b == b + a
    assert hash(a + b) == hash(b + a)
    assert (a + b) + c == a + (b + c) == Resources.sum([a, b, c])


@given(resources(), resources())
def test_contains_is_reflexive_and_monotone(a: Resources, b: Resources) -> None:
    assert a.contains(a)
    assert (a + b).contains(a)
    assert a.contains(a - b)
    assert a.contains(EMPTY)
    assert EMPTY.contains(a) == a.is_empty


@given(resources(), resources())
def test_contains_and_subtraction_agree(a: Resources, b: Resources) -> None:
    assert a.contains(b) == (b - a).is_empty
    if a.contains(b) and not _overlap(a - b, b):
        assert (a - b) + b == a


@given(resources(), resources())
def test_arguments_are_never_changed(a: Resources, b: Resources) -> None:
    before = (dict(a.items()), dict(b.items()))
    for result in (a + b, a - b, a.allocate("r"), a.shrink({"cpus": 1}), Resources.sum([a, b])):
        assert result is not None
    assert (dict(a.items()), dict(b.items())) == before


@given(resources())
def test_parts_make_the_whole(bag: Resources) -> None:
    assert bag.reserved() + bag.unreserved() == bag
    assert bag.revocable() + bag.non_revocable() == bag
    assert bag.shared() + bag.non_shared() == bag
    assert Resources.sum(bag.reservations().values()) == bag.reserved()
    for role, part in bag.reservations().items():
        assert part == bag.reserved(role)


@given(resources(), st.sampled_from(["eng", "eng/web", "ops", "other"]))
def test_allocatable_is_unreserved_plus_own_and_ancestors(bag: Resources, role: str) -> None:
    parts = [bag.unreserved(), bag.reserved(role), *map(bag.reserved, roles.ancestors(role))]
    assert bag.allocatable_to(role) == Resources.sum(parts)


@given(resources())
def test_allocation_and_reservation_are_undone(bag: Resources) -> None:
    bare = bag.unallocate()
    assert bare.allocate("r").unallocate() == bare
    pushed = bare.push_reservation(
        mesos.ReservationInfo(type="DYNAMIC", role="eng/x", principal="p")
    )
    assert pushed.pop_reservation() == bare
    assert pushed.reserved("eng/x") == pushed
    assert not bag.to_unreserved().reserved()


@given(resources())
def test_wire_round_trips_in_every_format_that_can_tell_it(bag: Resources) -> None:
    assert Resources.of(bag.to_wire()) == bag
    assert Resources.of(bag.to_wire("ENDPOINT")) == bag
    tellable = bag.filter(lambda kind: not kind.is_refined)
    assert Resources.of(tellable.to_wire("PRE")) == tellable


@given(wire_resources())
def test_valid_resources_are_found_valid_in_every_format(resource: mesos.Resource) -> None:
    assert validity.why_not(resource) is None
    assert validity.why_not(with_format(resource, "ENDPOINT")) is None
    if len(resource.reservations) < 2:
        assert validity.why_not(with_format(resource, "PRE")) is None


@given(resources(static_only=True))
def test_flag_text_is_read_back(bag: Resources) -> None:
    assert text.parse(text.to_text(bag)) == bag


@given(resources(), st.integers(0, 3000))
def test_shrinking_keeps_to_the_limit_and_inside_the_bag(bag: Resources, limit: int) -> None:
    small = bag.shrink({"cpus": limit})
    assert small.scalar("cpus") == min(limit, bag.scalar("cpus"))
    assert bag.contains(small)
    assert small.filter(lambda kind: kind.name != "cpus") == bag.filter(
        lambda kind: kind.name != "cpus"
    )


@given(resources())
def test_copies_and_pickles_are_equal(bag: Resources) -> None:
    assert copy.deepcopy(bag) is bag
    assert pickle.loads(pickle.dumps(bag)) == bag


# -- scalars ------------------------------------------------------------------------------------


def test_scalars_count_in_thousandths() -> None:
    tenth = Resources.scalars(cpus=0.1)
    assert Resources.sum([tenth] * 10) == Resources.scalars(cpus=1)
    assert Resources.scalars(cpus=0.0004) == EMPTY
    assert Resources.scalars(cpus=1.0004) == Resources.scalars(cpus=1)
    assert (Resources.scalars(mem=1) - Resources.scalars(mem=2)).is_empty


@given(st.integers(-(10**9), 10**9))
def test_scalar_conversions_are_exact(thousandths: int) -> None:
    assert scalar.from_float(scalar.to_float(thousandths)) == thousandths
    assert scalar.from_float(float(scalar.to_text(thousandths))) == thousandths


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7e308])
def test_what_is_no_quantity_is_refused(value: float) -> None:
    with pytest.raises(WireError):
        scalar.from_float(value)
    resource = mesos.Resource(name="cpus", type="SCALAR", scalar=mesos.Scalar(value))
    assert validity.why_not(resource) is not None
    with pytest.raises(WireError):
        Resources.of([resource])


def test_negative_scalars_are_refused() -> None:
    resource = mesos.Resource(name="cpus", type="SCALAR", scalar=mesos.Scalar(-1.0))
    assert validity.why_not(resource) == "Invalid scalar resource: value < 0"
    with pytest.raises(WireError, match="cpus"):
        Resources.of([resource])


# -- indivisible kinds --------------------------------------------------------------------------


def _volume(size: float, id: str = "v", path: str = "data", *, shared: bool = False) -> Resources:
    return Resources.of(
        [
            mesos.Resource(
                name="disk",
                type="SCALAR",
                scalar=mesos.Scalar(size),
                reservations=(mesos.ReservationInfo(type="DYNAMIC", role="eng"),),
                disk=mesos.DiskInfo(
                    persistence=mesos.Persistence(id=id),
                    volume=mesos.Volume(mode="RW", container_path=path),
                ),
                shared=mesos.SharedInfo() if shared else None,
            )
        ]
    )


def test_volumes_are_never_merged_or_split() -> None:
    both = _volume(10, "a") + _volume(10, "b")
    assert len(both) == 2
    assert both.scalar("disk") == 20_000
    assert not both.contains(_volume(5, "a"))
    assert both - _volume(5, "a") == both
    assert both - _volume(10, "a") == _volume(10, "b")


def test_a_volume_is_the_same_wherever_it_is_mounted() -> None:
    total = _volume(10, path="data")
    used = _volume(10, path="elsewhere")
    assert total.contains(used)
    assert (total - used).is_empty
    [shown] = used.to_wire()
    assert shown.disk is not None
    assert shown.disk.volume is not None
    assert shown.disk.volume.container_path == "elsewhere"


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_any_bag_of_volumes_is_found_under_other_mounts(one: list[int], two: list[int]) -> None:
    there = Resources.sum(_volume(id + 1, f"v{id}", f"here{id}") for id in one)
    asked = Resources.sum(_volume(id + 1, f"v{id}", f"there{id}") for id in two[:3])
    assert there.contains(asked)
    assert len(there - asked) == 3
    assert (there - asked).scalar("disk") == there.scalar("disk") - asked.scalar("disk")
    assert not there.contains(asked + asked)
    assert len(there + asked) == 6
    assert asked + there == asked + (there - asked) + Resources.sum(
        _volume(id + 1, f"v{id}", f"there{id}") for id in two[:3]
    )


def _cores_compared(count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the arithmetic of `count` volumes looks at what tells one from another."""
    here = [_volume(1, f"v{id}", "here") for id in range(count)]
    there = [_volume(1, f"v{id}", "there") for id in range(count)]
    looked: list[Kind] = []

    def core(kind: Kind) -> Kind:
        looked.append(kind)
        return true_core(kind)

    true_core: Callable[[Kind], Kind] = vars(Kind)["core"].fget
    with monkeypatch.context() as patched:
        patched.setattr(Kind, "core", property(core))
        wire = [resource for bag in here for resource in bag.to_wire()]
        total = Resources.of(wire) + Resources.scalars(cpus=1)
        used = Resources.sum(there)
        assert total.contains(used)
        assert (total - used) == Resources.scalars(cpus=1)
        assert len(total + used) == len(total.allocate("web")) == count + 1
    return len(looked)


def test_the_arithmetic_of_volumes_costs_as_many_looks_as_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once, twice = _cores_compared(20, monkeypatch), _cores_compared(40, monkeypatch)
    assert once > 0
    assert twice == 2 * once


def test_copies_of_a_shared_volume_are_counted_and_occupy_it_once() -> None:
    one = _volume(10, shared=True)
    two = one + one
    assert two != one
    assert two.scalar("disk") == 10_000
    assert len(two.to_wire()) == 2
    assert two - one == one
    assert not one.contains(two)
    assert not one.contains(_volume(10))


def test_mount_disks_are_taken_whole_and_path_disks_are_not() -> None:
    def disk(type_: mesos.DiskSourceType, size: float) -> Resources:
        source = mesos.DiskSource(type=type_, mount=mesos.DiskSourceRoot(root="/mnt/1"))
        return Resources.of(
            [
                mesos.Resource(
                    name="disk",
                    type="SCALAR",
                    scalar=mesos.Scalar(size),
                    disk=mesos.DiskInfo(source=source),
                )
            ]
        )

    assert not disk("MOUNT", 10).contains(disk("MOUNT", 5))
    assert disk("PATH", 10).contains(disk("PATH", 5))
    assert disk("PATH", 10) - disk("PATH", 4) == disk("PATH", 6)
    assert disk("MOUNT", 10).shrink({"disk": 5000}).is_empty


def test_revocable_is_kept_apart() -> None:
    firm = Resources.scalars(cpus=1)
    loose = Resources.of(
        [
            mesos.Resource(
                name="cpus",
                type="SCALAR",
                scalar=mesos.Scalar(2.0),
                revocable=mesos.RevocableInfo(),
            )
        ]
    )
    both = firm + loose
    assert both.non_revocable() == firm
    assert not firm.contains(loose)
    assert both.legacy_object() == {
        "cpus": 1.0,
        "gpus": 0.0,
        "mem": 0.0,
        "disk": 0.0,
        "cpus_revocable": 2.0,
    }


# -- formats ------------------------------------------------------------------------------------


def _cpus(**fields: object) -> mesos.Resource:
    return mesos.Resource(name="cpus", type="SCALAR", scalar=mesos.Scalar(1.0), **fields)  # type: ignore[arg-type]  # each caller's fields are right


DYNAMIC = mesos.ReservationInfo(type="DYNAMIC", role="eng", principal="p")


@pytest.mark.parametrize(
    ("pre", "post"),
    [
        (_cpus(role="*"), _cpus()),
        (_cpus(), _cpus()),
        (
            _cpus(role="eng"),
            _cpus(reservations=(mesos.ReservationInfo(type="STATIC", role="eng"),)),
        ),
        (
            _cpus(role="eng", reservation=mesos.ReservationInfo(principal="p")),
            _cpus(reservations=(DYNAMIC,)),
        ),
    ],
)
def test_both_reservation_formats_mean_the_same(pre: mesos.Resource, post: mesos.Resource) -> None:
    assert Resources.of([pre]) == Resources.of([post])
    assert Resources.of([pre]).to_wire() == (post,)
    told = Resources.of([post]).to_wire("PRE")[0]
    assert (told.role, told.reservation, told.reservations) == (
        pre.role or "*",
        pre.reservation,
        (),
    )


def test_endpoint_format_shows_both() -> None:
    [shown] = Resources.of([_cpus(reservations=(DYNAMIC,))]).to_wire("ENDPOINT")
    assert shown.role == "eng"
    assert shown.reservation == mesos.ReservationInfo(principal="p")
    assert shown.reservations == (DYNAMIC,)


def test_a_refined_reservation_cannot_be_told_in_the_old_format() -> None:
    refined = _cpus(
        reservations=(DYNAMIC, mesos.ReservationInfo(type="DYNAMIC", role="eng/web")),
    )
    bag = Resources.of([refined])
    with pytest.raises(WireError, match="RESERVATION_REFINEMENT"):
        bag.to_wire("PRE")
    assert bag.to_wire("ENDPOINT") == (refined,)


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (mesos.Resource(name="", type="SCALAR"), "Empty resource name"),
        (mesos.Resource(name="a", type="SCALAR"), "Invalid scalar resource"),
        (mesos.Resource(name="a", type="TEXT"), "Unsupported resource type"),
        (
            mesos.Resource(
                name="p", type="RANGES", ranges=mesos.Ranges(range=(mesos.Range(2, 1),))
            ),
            "Invalid ranges resource: begin > end",
        ),
        (
            mesos.Resource(
                name="p",
                type="RANGES",
                ranges=mesos.Ranges(range=(mesos.Range(5, 9), mesos.Range(1, 5))),
            ),
            "Invalid ranges resource: overlapping ranges",
        ),
        (
            mesos.Resource(name="s", type="SET", set=mesos.Set(item=("a", "a"))),
            "Invalid set resource: duplicated elements",
        ),
        (
            mesos.Resource(name="gpus", type="SCALAR", scalar=mesos.Scalar(0.5)),
            "The 'gpus' resource must be an unsigned integer",
        ),
        (_cpus(disk=mesos.DiskInfo()), "DiskInfo should not be set for cpus resource"),
        (_cpus(role="/a"), "Role '/a' cannot start or end with a slash"),
        (
            _cpus(role="*", reservation=mesos.ReservationInfo(principal="p")),
            'Invalid reservation: role "*" cannot be dynamically reserved',
        ),
        (
            _cpus(reservations=(mesos.ReservationInfo(type="STATIC", role="*"),)),
            'Invalid reservation: role "*" cannot be reserved',
        ),
        (
            _cpus(reservations=(mesos.ReservationInfo(role="a"),)),
            "Invalid reservation: 'Resource.ReservationInfo.type' field must be set.",
        ),
        (
            _cpus(reservations=(DYNAMIC, mesos.ReservationInfo(type="DYNAMIC", role="ops"))),
            "Invalid refined reservation: role 'ops' is not a refinement of 'eng'",
        ),
        (
            _cpus(reservations=(DYNAMIC, mesos.ReservationInfo(type="STATIC", role="eng/a"))),
            "Invalid refined reservation: A refined reservation cannot be STATIC",
        ),
    ],
)
def test_reasons_are_those_of_the_original(resource: mesos.Resource, reason: str) -> None:
    assert validity.why_not(resource) == reason
    assert validity.why_not_all([resource]) == f"Resource '{resource.name}' is invalid: {reason}"


def test_mixed_formats_that_disagree_are_refused() -> None:
    reason = validity.why_not(_cpus(role="ops", reservations=(DYNAMIC,)))
    assert reason is not None
    assert "does not match" in reason
    reason = validity.why_not(
        _cpus(reservation=mesos.ReservationInfo(principal="q"), reservations=(DYNAMIC,))
    )
    assert reason is not None


# -- text ---------------------------------------------------------------------------------------


def test_the_originals_example_is_parsed() -> None:
    bag = text.parse(
        "cpus:24;gpus:2;mem:24576;disk:409600;ports:[21000-24000,30000-34000];bugs(debug):{a,b,c}"
    )
    assert bag.legacy_object() == {
        "cpus": 24.0,
        "gpus": 2.0,
        "mem": 24576.0,
        "disk": 409600.0,
        "ports": "[21000-24000, 30000-34000]",
        "bugs": "{a, b, c}",
    }
    assert list(bag.reservations()) == ["debug"]
    assert str(bag.named("bugs")) == "bugs(reservations: [(STATIC,debug)]):{a, b, c}"
    assert str(Resources.scalars(cpus=0.5).allocate("eng")) == "cpus(allocated: eng):0.5"


def test_json_is_taken_too_and_default_role_applies_to_what_names_none() -> None:
    bag = text.parse('[{"name":"cpus","type":"SCALAR","scalar":{"value":2}}]', default_role="ops")
    assert bag.reserved("ops").scalar("cpus") == 2000
    assert text.parse("cpus:1;mem(*):5", default_role="ops").unreserved().scalar("mem") == 5000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cpus", "missing or extra ':'"),
        ("cpus:1:2", "missing or extra ':'"),
        ("cpus:-1", "value < 0"),
        ("cpus:nan", "expected a number"),
        ("cpus:inf", "expected a number"),
        ("cpus:lots", "Bad value 'lots'"),
        ("ports:[1-2", "missing ']'"),
        ("ports:[2-1]", "2 is above 1"),
        ("ports:[a-b]", "expected ranges"),
        ("s:{a", "missing '}'"),
        ("x(role:1", "mismatched parentheses"),
        ("x(-bad):1", "cannot start with '-'"),
        (":1", "Empty resource name"),
        ("cpus:1;cpus:{a}", "different types"),
        ("gpus:0.5", "unsigned integer"),
        ('[{"name":"cpus"}]', "Missing required fields"),
        ('[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"revocable":{}}]', "revocable"),
        (
            '[{"name":"c","type":"SCALAR","scalar":{"value":1},"role":"r","reservation":{}}]',
            "RESERVE",
        ),
    ],
)
def test_wrong_flag_text_is_refused_with_the_part_that_is_wrong(value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        text.parse(value)
    assert message in str(caught.value)


def test_minimum_quantities_are_parsed() -> None:
    assert text.parse_quantities("cpus:0.01;mem:32") == {"cpus": 10, "mem": 32000}
    with pytest.raises(ConfigError, match="scalars only"):
        text.parse_quantities("ports:[1-2]")


# -- roles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["*", "eng", "eng/web", "a.b", "a-b"])
def test_role_names(role: str) -> None:
    assert roles.why_not_role(role) is None


@pytest.mark.parametrize("role", ["", "/a", "a/", "a//b", ".", "a/..", "-a", "a b", "a/*", "a\x08"])
def test_what_is_no_role_name(role: str) -> None:
    assert roles.why_not_role(role) is not None


# -- attributes ---------------------------------------------------------------------------------


def test_attributes_are_typed_as_they_look_and_read_back() -> None:
    found = attributes.parse("rack:abc;zone:west; os:centos5;level:10;keys:[1000-1500];url:a:b")
    assert attributes.legacy_object(found) == {
        "rack": "abc",
        "zone": "west",
        "os": "centos5",
        "level": 10.0,
        "keys": "[1000-1500]",
        "url": "a:b",
    }
    assert attributes.parse(attributes.to_text(found)) == found


def test_attributes_match_by_value_not_by_spelling() -> None:
    found = attributes.parse("level:10;rack:r1;rack:r2")
    assert attributes.matches(found, "level", "10.0")
    assert attributes.matches(found, "rack", "r2")
    assert not attributes.matches(found, "rack", "r3")
    assert not attributes.matches(found, "rack", "")


@pytest.mark.parametrize("value", ["rack", "rack:", ":x", "a:{x}", "a:[1-"])
def test_wrong_attributes_are_refused(value: str) -> None:
    with pytest.raises(ConfigError):
        attributes.parse(value)


# -- conversions --------------------------------------------------------------------------------


def _operation(type_: mesos.OperationType, **fields: object) -> mesos.OfferOperation:
    return mesos.OfferOperation(type=type_, **fields)  # type: ignore[arg-type]  # each caller's fields are right


def test_reserve_and_unreserve_undo_each_other() -> None:
    free = Resources.scalars(cpus=4, mem=100)
    asked = Resources.scalars(cpus=1).push_reservation(DYNAMIC).to_wire()
    reserved = conversions.apply(
        free, _operation("RESERVE", reserve=mesos.Reserve(resources=asked))
    )
    assert isinstance(reserved, Resources)
    assert reserved.reserved("eng").scalar("cpus") == 1000
    assert reserved.unreserved().scalar("cpus") == 3000
    again = conversions.apply(
        reserved, _operation("UNRESERVE", unreserve=mesos.Unreserve(resources=asked))
    )
    assert again == free


def test_create_grow_shrink_destroy_keep_the_disk() -> None:
    free = Resources.scalars(disk=100).push_reservation(DYNAMIC)
    [volume] = (
        Resources.of(
            [
                mesos.Resource(
                    name="disk",
                    type="SCALAR",
                    scalar=mesos.Scalar(40.0),
                    reservations=(DYNAMIC,),
                    disk=mesos.DiskInfo(
                        persistence=mesos.Persistence(id="v"),
                        volume=mesos.Volume(mode="RW", container_path="data"),
                    ),
                )
            ]
        )
    ).to_wire()
    created = conversions.apply(free, _operation("CREATE", create=mesos.Create(volumes=(volume,))))
    assert isinstance(created, Resources)
    assert created.persistent_volumes().scalar("disk") == 40_000
    [addition] = Resources.scalars(disk=10).push_reservation(DYNAMIC).to_wire()
    grown = conversions.apply(
        created,
        _operation("GROW_VOLUME", grow_volume=mesos.GrowVolume(volume=volume, addition=addition)),
    )
    assert isinstance(grown, Resources)
    [big] = grown.persistent_volumes().to_wire()
    assert big.scalar == mesos.Scalar(50.0)
    shrunk = conversions.apply(
        grown,
        _operation(
            "SHRINK_VOLUME",
            shrink_volume=mesos.ShrinkVolume(volume=big, subtract=mesos.Scalar(10.0)),
        ),
    )
    assert shrunk == created
    assert (
        conversions.apply(created, _operation("DESTROY", destroy=mesos.Destroy(volumes=(volume,))))
        == free
    )


def test_what_is_not_there_cannot_be_converted() -> None:
    asked = Resources.scalars(cpus=9).push_reservation(DYNAMIC).to_wire()
    reason = conversions.apply(
        Resources.scalars(cpus=1), _operation("RESERVE", reserve=mesos.Reserve(resources=asked))
    )
    assert reason == "cpus:1 does not contain cpus:9"


def test_what_is_no_conversion_is_refused() -> None:
    for operation, message in [
        (_operation("LAUNCH"), "does not convert"),
        (_operation("RESERVE"), "Expecting 'reserve'"),
        (
            _operation("RESERVE", reserve=mesos.Reserve(resources=(_cpus(),))),
            "not reserved",
        ),
        (_operation("CREATE", create=mesos.Create(volumes=(_cpus(),))), "not a persistent volume"),
    ]:
        reason = conversions.apply(EMPTY, operation)
        assert isinstance(reason, str)
        assert message in reason
