"""What was bought, on the disk, so that it is never bought twice: written before the order goes out.

    FOLDER/NAME.log    what happened with a purchase, a JSON object a line, each fsynced before the next step
    FOLDER/NAME.out    what was bought

The folder lives as long as the job and is shared by all its tries, attempts and workers. Whoever works on a purchase
holds its file locked (flock); the kernel lets go of it, however the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from callsheet.media.disk import sync
from callsheet.media.providers.base import ProviderError, Ref

NAME = re.compile(r"[a-z0-9_]{1,40}-[0-9a-f]{16}\Z")
MAX_LOG = 256 * 1024  # bytes; an entry takes a few hundred
State = Literal["asked", "sent", "refused", "failed", "cancelled", "gone", "kept"]


class Entry(msgspec.Struct, frozen=True):
    """`asked`: the order may be on its way. `sent`: it was taken, as `ref`. `refused`: it was certainly not taken.
    `failed`: it came to nothing. `cancelled`: its end was asked for. `gone`: the provider knows nothing of it any more.
    `kept`: its result is in the folder."""

    state: State
    ref: Ref | None = None


class Purchase:
    """One purchase, locked. `entries`: what happened so far."""

    def __init__(self, folder: Path, name: str, file: int) -> None:
        self._file, self._folder, self._out = file, folder, folder / f"{name}.out"
        self.entries, self._torn = _read(file), _torn(file)

    @property
    def last(self) -> Entry | None:
        """Where it stands."""
        return self.entries[-1] if self.entries else None

    @property
    def kept(self) -> bool:
        """Whether its result is here; it appears whole."""
        return self._out.exists()

    @property
    def lost(self) -> int:
        """How many orders went out of which nobody knows what became: `asked`, and then nothing, or asked again; or
        those that are gone."""
        states = [entry.state for entry in self.entries]
        unanswered = sum(
            state == "asked" and states[n + 1 : n + 2] in ([], ["asked"]) for n, state in enumerate(states)
        )
        return unanswered + states.count("gone")

    def note(self, state: State, ref: Ref | None = None) -> None:
        """Write an entry; it is on the disk when this returns. OSError where it does not fit there."""
        entry = Entry(state, ref)
        line = (b"\n" if self._torn else b"") + msgspec.json.encode(entry) + b"\n"
        self._torn = True  # until it is whole: what comes after half a line begins a new one
        if os.write(self._file, line) < len(line):  # a disk that fills up takes a part of it, without an error
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False
        os.fsync(self._file)
        self.entries.append(entry)

    def keep(self, made: Path) -> None:
        """Keep the result: a second name of the same file where that goes, else a copy."""
        _second_name(made, self._out)
        sync(self._folder)
        self.note("kept")

    def give(self, target: Path) -> None:
        """Put the result that was kept where it is wanted."""
        target.unlink(missing_ok=True)
        _second_name(self._out, target)


@contextlib.contextmanager
def purchase(folder: Path, name: str) -> Iterator[Purchase]:
    """Open a purchase for one user at a time. ProviderError: paid_step_busy, purchase_gone."""
    if not NAME.match(name):
        raise ValueError(f"{name!r} names no purchase")
    try:
        folder.mkdir(exist_ok=True)  # and not its parents: the folder of a job that is gone must not come back
        new = not (folder / f"{name}.log").exists()
        file = os.open(folder / f"{name}.log", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise ProviderError("purchase_gone", "The job was removed; nothing is bought for it.", taken=False) from None
    try:
        if not _locked(file):
            raise ProviderError("paid_step_busy", "Another worker is at this purchase.", retryable=True, taken=False)
        if new:
            sync(folder)
            sync(folder.parent)
        yield Purchase(folder, name, file)
    finally:
        os.close(file)


def outstanding(folder: Path) -> list[str]:
    """The names of the purchases that were sent and have no end yet."""
    names = []
    for log in sorted(folder.glob("*.log")):
        if NAME.match(log.stem):
            file = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
            try:
                entries = _read(file)
            finally:
                os.close(file)
            if entries and entries[-1].state == "sent":
                names.append(log.stem)
    return names


def _read(file: int) -> list[Entry]:
    """The entries. A last line that was cut off by a crash was not followed by anything, and does not count."""
    lines = os.pread(file, MAX_LOG, 0).split(b"\n")
    entries = []
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            entries.append(msgspec.json.decode(line, type=Entry))
    return entries


def _torn(file: int) -> bool:
    """Whether the last line has no end."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _second_name(file: Path, name: Path) -> None:
    """Have the same bytes under another name, whole or not at all. On another disk they are copied."""
    sync(file)
    try:
        os.link(file, name)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        copy = name.with_name(f"{name.name}.part")
        shutil.copyfile(file, copy)
        sync(copy)
        copy.replace(name)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
