"""How a job's snapshot lies in Redis: a hash with one field of JSON a member, `stage.NAME` for each stage."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from callsheet.actors.errors import CorruptRecord
from callsheet.jobs.job import Job, StageState

# Made while the module is loaded: what msgspec knows of a type it works out at its first use, and if two threads use it
# first at the same moment the process crashes (version 0.22; a host that took over busy partitions did).
_encode = msgspec.json.Encoder().encode
_decode_stage = msgspec.json.Decoder(StageState).decode
_MEMBERS = {f.name: msgspec.json.Decoder(f.type) for f in msgspec.structs.fields(Job) if f.name != "stages"}
_STAGE = b"stage."
_ORDER = "order"


def changed_fields(old: Job | None, new: Job) -> tuple[list[tuple[str, bytes]], list[str]]:
    """The fields to write and those to delete to get from one snapshot to the next."""
    # By identity: `evolve` keeps what it does not change, and to Python 1, 1.0 and True are equal, but not as JSON.
    write = [
        (name, _encode(getattr(new, name)))
        for name in _MEMBERS
        if old is None or getattr(old, name) is not getattr(new, name)
    ]
    before = old.stages if old else {}
    write += [(f"stage.{name}", _encode(state)) for name, state in new.stages.items() if before.get(name) is not state]
    if old is None or list(before) != list(new.stages):
        write.append((_ORDER, _encode(list(new.stages))))
    return write, [f"stage.{name}" for name in before if name not in new.stages]


def decode_job(fields: Mapping[bytes, bytes]) -> Job | None:
    """The job in a hash; None for an empty one. Raises CorruptRecord for one that cannot be read."""
    if not fields:
        return None
    try:
        members = {
            name: decoder.decode(fields[name.encode()]) for name, decoder in _MEMBERS.items() if name.encode() in fields
        }
        order = msgspec.json.decode(fields[_ORDER.encode()], type=list[str])
        stages = {name: _decode_stage(fields[_STAGE + name.encode()]) for name in order}
        return Job(**members, stages=stages)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise CorruptRecord(f"the snapshot cannot be read: {error}") from None
