"""Buying something once: whatever happens in between, an order that may have been taken is never placed again.

See docs/decisions/paid-steps.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from callsheet.media.providers.base import Order, Provider, ProviderError, ProviderSettings, Ref
from callsheet.media.providers.fal import Fal
from callsheet.media.providers.gemini import Gemini
from callsheet.media.providers.ledger import Purchase, outstanding, purchase

PROVIDERS: dict[str, Callable[[ProviderSettings], Provider]] = {"gemini": Gemini, "fal": Fal}
TELL = 0.9  # of the progress: the rest is the download
Tell = Callable[[float, str], None]


def name_of(step: str, *what: object) -> str:
    """The name of a purchase: the step, and a digest of all that decides what is made."""
    return f"{step}-{hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:16]}"


def buy(
    provider: Provider,
    order: Order,
    target: Path,
    *,
    ledger: Path,
    name: str,
    settings: ProviderSettings,
    accepted_losses: int = 0,
    tell: Tell = lambda _fraction, _note: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Have `order` made and written to `target`, or take what was made for it before.

    `accepted_losses`: how many orders of unknown fate the client has put up with. ProviderError: payment_unknown when
    there are more; provider_timeout (a later try goes on waiting for the same order); and what a provider raises.
    """
    with purchase(ledger, name) as record:
        if record.kept:
            tell(1.0, "made before")
            record.give(target)
            return

        def take(ref: Ref) -> None:
            _wait(provider, ref, settings=settings, tell=tell, sleep=sleep)
            provider.fetch(ref, order, target)

        last, came = record.last, False
        if last and last.ref and last.state in ("cancelled", "gone"):
            came = _came_all_the_same(take, last.ref)
        if not came:
            ref = last.ref if last and last.state == "sent" else None
            ref = ref or _place(provider, order, target, record, accepted_losses)
            if not ref.done:
                with _noting_the_end(record, ref):
                    take(ref)
        record.keep(target)


def _place(provider: Provider, order: Order, target: Path, record: Purchase, accepted_losses: int) -> Ref:
    """Place the order. That it may go out is on the disk before it does, and that it was taken before anything else."""
    if record.lost > accepted_losses:
        raise _unknown(f"An order to {provider.name} went out and its answer was lost: it may have been paid.", record)
    ready = provider.prepare(order)
    record.note("asked")
    try:
        ref = provider.submit(ready, target)
    except ProviderError as error:
        if error.taken is False:
            record.note("refused")
            raise
        raise _unknown(f"{error.message} The order may have been taken, and paid.", record) from error
    if not ref.done:  # else it is kept in a moment, and only that ends the uncertainty
        record.note("sent", ref)
    return ref


def _unknown(what: str, record: Purchase) -> ProviderError:
    again = f'To order again, retry with the params {{"pay_again": {record.lost}}}.'
    return ProviderError("payment_unknown", f"{what} {again}")


def _came_all_the_same(take: Callable[[Ref], None], ref: Ref) -> bool:
    """Whether an order whose end was asked for, or that was not to be found, came to something all the same: one that
    was in work may run on, and be charged."""
    try:
        take(ref)
    except ProviderError as error:
        if error.code in ("provider_failed", "provider_refused", "provider_bad_answer"):
            return False
        raise
    return True


@contextlib.contextmanager
def _noting_the_end(record: Purchase, ref: Ref) -> Iterator[None]:
    """Note an order that came to nothing, wherever the provider says so, so that a retry may place another; and one
    that is not to be found there any more, so that the client may say so."""
    try:
        yield
    except ProviderError as error:
        if error.code == "provider_failed":
            record.note("failed", ref)
        elif error.status in (404, 410):
            record.note("gone", ref)
            raise _unknown(
                f"{ref.provider} knows nothing of the order any more, which may have been paid.", record
            ) from error
        raise


def _wait(
    provider: Provider,
    ref: Ref,
    *,
    settings: ProviderSettings,
    tell: Tell,
    sleep: Callable[[float], None],
) -> None:
    begun = time.monotonic()
    while True:
        status = provider.poll(ref)
        if status.state == "done":
            return
        past = time.monotonic() - begun
        if past > settings.patience_seconds:
            raise ProviderError(
                "provider_timeout",
                f"{provider.name} did not finish within {settings.patience_seconds:g} s; the order stands.",
                retryable=True,
            )
        tell(TELL * past / (past + 30.0), f"{provider.name}: {status.state} {status.note}".rstrip())
        sleep(settings.poll_seconds)


def cancel_outstanding(ledger: Path, settings: ProviderSettings) -> list[str]:
    """Ask for the end of every order that is in work; give back the names of the purchases that were cancelled.

    For a job that is cancelled: its stage is dead by then and cannot do it. What is over already stays as it is, so
    that a retry can fetch what was paid for.
    """
    cancelled = []
    for name in outstanding(ledger):
        with purchase(ledger, name) as record:
            ref = record.last.ref if record.last else None
            if ref and ref.provider in PROVIDERS and PROVIDERS[ref.provider](settings).cancel(ref):
                record.note("cancelled", ref)
                cancelled.append(name)
    return cancelled
