"""The feed over WebSocket, and commands through it."""

from __future__ import annotations

import contextlib
import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.http.service import Api, Stages
from tests.http.watching import dialled, receive, to_the_end
from tests.waiting import eventually


def test_the_frames_are_the_events_as_they_are_in_the_history(
    api: Api, job: str, client: httpx.Client, stages: Stages
) -> None:
    with dialled(api, job) as link:
        assert [receive(link)["seq"], receive(link)["seq"]] == [1, 2]
        stages.complete(job)
        frames, code = to_the_end(link)
    assert (frames, code) == (client.get(f"/v1/jobs/{job}/events?after=2").json()["events"], 1000)


def test_who_has_seen_the_end_is_told_so_and_may_still_retry(
    api: Api, job: str, client: httpx.Client, stages: Stages
) -> None:
    stages.fail(job, "one", stages.start(job, "one"))
    last = client.get(f"/v1/jobs/{job}").json()["seq"]
    with dialled(api, job, after=last) as link:
        assert to_the_end(link) == ([], 1000)
    assert retried(api, job, last) == {"outcome", "JobRetried", "StageDispatched"}
    with dialled(api, job, after=last + 500) as link:
        assert receive(link)["type"] == "reset"


def retried(api: Api, job: str, after: int) -> set[str]:
    """What comes of a retry by who has seen the end. A quarter of a second is what it has to say so: who stalls for
    longer comes again."""
    for _ in range(20):
        with contextlib.suppress(ConnectionClosed), dialled(api, job, after=after) as link:
            link.send('{"type": "retry"}')
            return {receive(link)["type"] for _ in range(3)}
    raise AssertionError("it was closed each time")


def test_silence_is_broken_by_pings_without_a_seq(api: Api, job: str) -> None:
    with dialled(api, job, after=2) as link:
        assert json.loads(link.recv(30)) == {"type": "ping"}


def test_a_cancel_is_answered_by_its_outcome_and_the_end_follows(api: Api, job: str) -> None:
    with dialled(api, job, after=2) as link:
        link.send('{"type": "cancel"}')
        frames, code = to_the_end(link)
    outcomes = [f for f in frames if f["type"] == "outcome"]
    assert [(o["command"], o["ok"], o["code"], o["state"]) for o in outcomes] == [
        ("cancel", True, "accepted", "cancelled")
    ]
    assert "seq" not in outcomes[0]
    assert [f["type"] for f in frames if f["type"] != "outcome"][-1] == "JobCancelled"
    assert code == 1000


def test_an_outcome_is_called_what_its_command_was_called(api: Api, job: str) -> None:
    with dialled(api, job, after=2) as link:
        for name in ("1", 7, [1], "x" * 129, "mine"):
            link.send(json.dumps({"type": "explode", "id": name}))
        told = [receive(link) for _ in range(5)]
        assert [outcome.get("id") for outcome in told] == ["1", 7, None, None, "mine"]
        assert {outcome["code"] for outcome in told} == {"invalid_field"}


def test_a_retry_through_the_socket_goes_on_with_the_next_attempt(api: Api, job: str, stages: Stages) -> None:
    stages.fail(job, "one", stages.start(job, "one"))
    types: list[str] = []
    frames: list[dict[str, Any]] = []
    code = None
    while "JobRetried" not in types:  # see `retried`
        with contextlib.suppress(ConnectionClosed), dialled(api, job, after=1) as link:
            link.send('{"type": "retry", "from_stage": "one", "params": {"level": 8}}')
            while "JobRetried" not in types:
                types.append(receive(link)["type"])
            stages.complete(job)
            frames, code = to_the_end(link)
    assert "outcome" in types + [f["type"] for f in frames]
    assert (frames[-1]["type"], frames[-1]["attempt"], code) == ("JobCompleted", 2, 1000)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("nonsense", "invalid_json"),
        ("[1]", "invalid_json"),
        ("[" * 60_000, "invalid_json"),
        ('{"type": "retry", "params": {"level": NaN}}', "invalid_json"),
        ('{"type": "retry", "type": "cancel"}', "invalid_json"),
        ('{"type": "retry", "params": {"level": ' + "9" * 10_000 + "}}", "invalid_json"),
        ('{"type": "cancel", "id": "\\ud800"}', "invalid_json"),
        ('{"type": "explode"}', "invalid_field"),
        ('{"type": "cancel", "why": 1}', "invalid_field"),
        ('{"type": "retry"}', "job_active"),
        ('{"type": "retry", "params": {"level": 99}}', "invalid_params"),
    ],
)
def test_a_command_that_cannot_be_is_refused_and_the_feed_goes_on(api: Api, job: str, sent: str, code: str) -> None:
    with dialled(api, job, after=2) as link:
        link.send(sent)
        outcome = receive(link)
        assert (outcome["type"], outcome["ok"], outcome["code"]) == ("outcome", False, code)
        link.send('{"type": "cancel"}')
        assert to_the_end(link)[1] == 1000


