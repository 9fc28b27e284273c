"""What a browser is told of a published file, whoever serves it: the API, or an object store."""

from __future__ import annotations

from urllib.parse import quote

BYTES = "application/octet-stream"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
# Types that a browser shows without running anything: these alone are shown in place, when asked for.
SHOWN = frozenset(
    {
        "audio/flac",
        "audio/mp4",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/plain",
        "video/mp4",
        "video/webm",
    }
)
# Types that a browser may be told. Whatever else a stage publishes is bytes to it: no HTML, no SVG, no scripts.
SAFE = SHOWN | {"application/json", "application/pdf", DOCX, "application/x-subrip", "application/zip"}
SAFE |= {"text/csv", "text/vtt"}
# What deflate makes no smaller.
DENSE = (SHOWN - {"audio/wav", "text/plain"}) | {"application/pdf", "application/zip", DOCX}


def bare_type(media_type: str) -> str:
    """The type that is told: one of SAFE, or BYTES."""
    bare = media_type.partition(";")[0].strip().lower()
    return bare if bare in SAFE else BYTES


def content_type(media_type: str) -> str:
    """The header that tells it."""
    bare = bare_type(media_type)
    return f"{bare}; charset=utf-8" if bare.startswith("text/") else bare


def disposition(name: str, how: str = "attachment") -> str:
    """`Content-Disposition` with the name as `filename*` (RFC 6266, RFC 8187): every byte that is not plain is encoded,
    so nothing in a name ends the value early. No `filename` beside it, which clients unquote in ways of their own."""
    return f"{how}; filename*=UTF-8''{quote(name, safe='')}"
