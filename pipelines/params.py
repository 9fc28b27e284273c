"""Whether the params of a pipeline can be what they must: a Struct with a JSON Schema, whose defaults fit it."""

from __future__ import annotations

from typing import Any

import msgspec

from callsheet.jobs.graph import GraphError


def check_params(pipeline: str, params: Any) -> set[str]:
    """The names of the params. Raises GraphError."""
    if not (isinstance(params, type) and issubclass(params, msgspec.Struct)):
        raise GraphError(f"the params of {pipeline!r} are {params!r}, which is no subclass of msgspec.Struct")
    try:
        msgspec.json.schema(params)
    except (TypeError, NameError) as error:
        why = str(error).splitlines()[-1]
        raise GraphError(f"the params of {pipeline!r} have no JSON Schema: {why}") from None
    fields = msgspec.structs.fields(params)
    for field in fields:
        _check_default(pipeline, field)
    return {field.name for field in fields}


def _check_default(pipeline: str, field: msgspec.structs.FieldInfo) -> None:
    """A default is given to every job as it is: nobody checks it later."""
    if field.default in (msgspec.NODEFAULT, msgspec.UNSET):
        return
    try:
        msgspec.convert(msgspec.to_builtins(field.default), field.type, strict=True)
    except (msgspec.ValidationError, TypeError) as error:
        raise GraphError(f"the default of the param {field.name!r} of {pipeline!r} does not fit: {error}") from None
