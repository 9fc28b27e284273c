"""Writes docs/settings.md from the settings themselves: `python -m callsheet.config.docs [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from callsheet.config.kinds import GIB, MIB
from callsheet.config.settings import PREFIX, Settings

PAGE = Path("docs/settings.md")
HEAD = """# Settings

Every role reads its settings from the environment when it starts. A name that is not in this table, a value of the
wrong kind, or settings that contradict each other end it at once, with one line that says why and exit code 2.
Times are in seconds; sizes are in bytes or written like `500MiB`; lists are separated by commas.

This page is written by `make docs` from `config/settings.py`.

| variable | default | what it is |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{PREFIX}{name.upper()}` | {_default(name, field)} | {field.description} |\n"


def _default(name: str, field: FieldInfo) -> str:
    value = field.default
    if field.default_factory is not None:
        return "by machine"
    if value is None or value == "":
        return "unset"
    if value == ():
        return "none"
    if name.endswith("_bytes"):
        return f"`{value // GIB}GiB`" if value % GIB == 0 else f"`{value // MIB}MiB`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return f"`{value:g}`" if isinstance(value, float) and value < 1e6 else f"`{value}`"


def main() -> None:
    """Write the page."""
    Path(sys.argv[1] if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
