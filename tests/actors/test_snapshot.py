"""Reading snapshots: many threads of a host begin with that at the same moment."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.house.imports import ROOT

# Each round is a process that has just started, as far as our modules go. All threads begin together, and any may be
# stopped anywhere, as on a busy machine.
READ_AT_ONCE = """
import importlib, sys, threading

fields = {b"id": b'"a"', b"tenant": b'"t"', b"pipeline": b'"p"', b"order": b"[]", b"artifacts": b"[]", b"seq": b"1"}
fields |= {b"input": b'{"filename":"f","bytes":1,"sha256":"s","media_type":"m"}', b"params": b"{}"}
fields |= {b"graph": b'[{"name":"a"}]', b"status": b'"queued"', b"attempt": b"1", b"fingerprint": b'""'}
fields |= {b"created_at": b'"2026-01-01T00:00:00Z"', b"updated_at": b'"2026-01-01T00:00:00Z"'}

def round():
    for name in [name for name in sys.modules if name.startswith("callsheet.")]:
        del sys.modules[name]
    decode_job = importlib.import_module("callsheet.actors.snapshot").decode_job
    together, read = threading.Barrier(8), []

    def begin():
        together.wait()
        read.append(decode_job(fields))

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    sys.setswitchinterval(0.005)
    assert [job.id for job in read] == ["a"] * 8, read

for _ in range(50): round()
"""


def test_the_first_snapshots_of_a_process_can_be_read_by_all_its_threads_at_once() -> None:
    command = [sys.executable, "-c", READ_AT_ONCE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr or f"killed by signal {-done.returncode}"


@pytest.mark.parametrize("room", ["actors", "http"])
def test_no_code_that_threads_share_works_out_a_type_when_it_needs_it(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        assert not re.search(r"json\.decode\b[^\n]*\btype=_?[A-Z]", file.read_text()), (
            f"{file}: make a Decoder at import"
        )
