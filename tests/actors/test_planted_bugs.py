"""Guard against a false green: each of these bugs, planted in a copy of the tree, is caught by a quick test.

docs/decisions/planted-bugs.md lists them. Plant new ones here when a promise gets a new guard.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pytest

HERE = Path(__file__).parents[2]
ROOMS = ("actors", "config", "jobs", "pipelines", "media", "http")
COPIED = ("callsheet", "tests", "pyproject.toml")
SCRIPT = "tests/actors/test_commit_script.py"
STEPS = "tests/actors/test_steps.py"


class Change(NamedTuple):
    """A replacement in one file, which must hold the old text exactly once."""

    file: str
    old: str
    new: str


class Bug(NamedTuple):
    """What is broken, and which test is to notice."""

    changes: tuple[Change, ...]
    caught_by: str


def bug(file: str, old: str, new: str, caught_by: str) -> Bug:
    return Bug((Change(file, old, new),), caught_by)


COMMIT = "actors/lua/commit.lua"
COMMIT_CALL = "        effects = self.owner.journal.commit(self.job, delivery, decision, now)\n"
BUGS = {
    "no epoch check": bug(
        COMMIT,
        "if redis.call('GET', KEYS[1]) ~= epoch then return 'FENCED' end",
        "",
        f"{SCRIPT}::test_fenced_an_older_epoch_changes_nothing",
    ),
    "acknowledged before the commit": Bug(
        (
            Change(COMMIT, "if #redis.call('XRANGE', KEYS[2], entry, entry) == 0 then return 'DUPLICATE' end", ""),
            Change(
                "actors/ownership.py",
                "                seat.pending += 1\n",
                "                self.journal._reader.xdel(self.journal.keys.mailbox, entry)\n"
                "                seat.pending += 1\n",
            ),
        ),
        f"{STEPS}::test_before_the_commit_nothing_is_acknowledged_written_or_performed",
    ),
    "no deduplication by entry": bug(
        COMMIT,
        "if #redis.call('XRANGE', KEYS[2], entry, entry) == 0 then return 'DUPLICATE' end",
        "",
        f"{SCRIPT}::test_duplicate_an_entry_applied_before_changes_nothing",
    ),
    "no deduplication by mid": bug(
        COMMIT,
        "local before = redis.call('GET', KEYS[9])",
        "local before = false",
        f"{SCRIPT}::test_repeat_a_command_is_applied_once_a_mid_and_answered_the_same_again",
    ),
    "no seq check": bug(
        COMMIT,
        "if (redis.call('HGET', KEYS[4], 'seq') or '0') ~= seq then return 'CONFLICT' end",
        "",
        f"{SCRIPT}::test_conflict_a_view_of_another_seq_changes_nothing",
    ),
    "events under ids that the server makes up": bug(
        COMMIT,
        "string.format('%d-0', last)",
        "'*'",
        f"{SCRIPT}::test_the_ids_of_the_log_are_the_numbers_of_its_events",
    ),
    "a timer that was set again fires": bug(
        COMMIT,
        "if ARGV[10] ~= '' and redis.call('ZSCORE', KEYS[5], ARGV[10]) then return 'REARMED' end",
        "",
        f"{SCRIPT}::test_rearmed_a_timer_that_was_set_again_has_not_fired",
    ),
    "dispatches are not withdrawn": bug(
        COMMIT,
        "  redis.call('HDEL', KEYS[7], ARGV[i])\n  redis.call('HDEL', KEYS[8], ARGV[i])\n",
        "",
        f"{SCRIPT}::test_a_claim_withdraws_the_dispatch_wherever_it_is",
    ),
    "receipts stay": bug(
        COMMIT,
        "if ARGV[12] == '1' then\n  redis.call('DEL', KEYS[10])\n",
        "if ARGV[12] == '1' then\n",
        "tests/actors/test_submission_keys.py::test_a_receipt_goes_with_the_commit_of_its_submission",
    ),
    "effects performed before the commit": bug(
        "actors/job_actor.py",
        COMMIT_CALL,
        "        from callsheet.actors.journal import _outbox\n"
        "        self.owner.perform(_outbox(delivery.job, decision))\n" + COMMIT_CALL,
        f"{STEPS}::test_before_the_commit_nothing_is_acknowledged_written_or_performed",
    ),
    "state assigned before the commit": bug(
        "actors/job_actor.py",
        "        effects = self.owner.journal.commit(self.job, delivery, decision, now)",
        "        old, self.job = self.job, decision.job\n"
        "        effects = self.owner.journal.commit(old, delivery, decision, now)",
        f"{STEPS}::test_a_command_that_was_applied_before_leaves_the_actor_as_it_was",
    ),
    "a new owner performs nothing of what was left": bug(
        "actors/performer.py",
        "{**left, **lost}.items()",
        "lost.items()",
        f"{STEPS}::test_what_an_owner_had_committed_and_not_performed_the_next_one_performs",
    ),
    "published before it is on the disk": bug(
        "actors/stores/folder.py",
        "            sync_folders(ready)\n            if target",
        "            if target",
        "tests/stages/test_store.py"
        "::test_files_and_their_folder_are_synced_before_they_are_in_place_and_the_folder_above_after",
    ),
    "a success gets through a cancel": bug(
        "jobs/reports.py",
        '    if draft.job.status == "cancelling":\n        _stopped_by_cancel(draft, state)\n    elif',
        "    if",
        "tests/jobs/test_cancel.py::test_a_success_that_comes_after_a_cancel_completes_nothing",
    ),
    "an old token is good": bug(
        "jobs/reports.py",
        "state.token != report.token or ",
        "",
        "tests/jobs/test_failures.py::test_a_report_under_the_token_of_an_earlier_dispatch_is_refused",
    ),
}


def copy_tree(target: Path) -> None:
    """The rooms and the tests, the links of the import package as real folders."""
    ignored = shutil.ignore_patterns("__pycache__", "fixtures", ".*")
    for name in COPIED:
        source = HERE / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignored)
        else:
            shutil.copy(source, target / name)


def plant(target: Path, change: Change) -> None:
    path = target / "callsheet" / change.file
    text = path.read_text()
    assert text.count(change.old) == 1, f"{change.file} does not hold {change.old!r} once: adjust the planted bug"
    path.write_text(text.replace(change.old, change.new))


class Nursery:
    """A process that has imported everything but the tree under test: a run of pytest is a fork of it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("nursery.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, tree: Path, *tests: str) -> tuple[int, str]:
        """The exit code of pytest in that tree, and what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(tree), *tests]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), (tree / "output.txt").read_text(errors="replace")

    def end(self) -> None:
        self._process.communicate(timeout=30)  # the end of its input is the end of it


def _try(folder: Path, planted: Bug, nurseries: SimpleQueue[Nursery]) -> tuple[int, str]:
    copy_tree(folder)
    for change in planted.changes:
        plant(folder, change)
    nursery = nurseries.get()
    done = nursery.run(folder, planted.caught_by)
    nurseries.put(nursery)
    shutil.rmtree(folder)
    return done


@pytest.fixture(scope="module")
def nurseries() -> Iterator[SimpleQueue[Nursery]]:
    """Two, for two trials at a time."""
    made = [Nursery(), Nursery()]
    free: SimpleQueue[Nursery] = SimpleQueue()
    for nursery in made:
        free.put(nursery)
    yield free
    for nursery in made:
        nursery.end()


@pytest.fixture(scope="module")
def tried(
    tmp_path_factory: pytest.TempPathFactory, nurseries: SimpleQueue[Nursery]
) -> Iterator[dict[str, Future[tuple[int, str]]]]:
    """All at work, two at a time."""
    base = tmp_path_factory.mktemp("planted")
    with ThreadPoolExecutor(2) as trials:
        yield {
            name: trials.submit(_try, base / str(n), planted, nurseries)
            for n, (name, planted) in enumerate(BUGS.items())
        }


def test_without_a_bug_the_copy_passes(tmp_path: Path, nurseries: SimpleQueue[Nursery]) -> None:
    copy_tree(tmp_path / "tree")
    nursery = nurseries.get()
    code, output = nursery.run(tmp_path / "tree", *sorted({planted.caught_by for planted in BUGS.values()}))
    nurseries.put(nursery)
    assert code == 0, output


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(tried: dict[str, Future[tuple[int, str]]], name: str) -> None:
    code, output = tried[name].result()
    assert code == 1, f"{name} is not caught by {BUGS[name].caught_by}:\n{output}"
    assert "1 failed" in output, output  # it failed, rather than not even having been collected
