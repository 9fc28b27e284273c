"""Whatever happens between an order and its result, it is paid once: counted at the provider's end."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from callsheet.media.providers.base import Order, ProviderError, ProviderSettings
from callsheet.media.providers.buy import buy, cancel_outstanding, name_of
from callsheet.media.providers.fal import Fal
from callsheet.media.providers.gemini import Gemini
from callsheet.media.providers.ledger import outstanding, purchase
from tests.providers.fakes import PNG, FakeFal, FakeGemini, Reply

ROOT = Path(__file__).parents[2]
NAME = name_of("video", "this")
VIDEO = Order("fal-ai/id-v2v/relight", {"prompt": "dusk"}, answer="video")
PICTURE = Order("gemini-nano-banana-2.1", {"prompt": "relight"})


def get(provider: Fal | Gemini, settings: ProviderSettings, ledger: Path, target: Path, accepted: int = 0) -> bytes:
    order = VIDEO if isinstance(provider, Fal) else PICTURE
    buy(provider, order, target, ledger=ledger, name=NAME, settings=settings, accepted_losses=accepted)
    return target.read_bytes()


def test_what_was_bought_is_not_bought_again(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    assert [get(Fal(settings), settings, ledger, target) for _ in range(2)] == [b"a video"] * 2
    assert fal.calls.count("download") == fal.paid == 1


@pytest.mark.parametrize("what", ["status", "result", "download"])
def test_a_try_that_fails_after_the_order_is_followed_by_one_that_waits_for_the_same(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path, what: str
) -> None:
    fal.plans[what] = [Reply(500)] * 4
    with pytest.raises(ProviderError, match="answered 500") as caught:
        get(Fal(settings), settings, ledger, target)
    assert caught.value.retryable
    assert get(Fal(settings), settings, ledger, target) == b"a video"
    assert fal.paid == 1


def test_patience_that_runs_out_leaves_the_order_standing(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    fal.polls = 1000
    hasty = msgspec.structs.replace(settings, patience_seconds=0.02)
    with pytest.raises(ProviderError) as caught:
        get(Fal(settings), hasty, ledger, target)
    assert (caught.value.code, caught.value.retryable) == ("provider_timeout", True)
    fal.orders["request-1"]["polls"] = 1
    assert get(Fal(settings), settings, ledger, target) == b"a video"
    assert fal.paid == 1


def test_an_order_of_unknown_fate_is_not_repeated_until_the_client_says_so(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    fal.plans["submit"] = [Reply(500)]
    for _ in range(3):
        with pytest.raises(ProviderError, match='"pay_again": 1') as caught:
            get(Fal(settings), settings, ledger, target)
        assert (caught.value.code, caught.value.retryable) == ("payment_unknown", False)
    assert fal.calls.count("submit") == 1
    assert get(Fal(settings), settings, ledger, target, accepted=1) == b"a video"


def test_a_refused_order_is_placed_again(fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path) -> None:
    fal.plans["submit"] = [Reply(422, {"detail": "no"})]
    with pytest.raises(ProviderError, match="refused"):
        get(Fal(settings), settings, ledger, target)
    assert get(Fal(settings), settings, ledger, target) == b"a video"
    assert fal.paid == 1


def test_two_at_the_same_purchase_do_not_both_buy(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    with purchase(ledger, NAME), pytest.raises(ProviderError) as caught:
        get(Fal(settings), settings, ledger, target)
    assert (caught.value.code, caught.value.retryable, fal.paid) == ("paid_step_busy", True, 0)


def test_nothing_is_bought_for_a_job_that_was_removed(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    ledger.parent.rmdir()
    with pytest.raises(ProviderError) as caught:
        get(Fal(settings), settings, ledger, target)
    assert (caught.value.code, fal.calls) == ("purchase_gone", [])
    assert not ledger.parent.exists()


def test_a_record_whose_last_line_was_cut_off_counts_without_it(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    get(Fal(settings), settings, ledger, target)
    log = ledger / f"{NAME}.log"
    lines = log.read_bytes().splitlines(keepends=True)
    (ledger / f"{NAME}.out").unlink()
    log.write_bytes(lines[0] + lines[1] + lines[2][:7])
    with purchase(ledger, NAME) as record:
        assert [entry.state for entry in record.entries] == ["asked", "sent"]
    assert get(Fal(settings), settings, ledger, target) == b"a video"
    assert fal.paid == 1


def test_an_order_is_noted_also_after_a_line_that_was_cut_off(ledger: Path) -> None:
    ledger.mkdir()
    (ledger / f"{NAME}.log").write_bytes(b'{"state":"as')
    with purchase(ledger, NAME) as record:
        record.note("asked")
    with purchase(ledger, NAME) as record:
        assert ([entry.state for entry in record.entries], record.lost) == (["asked"], 1)


def test_no_order_goes_out_that_could_not_be_noted_whole(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    ledger.mkdir()
    (ledger / f"{NAME}.log").write_bytes(b"\n" * 100)
    with small_files(110), pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        get(Fal(settings), settings, ledger, target)
    assert fal.calls == []
    assert get(Fal(settings), settings, ledger, target) == b"a video"


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """What is written beyond `size` bytes of a file does not fit, as on a full disk: a part of it does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


