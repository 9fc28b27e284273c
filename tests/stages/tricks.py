"""Pipelines whose stages do what a test asks for: `one` with a single stage, `graph` with a fan-out and a join.

A stage tells the test where it is by files in a folder that both know; the test answers the same way.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from callsheet.jobs.graph import RetryPolicy
from callsheet.media import ffmpeg
from callsheet.media.errors import MediaError
from callsheet.media.limits import current
from callsheet.pipelines.declare import OutputFile, Pipeline, StageContext, StageError, StageOutput, stage

ONCE = RetryPolicy(tries=1)
served = 0


class Params(msgspec.Struct, frozen=True):
    """`marks`: the folder of signals. `count`: how many, where something is counted."""

    trick: str = "nothing"
    marks: str = ""
    count: int = 0


def mark(context: StageContext, name: str, text: str = "") -> None:
    """Tell the test something."""
    whole = Path(context.params.marks) / f".{name}.{os.getpid()}"  # two runs of one stage may mark at once
    whole.write_text(text)
    whole.rename(whole.with_name(name))


def wait_for_mark(context: StageContext, name: str) -> None:
    """Wait until the test says so."""
    while not (Path(context.params.marks) / name).exists():
        time.sleep(0.005)


def act(context: StageContext) -> StageOutput:
    """The stage of `one`."""
    global served  # noqa: PLW0603
    served += 1
    return TRICKS[context.params.trick](context) or StageOutput()


def nothing(context: StageContext) -> None:
    pass


def warm(context: StageContext) -> StageOutput:
    return StageOutput(result={"pid": os.getpid(), "served": served})


def limits(context: StageContext) -> StageOutput:
    return StageOutput(result={"max_seconds": current().max_seconds, "pixels": current().pixels})


def write(context: StageContext) -> StageOutput:
    (context.folder / "words.txt").write_text("hello")
    Path("relative.tmp").write_text("in the work folder, too")
    with tempfile.NamedTemporaryFile(delete=False) as left:
        left.write(b"and so is this")
    mark(context, "folder", str(context.folder))
    return StageOutput(
        data={"for": "later"},
        files=(OutputFile("words.txt", "text/plain", artifact=True),),
        result={"input": context.input.path.read_text(), "temporary": left.name},
        input={"duration": 2.5},
    )


def fills(context: StageContext) -> StageOutput:
    """A file of `count` bytes, none of which is like its neighbours."""
    with (context.folder / "words.txt").open("wb") as file:
        for start in range(0, context.params.count, 1 << 16):
            file.write(start.to_bytes(8, "big") * (1 << 13))
    return StageOutput(files=(OutputFile("words.txt", "text/plain", artifact=True),))


def page(context: StageContext) -> StageOutput:
    """A file that no browser may be shown."""
    (context.folder / "page.html").write_text("<script>")
    return StageOutput(files=(OutputFile("page.html", "text/html", artifact=True),))


def converts(context: StageContext) -> StageOutput:
    """`count` seconds of noise, by ffmpeg."""
    noise = ("-f", "lavfi", "-i", f"anoisesrc=duration={context.params.count}")
    ffmpeg.run([], noise, context.folder / "noise.wav")
    return StageOutput(files=(OutputFile("noise.wav", "audio/wav", artifact=True),))


def gated_write(context: StageContext) -> StageOutput:
    mark(context, "begun", str(context.folder))
    wait_for_mark(context, "go")
    return write(context)


def chatter(context: StageContext) -> StageOutput:
    began = time.monotonic()
    while (past := time.monotonic() - began) < 2.0:
        for _ in range(100):
            context.progress(past / 2.0, f"at {past:.1f}")
        time.sleep(0.001)
    context.progress(0.95, "the last word")
    return StageOutput(result={"seconds": time.monotonic() - began})


def last_word(context: StageContext) -> None:
    context.progress(0.1, "first")
    context.progress(0.2, "last before a long silence")
    wait_for_mark(context, "go")


def talk(context: StageContext) -> None:
    context.log("two\nlines")
    context.log("x" * 2000)
    for number in range(context.params.count):
        context.log(f"line {number}")


def pieces(context: StageContext) -> None:
    context.partial({"lines": ["y" * 70_000]})
    for number in range(context.params.count):
        context.partial({"lines": [f"{number} " + "x" * 1000], "upto": number})


def stuck(context: StageContext) -> None:
    """Busy in a child of its own, which has a child of its own."""
    script = "import subprocess; subprocess.run(['sleep', '600'])"
    with subprocess.Popen([sys.executable, "-c", script]) as child:
        wait_until(lambda: b"sleep" in _commands(os.getpgid(0)))
        mark(context, "begun", f"{os.getpid()} {child.pid} {context.folder}")
        child.wait()


def deaf(context: StageContext) -> None:
    """In native code that holds the interpreter's lock: no Python thread or signal handler gets a turn."""
    mark(context, "begun", f"{os.getpid()} 0 {context.folder}")
    pow(3, 10**9)


