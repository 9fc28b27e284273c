"""BullMQ on Node: a flow of three jobs that tell their progress. Installed by npm, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from benchmarks.contest import SLOTS, STAGES, rate
from benchmarks.stand import Stand

VERSION, CLIENT = "6.7.0", "5.11.1"
SCRIPT = Path(__file__).with_name("bullmq_flow.mjs")


class BullmqFlow:
    """Two processes, one job at a time in each."""

    name = "BullMQ, a flow with progress"
    note = f"version {VERSION}, updateProgress twice a job"

    def missing(self, stand: Stand) -> str:
        """Whether node is here, and npm gives us the package."""
        npm, target = shutil.which("npm"), _modules(stand)
        if npm is None or shutil.which("node") is None:
            return "there is no node and npm here"
        if (target / "node_modules" / "bullmq").exists():
            return ""
        if stand.quick:
            return "a quick run installs nothing"
        target.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(target)]
        done = subprocess.run(
            [*command, f"bullmq@{VERSION}", f"ioredis@{CLIENT}"], capture_output=True, check=False, timeout=300
        )
        return "" if done.returncode == 0 else "npm could not install it"

    def jobs_per_second(self, stand: Stand, jobs: int) -> float:
        """See Contestant."""
        node, client = str(shutil.which("node")), stand.journal.client()
        env = {**stand.peer_environment(), "BENCH_NODE_MODULES": str(_modules(stand)), "BENCH_STAGES": ",".join(STAGES)}
        with ExitStack() as stack:
            for _ in range(SLOTS):
                stack.enter_context(stand.process([node, str(SCRIPT), "work"], env))
            adding = stack.enter_context(stand.process([node, str(SCRIPT), "add"], env, stdin=subprocess.PIPE))
            orders = cast("IO[bytes]", adding.stdin)

            def hand_in(count: int) -> None:
                orders.write(f"{count}\n".encode())
                orders.flush()

            return rate(jobs, hand_in, lambda: int(client.zcard("bull:stages:completed")) // len(STAGES))


def _modules(stand: Stand) -> Path:
    return stand.folder.parent / "node"
