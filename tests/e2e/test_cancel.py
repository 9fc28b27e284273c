"""A cancel in the middle of real work: everything that worked on it is dead within two seconds, and it stays so."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import Service
from tests.waiting import eventually, within

pytestmark = pytest.mark.timeout(300)
LIMIT = 2.0


@pytest.mark.parametrize(("stage", "program"), [("audio", "ffmpeg"), ("transcribe", "child_main")])
def test_a_cancelled_stage_is_dead_within_two_seconds(
    service: Service, hum: Path, long_talk: Path, stage: str, program: str
) -> None:
    id_ = service.submit(hum if stage == "audio" else long_talk).json()["id"]
    service.running(id_, stage)
    at_work = eventually(lambda: busy(service, program), 30)
    assert service.api.post(f"/v1/jobs/{id_}/cancel").status_code == 202
    within(lambda: at_work.isdisjoint(service.processes(program)), LIMIT)
    assert service.until(id_)["status"] == "cancelled"
    types = [e["type"] for e in service.events(id_)]
    assert types[-1] == "JobCancelled"
    assert "JobCompleted" not in types
    assert not [t for t in types[types.index("CancelRequested") :] if t in ("StageStarted", "StageDispatched")]
    eventually(lambda: not service.leftovers())


def busy(service: Service, program: str) -> set[int]:
    """The processes of this program that are at work: ffmpeg always is, a child uses the processor when it is."""
    found = service.processes(program)
    return found if program == "ffmpeg" else {pid for pid in found if processor_share(pid) > 10}


def processor_share(pid: int) -> float:
    """How much of a core a process uses just now, in percent."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(psutil.Process(pid).cpu_percent(0.2))
    return 0.0


def test_a_cancelled_job_is_retried_where_it_was(service: Service, jfk: Path) -> None:
    id_ = service.submit(jfk).json()["id"]
    service.running(id_, "transcribe")
    service.api.post(f"/v1/jobs/{id_}/cancel")
    assert service.until(id_, "cancelled")["allowed_actions"] == ["retry", "forget"]
    assert service.api.post(f"/v1/jobs/{id_}/retry").status_code == 202
    job = service.until(id_, "completed", "failed")
    assert job["status"] == "completed"
    assert {s["name"]: s["attempt"] for s in job["stages"]}["audio"] == 1
