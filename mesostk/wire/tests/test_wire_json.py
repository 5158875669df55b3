"""JSON coders: strict first, then the leniency of the original, then an error with a path."""

from __future__ import annotations

import math

import msgspec
import pytest

from mesostk.errors import WireError
from mesostk.wire import link, mesos, scheduler
from mesostk.wire.json import decode, encode


def test_unset_fields_are_left_out_and_proto_defaults_are_written() -> None:
    info = mesos.FrameworkInfo(user="root", name="web")
    assert msgspec.json.decode(encode(info)) == {
        "user": "root",
        "name": "web",
        "failover_timeout": 0.0,
        "checkpoint": False,
    }


def test_doubles_keep_a_fraction_and_bytes_are_base64() -> None:
    assert encode(mesos.Scalar(15.0)) == b'{"value":15.0}'
    assert encode(mesos.UUID(b"\x00" * 16)) == b'{"value":"AAAAAAAAAAAAAAAAAAAAAA=="}'


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinity_is_a_string_that_comes_back(value: float) -> None:
    raw = encode(mesos.Filters(refuse_seconds=value))
    assert raw in (b'{"refuse_seconds":"Infinity"}', b'{"refuse_seconds":"-Infinity"}')
    assert decode(raw, mesos.Filters).refuse_seconds == value


def test_nan_is_written_as_null_and_read_as_unset() -> None:
    raw = encode(mesos.Filters(refuse_seconds=math.nan))
    assert raw == b'{"refuse_seconds":null}'
    assert decode(raw, mesos.Filters).refuse_seconds == 5.0


def test_text_that_holds_null_does_not_change() -> None:
    label = mesos.Label(key="a:null", value=':null "')
    assert decode(encode(label), mesos.Label) == label


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(WireError, match="cannot be written"):
        encode({"a": object()})
    with pytest.raises(WireError, match="cannot be written"):
        encode({"a": "\ud800"})


def test_null_is_ignored_wherever_it_stands() -> None:
    call = decode(
        b'{"type":"ACCEPT","framework_id":null,"accept":{"offer_ids":[null,{"value":"O1"}],'
        b'"operations":null,"filters":{"refuse_seconds":null}}}',
        scheduler.Call,
    )
    assert call.framework_id is None
    assert call.accept == scheduler.Accept(
        offer_ids=(mesos.OfferID("O1"),), filters=mesos.Filters()
    )


def test_unknown_enum_name_leaves_the_field_unset() -> None:
    assert decode(b'{"type":"NO_SUCH"}', scheduler.Call).type is None
    assert decode(b'{"type":"NO_SUCH"}', scheduler.Event).type == "UNKNOWN"


def test_unknown_name_of_a_required_enum_is_a_missing_field() -> None:
    with pytest.raises(WireError, match=r"^Missing required fields: state$"):
        decode(b'{"task_id":{"value":"t"},"state":"TASK_DANCING"}', mesos.TaskStatus)


def test_every_missing_field_is_named_with_its_path() -> None:
    with pytest.raises(WireError) as caught:
        decode(
            b'{"type":"SUBSCRIBE","subscribe":{"framework_info":{"id":{}}},'
            b'"accept":{"offer_ids":[{"value":"O1"},{}]}}',
            scheduler.Call,
        )
    assert str(caught.value) == (
        "Missing required fields: subscribe.framework_info.id.value, "
        "subscribe.framework_info.user, subscribe.framework_info.name, accept.offer_ids[1].value"
    )


def test_missing_field_inside_a_map_is_named() -> None:
    with pytest.raises(WireError, match=r"limits\['mem'\]\.value"):
        decode(
            b'{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"},"limits":{"mem":{}}}',
            mesos.TaskInfo,
        )


def test_strings_serve_as_numbers_and_booleans() -> None:
    info = decode(
        b'{"user":"u","name":"n","checkpoint":"true","failover_timeout":"10"}', mesos.FrameworkInfo
    )
    assert info.checkpoint is True
    assert info.failover_timeout == 10.0
    assert decode(b'{"begin":"1","end":2.0}', mesos.Range) == mesos.Range(1, 2)


@pytest.mark.parametrize(
    ("raw", "type_", "message"),
    [
        (b'{"type":3}', scheduler.Call, "Not expecting a JSON number for field 'type'"),
        (b'{"framework_id":[]}', scheduler.Call, "JSON array for field 'framework_id'"),
        (b'{"value":{}}', mesos.FrameworkID, "Not expecting a JSON object for field 'value'"),
        (b'{"value":7}', mesos.FrameworkID, "Not expecting a JSON number for field 'value'"),
        (b'{"begin":"x","end":1}', mesos.Range, "JSON string for field 'begin'"),
        (b"[]", scheduler.Call, "Expecting a JSON object"),
        (b"7", scheduler.Call, "Expecting a JSON object"),
        (b"", scheduler.Call, "syntax error"),
        (b"{", scheduler.Call, "syntax error"),
        (b'{"type":"KILL"} x', scheduler.Call, "syntax error"),
        (b'{"value":"\xff"}', mesos.FrameworkID, "not UTF-8"),
        (b'{"value":1e999}', mesos.Scalar, "out of range at 'value'"),
    ],
)
def test_wrong_documents_are_refused_with_their_path(
    raw: bytes, type_: type[object], message: str
) -> None:
    with pytest.raises(WireError) as caught:
        decode(raw, type_)
    assert message in str(caught.value)


@pytest.mark.parametrize("opener", [b"[", b'{"a":'])
@pytest.mark.parametrize("prefix", [b'{"unknown":', b'{"type":3,"unknown":', b""])
def test_deep_nesting_is_refused(prefix: bytes, opener: bytes) -> None:
    with pytest.raises(WireError, match=r"nested too deeply|syntax error|JSON object"):
        decode(prefix + opener * 200_000, scheduler.Call)


def test_deep_nesting_of_a_recursive_type_is_refused() -> None:
    with pytest.raises(WireError, match="nested too deeply"):
        decode(b'{"value":"c","parent":' * 200_000, mesos.ContainerID)


def test_unknown_keys_are_ignored_whatever_they_hold() -> None:
    assert decode(b'{"value":"a","x":{"y":[1,null]}}', mesos.AgentID) == mesos.AgentID("a")


def test_tagged_unions_of_the_link_get_the_same_leniency() -> None:
    raw = b'{"type":"HEARTBEAT","connected":null}'
    assert decode(raw, link.DownMessage) == link.Heartbeat()
    with pytest.raises(WireError, match="type"):
        decode(b'{"type":"NONSENSE"}', link.DownMessage)
    with pytest.raises(WireError, match="Missing required fields: message"):
        decode(b'{"type":"SHUTDOWN"}', link.DownMessage)
