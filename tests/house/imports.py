"""What each file of the house imports and touches, read from its text: nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("http", "actors", "jobs", "pipelines", "media", "config")


@dataclass(frozen=True)
class Use:
    """One import (`redis.exceptions`), or one reading of the environment (`os.environ`), and where it stands."""

    what: str
    line: int

    @property
    def top(self) -> str:
        return self.what.partition(".")[0]

    @property
    def room(self) -> str | None:
        """The room it reaches into, when it is one of ours. `callsheet` itself is the room ''."""
        parts = self.what.split(".")
        if parts[0] != "callsheet":
            return None
        return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


def python_files(folder: str) -> list[Path]:
    """The Python files of a folder of the house, caches left out."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def uses(source: str) -> list[Use]:
    """Everything a module imports, also inside functions and for type checking only, and `os.environ`/`os.getenv`."""
    return [use for node in ast.walk(ast.parse(source)) for use in _uses(node)]


def _uses(node: ast.AST) -> Iterator[Use]:
    match node:
        case ast.Import(names=names):
            yield from (Use(alias.name, node.lineno) for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            # With the names: `from callsheet import jobs` reaches into jobs.
            yield from (Use(f"{'.' * level}{module or ''}.{alias.name}", node.lineno) for alias in names)
        case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" | "putenv" as name):
            yield Use(f"os.{name}", node.lineno)
        case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
            yield Use(name, node.lineno)
