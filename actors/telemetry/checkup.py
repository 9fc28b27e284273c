"""What `callsheet doctor` looks at behind an address: the two Redis servers, the roles that use them, and the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from callsheet.actors.committer import connect
from callsheet.actors.errors import CallsheetError
from callsheet.actors.keys import HOSTS, PARTITIONS, PartitionKeys, feed_channel, new_job_id
from callsheet.actors.pipelines import PipelineError, load_pipelines
from callsheet.actors.stores.opening import open_store
from callsheet.actors.telemetry.board import Board
from callsheet.actors.tenants.keyring import KeyStore
from callsheet.actors.wire import REDIS_AWAY
from callsheet.config.redis_server import OLDEST
from callsheet.config.settings import Settings, SettingsError

ANSWER_SECONDS = 2.0
MOST_SKEW = 2.0  # seconds; the broker takes the workers' clocks, and gives up a worker after 10 s of silence


class Finding(NamedTuple):
    """What one check found. `todo`: what to do about it; '' when it is well."""

    check: str
    level: Literal["ok", "warning", "problem"]
    what: str
    todo: str = ""


def ok(check: str, what: str) -> Finding:
    """It is well."""
    return Finding(check, "ok", what)


def look_at_servers(settings: Settings, journal_url: str, broker_url: str) -> Iterator[Finding]:
    """The servers, and what depends on them."""
    journal, broker = (connect(url, ANSWER_SECONDS) for url in (journal_url, broker_url))
    found = list(_reachable("journal", journal)) + list(_reachable("broker", broker))
    yield from found
    if any(finding.level == "problem" and finding.what.startswith("does not answer") for finding in found):
        return
    try:
        yield from _journal(journal)
        yield from _channels(journal)
        yield from _broker(journal, broker)
        yield from _clock(journal)
        yield from _keys(settings, journal)
        yield from _hosts(journal)
        yield from _workers(settings, Board(broker_url, "doctor"))
    except REDIS_AWAY as error:
        yield Finding("redis", "problem", f"did not answer while it was looked at ({error})", "ask again")


def look_at_pipelines(settings: Settings) -> Iterator[Finding]:
    """Those that the settings name are there."""
    try:
        yield ok("pipelines", ", ".join(load_pipelines(settings.pipelines)))
    except PipelineError as error:
        yield Finding("pipelines", "problem", str(error), "correct CALLSHEET_PIPELINES, or install what it names")


def look_at_store(settings: Settings) -> Iterator[Finding]:
    """The store takes a file, and lets it go again."""
    where = settings.store_url or str(settings.data / "store")
    try:
        store, job = open_store(settings), new_job_id()
        upload = store.new_upload()
        try:
            upload.write(b"callsheet doctor")
            store.accept_input(job, upload)
        finally:
            upload.discard()
            store.remove_job(job)
        yield ok("store", f"{where} takes files")
    except (CallsheetError, SettingsError, OSError) as error:
        todo = (
            "start it, or correct CALLSHEET_STORE_* (docs/storage.md)" if settings.store_url else "see docs/storage.md"
        )
        yield Finding("store", "problem", f"{where} takes no file: {error}", todo)


def _reachable(check: str, client: Any) -> Iterator[Finding]:
    name = "CALLSHEET_REDIS_URL" if check == "journal" else "CALLSHEET_BROKER_URL"
    try:
        info = client.info("server")
    except REDIS_AWAY as error:
        yield Finding(check, "problem", f"does not answer ({error})", f"start it, or correct {name}")
        return
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        yield Finding(check, "problem", f"is version {version}", "run Redis 6.2 or newer, or Valkey")
    else:
        yield ok(check, f"answers; version {version}")


def _journal(client: Any) -> Iterator[Finding]:
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    why = {
        "appendonly": "jobs are lost when it stops",
        "appendfsync": "jobs that were accepted may be lost when its machine fails",
        "maxmemory-policy": "it may forget jobs to make room",
    }
    try:
        given = {name: client.config_get(name).get(name) for name in wanted}
    except ResponseError:
        yield Finding("journal", "warning", "does not tell its configuration", f"have its provider confirm {wanted}")
        return
    for name, value in wanted.items():
        if given[name] != value:
            todo = f"redis-cli CONFIG SET {name} {value}, and put it into its configuration file"
            yield Finding("journal", "problem", f"{name} is {given[name]}: {why[name]}", todo)
    if given == wanted:
        yield ok("journal", "keeps what it acknowledges (appendfsync always, noeviction)")


def _channels(client: Any) -> Iterator[Finding]:
    """Redis 7 lets no user that is made for us speak on a channel unless it is told to; a commit ends with that."""
    try:
        client.publish(feed_channel("doctor"), "")
    except NoPermissionError:
        yield Finding("journal", "problem", "its user may not publish: nothing can be decided", "ACL SETUSER … &cs:*")


def _broker(journal: Any, broker: Any) -> Iterator[Finding]:
    if journal.info("server")["run_id"] == broker.info("server")["run_id"]:
        todo = "give the broker a server of its own, without persistence: each of its commands waits for the disk now"
        yield Finding("broker", "warning", "is the same server as the journal's", todo)
    policy = broker.info("memory")["maxmemory_policy"]
    if policy.startswith("allkeys"):  # a queue alone that goes is not noticed: a broker begins anew as a whole
        todo = "redis-cli CONFIG SET maxmemory-policy noeviction, and put it into its configuration file"
        yield Finding("broker", "problem", f"maxmemory-policy is {policy}: stages it forgets never run", todo)


def _clock(client: Any) -> Iterator[Finding]:
    asked = time.time()
    seconds, micros = client.time()
    skew = seconds + micros / 1e6 - (asked + time.time()) / 2
    if abs(skew) > MOST_SKEW:
        yield Finding(
            "clock", "problem", f"this machine is {-skew:+.1f} s off the journal's", "run an NTP service on both"
        )
    else:
        yield ok("clock", f"within {MOST_SKEW:g} s of the journal's")


def _keys(settings: Settings, client: Any) -> Iterator[Finding]:
    if not settings.needs_keys:
        yield ok("keys", f"none needed: only this machine reaches {settings.bind}")
    elif keys := KeyStore(client).list():
        yield ok("keys", f"{len(keys)} of them let clients in")
    else:
        yield Finding(
            "keys", "problem", "every request needs one, and there is none", "callsheet keys create --tenant NAME"
        )


def _hosts(client: Any) -> Iterator[Finding]:
    raw = client.get(PARTITIONS)
    keys = [PartitionKeys(number) for number in range(int(raw or 0))]
    owned = client.exists(*(k.lease for k in keys)) if keys else 0
    if not keys or owned < len(keys):
        what = f"{owned} of {len(keys)} partitions have an owner" if keys else "none has ever run on this journal"
        yield Finding("hosts", "problem", what, "start one: callsheet host (callsheet up starts all roles)")
    else:
        yield ok("hosts", f"{client.zcard(HOSTS)} own all {len(keys)} partitions")
    dead = sum(client.xlen(k.dead) for k in keys)
    if dead:
        todo = "see `message set aside` in the hosts' logs; the messages are in the streams cs:{N}:dead"
        yield Finding("hosts", "warning", f"{dead} messages could not be applied", todo)


def _workers(settings: Settings, board: Board) -> Iterator[Finding]:
    try:
        pipelines = load_pipelines(settings.pipelines)
    except PipelineError:  # told before
        return
    wanted = {spec.queue for pipeline in pipelines.values() for spec in pipeline.specs}
    slots = _slots(board)
    for queue in sorted(wanted):
        if slots.get(queue):
            yield ok("workers", f"{slots[queue]:g} stages of the queue {queue} at once")
        else:
            todo = f"start one: callsheet worker --queue {queue}"
            yield Finding("workers", "problem", f"none takes the queue {queue}: its stages wait", todo)


def _slots(board: Board) -> dict[str, float]:
    slots: dict[str, float] = {}
    for snapshot in board.others():
        for family in snapshot.families:
            for name, labels, value in family.samples if snapshot.role == "worker" else ():
                if name == "callsheet_stage_slots":
                    slots[labels["queue"]] = slots.get(labels["queue"], 0) + value
    return slots
