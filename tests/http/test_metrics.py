"""`/metrics` tells of the whole service, and each request has a name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from callsheet.actors.telemetry.figures import QUEUES
from callsheet.actors.tenants.keyring import KeyStore
from tests.http.service import Api, Stages
from tests.servers import RedisServer
from tests.waiting import eventually


def samples(api: Api, name: str) -> list[Sample]:
    """The samples of one name, as Prometheus' own parser reads them."""
    text = httpx.get(f"{api.url}/metrics", timeout=60).raise_for_status().text
    return [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]


def total(api: Api, name: str, **labels: str) -> float:
    return sum(s.value for s in samples(api, name) if labels.items() <= s.labels.items())


def test_one_scrape_shows_every_process_whichever_answers_it(api: Api) -> None:
    def seen() -> bool:
        owned = samples(api, "callsheet_partitions_owned")
        apis = {s.labels["process"] for s in owned if s.labels["role"] == "api"}
        hosts = [s.value for s in owned if s.labels["role"] == "host"]
        return hosts == [16.0] and len(apis) >= 2  # two workers, and APIs that other tests have just left

    eventually(seen)


def test_a_request_is_counted_by_its_route_and_not_by_its_path(api: Api, job: str) -> None:
    httpx.get(f"{api.url}/v1/jobs/{job}")
    httpx.get(f"{api.url}/no/such/{job}")

    def counted() -> bool:
        known = total(api, "callsheet_http_requests_total", route="/v1/jobs/{job_id}", method="GET", status="200")
        unknown = total(api, "callsheet_http_requests_total", route="none", method="GET", status="404")
        return known >= 1 and unknown >= 1

    eventually(counted)
    assert job not in httpx.get(f"{api.url}/metrics").text


def test_a_dispatch_that_waits_for_a_worker_is_seen_with_its_age(api: Api, job: str) -> None:
    assert job
    assert eventually(lambda: total(api, "callsheet_queue_depth")) >= 1
    assert eventually(lambda: total(api, "callsheet_dispatches_unclaimed")) >= 1
    assert eventually(lambda: total(api, "callsheet_queue_oldest_seconds")) > 0
    assert {s.labels["queue"] for s in samples(api, "callsheet_queue_depth")} == set(QUEUES)


def test_commits_are_counted_and_measured(api: Api, job: str) -> None:
    assert job
    eventually(lambda: total(api, "callsheet_commit_seconds_count", role="host") >= 2)
    assert total(api, "callsheet_commits_total", answer="ok", role="host") >= 2
    eventually(lambda: total(api, "callsheet_lease_changes_total", change="taken") >= 16)
    eventually(lambda: [s.value for s in samples(api, "callsheet_partition_owned")] == [1.0] * 16)


def test_a_watcher_is_counted_for_as_long_as_it_watches(make_api: Callable[..., Api], job: str) -> None:
    api = make_api()
    (worker,) = psutil.Process(api.process.pid).children()

    def watchers() -> float:
        """Of that process: others may have left theirs a moment ago."""
        found = samples(api, "callsheet_watchers")
        return sum(s.value for s in found if f"-{worker.pid}-" in s.labels["process"])

    with httpx.stream("GET", f"{api.url}/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as feed:
        lines = feed.iter_lines()  # to forget it would close the connection
        next(lines)
        assert eventually(watchers) == 1
    eventually(lambda: watchers() == 0)


def test_a_redis_that_is_away_costs_its_own_figures_only(make_api: Callable[..., Api]) -> None:
    api = make_api(broker_url="redis://127.0.0.1:1/0", rate_per_second="0")
    up = {"journal": 1, "broker": 0}
    eventually(lambda: {s.labels["server"]: s.value for s in samples(api, "callsheet_redis_up")} == up)
    eventually(lambda: len(samples(api, "callsheet_mailbox_messages")) == 16)
    assert samples(api, "callsheet_queue_depth") == []


def test_the_figures_are_told_while_the_journal_is_away(
    make_api: Callable[..., Api], redis_binary: Path, tmp_path: Path
) -> None:
    with RedisServer(tmp_path / "journal") as journal:
        api = make_api(redis_url=journal.url, path="/healthz")
    eventually(lambda: {s.labels["server"]: s.value for s in samples(api, "callsheet_redis_up")}["journal"] == 0)


def test_then_operators_need_a_key_as_ever(make_api: Callable[..., Api], redis_binary: Path, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "journal") as journal:
        made = [KeyStore(journal.client()).create("acme", (scope,))[1] for scope in ("admin", "read")]
        api = make_api(redis_url=journal.url, path="/healthz", auth="keys")
        admin, reader, nobody = ({"X-API-Key": secret} for secret in (*made, f"csk_{'A' * 43}"))
        assert told(api, admin).status_code == 200
        journal.pause()
        eventually(lambda: 'callsheet_redis_up{server="journal"} 0.0' in told(api, admin).text)
        assert [told(api, who).status_code for who in (admin, reader, nobody)] == [200, 403, 503]
        journal.resume()


def told(api: Api, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(f"{api.url}/metrics", headers=headers, timeout=60)


def test_a_request_whose_client_has_gone_is_under_way_no_more(
    make_api: Callable[..., Api], redis_binary: Path, tmp_path: Path
) -> None:
    with RedisServer(tmp_path / "journal") as journal:
        api = make_api(redis_url=journal.url, path="/healthz", rate_per_second="0")

        def under_way() -> float:
            return total(api, "callsheet_http_requests_in_progress", route="/v1/jobs/{job_id}")

        assert httpx.get(f"{api.url}/v1/jobs/{'0' * 32}").status_code == 404
        journal.pause()
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"{api.url}/v1/jobs/{'0' * 32}", timeout=0.5)
        assert eventually(under_way) == 1
        eventually(lambda: under_way() == 0)
        journal.resume()


@pytest.mark.parametrize("given", ["abc-1.Z_9", "x" * 128])
def test_a_plain_request_id_is_answered(client: httpx.Client, given: str) -> None:
    answer = client.get(f"/v1/jobs/{'0' * 32}", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "<script>", "é".encode()])
def test_any_other_is_replaced(client: httpx.Client, given: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": given})  # bytes are sent as they are
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_a_submission_is_logged_with_its_job_and_its_request(api: Api, stages: Stages) -> None:
    job = httpx.post(
        f"{api.url}/v1/jobs",
        data={"pipeline": "sample"},
        files={"file": ("a.wav", b"sound")},
        headers={"X-Request-ID": "submission-1"},
    ).json()["id"]
    lines = [json.loads(line) for line in api.said().splitlines() if job in line]
    assert ("job accepted", "submission-1") in [(line["event"], line["request_id"]) for line in lines]
    submitted = stages.jobs.job(job)
    assert submitted is not None
    assert submitted.origin.request_id == "submission-1"