def test_a_cursor_beyond_the_end_is_reset_by_a_frame_without_a_seq(api: Api, job: str, stages: Stages) -> None:
    with dialled(api, job, after=5000) as link:
        reset = receive(link)
        assert (reset["type"], reset["job"]["id"], "seq" in reset) == ("reset", job, False)
        stages.start(job, "one")
        assert receive(link)["seq"] == 3


def test_a_watcher_cut_off_at_random_and_resuming_sees_exactly_all(
    api: Api, job: str, client: httpx.Client, stages: Stages
) -> None:
    dice, seen = random.Random(11), [0]
    stages.complete(job, 59)
    last = client.get(f"/v1/jobs/{job}").json()["seq"]
    while seen[-1] < last:
        with dialled(api, job, after=seen[-1], close_timeout=0.1) as link:
            seen += [receive(link)["seq"] for _ in range(min(dice.randint(1, 9), last - seen[-1]))]
    assert seen == list(range(last + 1))


def test_a_page_of_another_site_is_refused_and_one_of_ours_is_not(api: Api, job: str) -> None:
    for foreign in ("http://evil.example", "null", f"http://127.0.0.1:{api.port + 1}"):
        with pytest.raises(InvalidStatus) as refused, dialled(api, job, origin=foreign):
            pass
        assert refused.value.response.status_code == 403
    with dialled(api, job, origin=f"http://127.0.0.1:{api.port}") as link:
        assert receive(link)["seq"] == 1


@pytest.mark.parametrize("job_id", ["0" * 32, "nonsense"])
def test_a_job_that_is_not_there_is_refused_before_the_handshake(api: Api, job_id: str) -> None:
    with pytest.raises(InvalidStatus) as refused, dialled(api, job_id):
        pass
    assert refused.value.response.status_code == 403  # the server can answer a handshake with nothing else


def test_a_flood_is_closed_as_such(api: Api, job: str) -> None:
    with dialled(api, job, after=2) as link:
        with pytest.raises(ConnectionClosed):  # noqa: PT012  whichever of the sends notices
            for _ in range(2000):
                link.send('{"type": "explode"}')
            to_the_end(link)
            link.send("x")
        assert link.close_code == 1008


def test_a_frame_that_says_it_has_a_gigabyte_is_not_waited_for(api: Api, job: str) -> None:
    with dialled(api, job, after=2) as link:
        link.socket.sendall(b"\x81\xff" + struct.pack("!Q", 1 << 30) + b"mask" + b"some of it")
        assert to_the_end(link) == ([], 1009)


def test_pieces_that_add_up_to_too_much_are_closed_as_such(api: Api, job: str) -> None:
    """Who goes on sending may not hear why, since the end of the connection can overtake it: so the last one waits."""
    with dialled(api, job, after=2) as link:

        def pieces() -> Iterator[str]:
            yield from ["x" * 30_000] * 3
            eventually(lambda: link.protocol.close_rcvd)

        with pytest.raises(ConnectionClosed):
            link.send(pieces())
    assert link.close_code == 1009


def test_a_frame_that_is_too_large_or_of_the_wrong_kind_is_closed_as_such(api: Api, job: str) -> None:
    for content, code in (("x" * 100_000, 1009), (b"\x00", 1003)):
        with dialled(api, job, after=2) as link:
            link.send(content)
            assert to_the_end(link)[1] == code


def test_a_client_that_goes_in_the_middle_is_no_error(make_api: Callable[..., Api], job: str) -> None:
    """What it is sent, and what is expected of it, hear of it at the same time."""
    api = make_api()
    for after in (0, 999) * 50:
        with dialled(api, job, after) as link:
            link.socket.sendall(b"\x83\x80\0\0\0\0")  # an opcode that there is not: the server hangs up
            assert to_the_end(link)[1] == 1002
    api.stop()
    assert "never retrieved" not in api.said()