def _commands(group: int) -> bytes:
    found = b""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == group:
                    found += (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
    return found.replace(sys.executable.encode(), b"").replace(b"subprocess.run(['sleep'", b"")


def wait_until(what: Callable[[], bool]) -> None:
    while not what():
        time.sleep(0.005)


def segfault(context: StageContext) -> None:
    mark(context, "crashed", str(context.folder))
    print("some last words", flush=True)  # noqa: T201
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(context: StageContext) -> None:
    os._exit(3)


def greedy(context: StageContext) -> None:
    hoard = [bytearray(64 << 20) for _ in range(10_000)]
    context.log(str(len(hoard)))


def fails(context: StageContext) -> None:
    raise OSError("cannot read /home/somebody/private/words.txt, nor '/etc/passwd'")


def says_no(context: StageContext) -> None:
    raise StageError("no_faces", "Nobody is in the picture.")


def bad_media(context: StageContext) -> None:
    raise MediaError("no_audio", "There is no sound in it.")


def leaves_a_process(context: StageContext) -> None:
    script = "import os, subprocess; os.fork() or subprocess.run(['sleep', '600'])"
    subprocess.run([sys.executable, "-c", script], check=True)
    wait_until(lambda: b"sleep" in _commands(os.getpgid(0)))


def talks_later(context: StageContext) -> None:
    def late() -> None:
        wait_for_mark(context, "go")
        for _ in range(100):
            context.log("from the stage before")
        mark(context, "late")

    threading.Thread(target=late, daemon=True).start()


def waits(context: StageContext) -> None:
    mark(context, "waiting")
    wait_for_mark(context, "late")


def environment(context: StageContext) -> StageOutput:
    return StageOutput(result={"environment": dict(os.environ), "soft": _limits()})


def _limits() -> dict[str, int]:
    return {name: resource.getrlimit(getattr(resource, name))[0] for name in ("RLIMIT_CORE", "RLIMIT_DATA")}


def _gives(output: object) -> Callable[[StageContext], StageOutput]:
    return lambda _: output  # type: ignore[return-value]


def _link(context: StageContext) -> StageOutput:
    Path("words.txt").symlink_to("/etc/hostname")
    return StageOutput(files=(OutputFile("words.txt", "text/plain"),))


TRICKS: dict[str, Callable[[StageContext], StageOutput | None]] = {
    f.__name__: f
    for f in (nothing, warm, write, gated_write, chatter, last_word, talk, pieces, stuck, deaf, segfault, leave, greedy)
}
TRICKS |= {f.__name__: f for f in (fails, says_no, bad_media, leaves_a_process, talks_later, waits)}
TRICKS |= {f.__name__: f for f in (environment, limits, fills, converts, page)}
TRICKS |= {
    "link": _link,
    "missing": _gives(StageOutput(files=(OutputFile("words.txt", "text/plain"),))),
    "upward": _gives(StageOutput(files=(OutputFile("../words.txt", "text/plain"),))),
    "vast": _gives(StageOutput(data={"x": "y" * 300_000})),
    "strange": _gives(StageOutput(result={"x": object()})),
    "typeless": _gives({"data": {}}),
}

one = Pipeline(name="one", params=Params, stages=(stage(act, name="act", retry=ONCE),))
twice = Pipeline(name="twice", params=Params, stages=(stage(act, name="act", retry=RetryPolicy(tries=2, base=0.05)),))
patient = Pipeline(
    name="patient", params=Params, stages=(stage(act, name="act", retry=RetryPolicy(tries=9, base=0.2)),)
)
hasty = Pipeline(name="hasty", params=Params, stages=(stage(act, name="act", retry=ONCE, deadline=2.0),))


def first(context: StageContext) -> StageOutput:
    return StageOutput(data={"from": "first"}, items=tuple(range(context.params.count)))


def clip(context: StageContext) -> StageOutput:
    if context.item == 1:
        raise StageError("odd", "Not this one.")
    (context.folder / "clip.txt").write_text(f"{context.item} {context.data('first')['from']}")
    return StageOutput(data={"item": context.item}, files=(OutputFile("clip.txt", "text/plain"),))


def join(context: StageContext) -> StageOutput:
    names = context.instances("clip")
    texts = {name: context.file(name, "clip.txt").read_text() for name in names}
    return StageOutput(result={"names": list(names), "texts": texts, "items": [context.data(n)["item"] for n in names]})


graph = Pipeline(
    name="graph",
    params=Params,
    stages=(
        stage(first),
        stage(clip, needs=("first",), each="first", may_fail=True, retry=ONCE, queue="io"),
        stage(join, needs=("first", "clip")),
    ),
)


def make(context: StageContext) -> StageOutput:
    """A file that no other run makes alike, and what of the params can be seen."""
    serial = os.urandom(8).hex()
    (context.folder / "made.txt").write_text(f"{context.params.count} {serial}")
    result = {"serial": serial, "sees_trick": hasattr(context.params, "trick")}
    return StageOutput(
        files=(OutputFile("made.txt", "text/plain", artifact=True),), result=result, input={"duration": 9}
    )


def take(context: StageContext) -> StageOutput:
    return StageOutput(result={"taken": context.file("make", "made.txt").read_text()})


kept = Pipeline(
    name="kept",
    params=Params,
    stages=(stage(make, version="1", uses=("count",)), stage(take, needs=("make",), version="1")),
)

REFERENCES = tuple(f"tests.stages.tricks:{name}" for name in ("one", "twice", "patient", "hasty", "graph", "kept"))
