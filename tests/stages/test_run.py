"""A stage from end to end: real host, real worker, real child process."""

from __future__ import annotations

from tests.stages.conftest import Service


def test_a_stage_runs_and_what_it_gives_back_is_in_the_job(service: Service) -> None:
    service.worker()
    job = service.run("write")
    state = job.stages["act"]
    assert (job.status, job.error) == ("completed", None)
    assert job.result["input"] == "some sound"
    assert (state.data, job.input.duration) == ({"for": "later"}, 2.5)
    assert [(ref.name, ref.bytes, ref.artifact) for ref in job.artifacts] == [("words.txt", 5, True)]
    published = service.store.path(job.id, job.artifacts[0].folder, "words.txt")
    assert published.read_text() == "hello"