KILLED = """
import os, sys
from pathlib import Path
import msgspec
from callsheet.media.providers import buy as shop, ledger as book
from callsheet.media.providers.base import Order, ProviderSettings
from callsheet.media.providers.fal import Fal
from callsheet.media.providers.gemini import Gemini
settings, order = msgspec.json.decode(sys.argv[1], type=ProviderSettings), msgspec.json.decode(sys.argv[2], type=Order)
point, folder, target, kind = sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]), sys.argv[6]
def dying(real, when):
    def call(*arguments, **named):
        if when == "before": os.kill(os.getpid(), 9)
        answer = real(*arguments, **named)
        os.kill(os.getpid(), 9)
    return call
where, method, when = {
    "before the order": (Fal if kind == "Fal" else Gemini, "submit", "before"),
    "after the order": (Fal if kind == "Fal" else Gemini, "submit", "after"),
    "after its id": (Fal, "poll", "before"), "after the poll": (Fal, "fetch", "before"),
    "after the download": (Fal, "fetch", "after"), "after the link": (book, "_second_name", "after"),
}[point]
setattr(where, method, dying(getattr(where, method), when))
shop.buy((Fal if kind == "Fal" else Gemini)(settings), order, target, ledger=folder, name=%r, settings=settings)
"""


def die(kind: str, point: str, settings: ProviderSettings, ledger: Path, target: Path) -> None:
    """Buy in another process, which is killed at this point."""
    order = VIDEO if kind == "Fal" else PICTURE
    arguments = [
        msgspec.json.encode(settings).decode(),
        msgspec.json.encode(order).decode(),
        point,
        ledger,
        target,
        kind,
    ]
    done = subprocess.run(
        [sys.executable, "-c", KILLED % NAME, *map(str, arguments)], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", ["after its id", "after the poll", "after the download", "after the link"])
def test_kill_9_after_an_order_was_taken_costs_nothing(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path, point: str
) -> None:
    die("Fal", point, settings, ledger, target)
    assert get(Fal(settings), settings, ledger, target) == b"a video"
    assert fal.paid == 1


@pytest.mark.parametrize(("kind", "point", "paid"), [("Fal", "before the order", 0), ("Gemini", "after the order", 1)])
def test_kill_9_between_an_order_and_its_answer_never_leads_to_a_second_order(
    *,
    fal: FakeFal,
    gemini: FakeGemini,
    settings: ProviderSettings,
    ledger: Path,
    target: Path,
    kind: str,
    point: str,
    paid: int,
) -> None:
    die(kind, point, settings, ledger, target)
    provider = Fal(settings) if kind == "Fal" else Gemini(settings)
    with pytest.raises(ProviderError) as caught:
        get(provider, settings, ledger, target)
    assert caught.value.code == "payment_unknown"
    assert fal.paid + gemini.paid == paid


def test_kill_9_once_a_picture_is_kept_costs_nothing(
    gemini: FakeGemini, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    die("Gemini", "after the link", settings, ledger, target)
    assert get(Gemini(settings), settings, ledger, target) == PNG
    assert gemini.paid == 1


def test_outstanding_orders_are_cancelled_and_may_then_be_placed_again(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    fal.polls = 1000
    die("Fal", "after its id", settings, ledger, target)
    assert outstanding(ledger) == [NAME]
    assert cancel_outstanding(ledger, settings) == [NAME]
    assert (fal.cancelled, outstanding(ledger)) == (["request-1"], [])
    fal.polls = 1
    assert get(Fal(settings), settings, ledger, target) == b"a video"


def test_an_order_that_ran_on_after_its_cancel_is_fetched_and_not_placed_again(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    fal.polls, fal.obedient = 1000, False
    die("Fal", "after its id", settings, ledger, target)
    assert cancel_outstanding(ledger, settings) == [NAME]
    fal.orders["request-1"]["polls"] = 3
    assert get(Fal(settings), settings, ledger, target) == b"a video"
    assert fal.paid == 1


@pytest.mark.parametrize(
    "reply",
    [Reply(422, {"detail": "no"}), Reply(504, {"detail": "no"}, {"X-Fal-Error-Type": "request_timeout"})],
    ids=["of the model", "of its runner"],
)
def test_an_order_whose_result_is_a_failure_is_over_and_a_retry_places_another(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path, reply: Reply
) -> None:
    fal.plans["result"] = [reply]
    with pytest.raises(ProviderError, match="no") as caught:
        get(Fal(settings), settings, ledger, target)
    assert (caught.value.code, caught.value.retryable) == ("provider_failed", False)
    assert outstanding(ledger) == []
    assert get(Fal(settings), settings, ledger, target) == b"a video"
    assert fal.calls.count("submit") == 2


@pytest.mark.parametrize("what", ["status", "result", "download"])
def test_an_order_that_is_not_kept_there_any_more_is_looked_for_and_placed_again_only_when_the_client_says_so(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path, what: str
) -> None:
    for _ in range(2):
        fal.plans[what] = [Reply(404, {"detail": "not found"})]
        with pytest.raises(ProviderError, match='"pay_again": 1') as caught:
            get(Fal(settings), settings, ledger, target)
        assert (caught.value.code, caught.value.retryable, fal.paid) == ("payment_unknown", False, 1)
    fal.plans[what] = [Reply(404, {"detail": "not found"})]
    assert get(Fal(settings), settings, ledger, target, accepted=1) == b"a video"
    assert fal.paid == 2


def test_an_order_that_is_found_after_all_is_not_placed_again(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    fal.plans["status"] = [Reply(404, {"detail": "not found"})]
    with pytest.raises(ProviderError, match="payment_unknown"):
        get(Fal(settings), settings, ledger, target)
    assert get(Fal(settings), settings, ledger, target, accepted=1) == b"a video"
    assert fal.paid == 1


def test_what_was_done_before_its_cancel_is_still_fetched(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path
) -> None:
    die("Fal", "after the poll", settings, ledger, target)
    assert cancel_outstanding(ledger, settings) == []
    assert get(Fal(settings), settings, ledger, target) == b"a video"
    assert fal.paid == 1


def test_on_another_disk_what_was_bought_is_copied(
    fal: FakeFal, settings: ProviderSettings, ledger: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(*_: object) -> None:
        raise OSError(18, os.strerror(18))

    monkeypatch.setattr(os, "link", other_disk)
    assert [get(Fal(settings), settings, ledger, target) for _ in range(2)] == [b"a video"] * 2
    assert (fal.paid, list(ledger.glob("*.part"))) == (1, [])


@pytest.mark.parametrize("name", ["../x", "video", "video-0123456789abcdeg", "video-0123456789abcdef/.."])
def test_what_names_no_purchase_never_becomes_a_path(ledger: Path, name: str) -> None:
    with pytest.raises(ValueError, match="names no purchase"), contextlib.ExitStack() as stack:
        stack.enter_context(purchase(ledger, name))
