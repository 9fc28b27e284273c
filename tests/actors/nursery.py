"""Run pytest in the trees named on standard input, each in a fork: what all of them import is imported once."""

from __future__ import annotations

import importlib
import json
import os
import sys

SHARED = (
    *("pytest", "_pytest.assertion.rewrite", "hypothesis.stateful", "asyncio", "msgspec", "structlog"),
    *("redis", "redis.asyncio", "hiredis", "dramatiq", "dramatiq.brokers.redis", "pykka", "pydantic_settings"),
)
WRONG_TREE = 77


def run(tree: str, tests: list[str]) -> int:
    """The exit code of pytest in a child of this process."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 3
    try:
        os.chdir(tree)
        sys.path[0] = tree
        sys.dont_write_bytecode = True
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        import pytest  # noqa: PLC0415  imported already; named here for the reader

        code = pytest.main(["-x", "-q", "--tb=line", "-p", "no:cacheprovider", *tests])
        if not sys.modules["callsheet.jobs"].__path__[0].startswith(tree):
            code = WRONG_TREE
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    for name in SHARED:
        importlib.import_module(name)
    for line in sys.stdin:
        tree, *tests = json.loads(line)
        print(run(tree, tests), flush=True)  # noqa: T201  it is the answer
