"""The codec: what is encoded comes back, and what is no message, event or effect is Undecodable and nothing else."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.effects import OutboxEffect, decode_effect, encode_effect
from callsheet.jobs.messages import Undecodable
from tests.jobs.kit import submission
from tests.jobs.strategies import json_values, of

DECODERS = {"message": m.decode_message, "event": e.decode_event, "effect": decode_effect}
EACH = max(1, settings().max_examples // 3)  # of each kind: together they are many
SMALL_INT = st.integers(0, 2**53)


def events(body: type[Any]) -> st.SearchStrategy[e.Event]:
    """Events of this kind."""
    return st.builds(
        e.Event, SMALL_INT, st.just(body.__name__), st.text(max_size=8), SMALL_INT, of(body), st.none() | st.just("a")
    )


@pytest.mark.parametrize("kind", m.MESSAGES, ids=lambda kind: kind.__name__)
@settings(max_examples=EACH)
@given(data=st.data())
def test_every_message_comes_back_from_its_bytes(kind: type[Any], data: st.DataObject) -> None:
    message = data.draw(of(kind))
    assert m.decode_message(m.encode_message(message)) == message


@pytest.mark.parametrize("body", e.BODIES.values(), ids=e.BODIES)
@settings(max_examples=EACH)
@given(data=st.data())
def test_every_event_comes_back_from_its_bytes(body: type[Any], data: st.DataObject) -> None:
    event = data.draw(events(body))
    assert e.decode_event(e.encode_event(event)) == event


@given(of(OutboxEffect))
def test_every_effect_of_the_outbox_comes_back_from_its_bytes(effect: OutboxEffect) -> None:
    assert decode_effect(encode_effect(effect)) == effect


def test_the_json_of_a_message_is_what_others_write_too() -> None:
    raw = b'{"type":"Fired","timer":"alive:a","token":7,"late":3}'
    assert m.decode_message(raw) == m.Fired("alive:a", 7, 3)
    assert m.encode_message(m.Fired("alive:a", 7, 3)) == raw
    assert m.decode_message(b'{"type":"FilesRemoved"}') == m.FilesRemoved()


def test_the_json_of_an_event_is_what_a_watcher_reads() -> None:
    event = e.Event(3, "StageStarted", "2026-01-01T00:00:00.000Z", 1, e.StageStarted(2, "w1"), "a")
    assert json.loads(e.encode_event(event)) == {
        "seq": 3,
        "type": "StageStarted",
        "at": "2026-01-01T00:00:00.000Z",
        "attempt": 1,
        "data": {"token": 2, "worker": "w1"},
        "stage": "a",
    }


def test_a_field_that_a_newer_version_added_does_not_stop_an_older_one() -> None:
    assert m.decode_message(b'{"type":"Cancel","why":"because"}') == m.Cancel()


_event = '{"seq":1,"type":%s,"at":"","attempt":1,"data":%s}'
GARBAGE = {
    "nothing": b"",
    "no JSON": b"hello",
    "no UTF-8": b'{"type":"Cancel","if_match":"\xff"}',
    "no UTF-8 in a string": b'{"type":"Heartbeat","stage":"\xff","token":1}',
    "half a surrogate": rb'{"type":"Heartbeat","stage":"\ud800","token":1}',
    "a list": b"[]",
    "null": b"null",
    "no type": b"{}",
    "an unknown type": b'{"type":"Explode"}',
    "a type that is a number": b'{"type":1}',
    "the base of reports": b'{"type":"Report","stage":"a","token":1}',
    "a field missing": b'{"type":"Heartbeat","stage":"a"}',
    "a field of a wrong type": b'{"type":"Heartbeat","stage":"a","token":"1"}',
    "a token of 5,000 digits": b'{"type":"Heartbeat","stage":"a","token":' + b"9" * 5_000 + b"}",
    "a number beyond a float": b'{"type":"Progress","stage":"a","token":1,"n":1,"fraction":1e999}',
    "NaN": b'{"type":"Progress","stage":"a","token":1,"n":1,"fraction":NaN}',
    "bytes after the end": b'{"type":"FilesRemoved"}x',
    "lists without end": b'{"type":"Partial","stage":"a","token":1,"n":1,"data":{"x":' + b"[" * 200_000,
    "objects without end": b'{"type":"Partial","stage":"a","token":1,"n":1,"data":' + b'{"x":' * 200_000,
    "deep nesting": b'{"type":"Retry","params":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "an event of an unknown type": (_event % ('"Explode"', "{}")).encode(),
    "an event without its data": (_event % ('"StageStarted"', "{}")).encode(),
    "an event with data of another type": (_event % ('"StageStarted"', "[1]")).encode(),
    "an event with deep data": (_event % ('"PartialResult"', '{"n":1,"partial":{"x":' + "[" * 100_000)).encode(),
    "an event nested deep in all": (
        _event % ('"PartialResult"', '{"n":1,"partial":{"x":' + "[" * 100_000 + "]" * 100_000 + "}}")
    ).encode(),
    "an effect of an unknown type": b'{"type":"Explode","stage":"a"}',
}


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_undecodable(raw: bytes, decoder: Any) -> None:
    with pytest.raises(Undecodable):
        decoder(raw)


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
@settings(max_examples=EACH)
@given(raw=st.binary(max_size=64) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_at_all_are_decoded_or_undecodable(raw: bytes, decoder: Any) -> None:
    with suppress(Undecodable):
        decoder(raw)


@given(of(m.Message), st.data())
def test_a_message_cut_short_or_with_a_byte_changed_is_decoded_or_undecodable(
    message: m.Message, data: st.DataObject
) -> None:
    raw = bytearray(m.encode_message(message))
    with pytest.raises(Undecodable):
        m.decode_message(bytes(raw[: data.draw(st.integers(0, len(raw) - 1))]))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Undecodable):
        m.decode_message(bytes(raw))


def test_a_number_beyond_64_bits_in_free_data_survives_the_way_through_a_journal() -> None:
    data = {"big": 10**30, "small": 5e-324}
    message = m.decode_message(m.encode_message(m.Partial("a", 1, 1, data)))
    assert isinstance(message, m.Partial)
    assert message.data == data
    event = e.Event(1, "PartialResult", "", 1, e.PartialResult(message.data, 1))
    assert e.decode_event(e.encode_event(event)) == event


def test_every_field_of_a_submission_travels() -> None:
    assert m.decode_message(m.encode_message(submission(language="de"))) == submission(language="de")
