"""The command `callsheet`: everything on one machine (`up`), or one role at a time (`api`, `host`, `worker`)."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callsheet import __version__
from callsheet.config.checks import is_loopback
from callsheet.keys_cli import keys, tenants
from callsheet.webhooks_cli import webhooks

if TYPE_CHECKING:
    from callsheet.config.settings import Settings

# Each command imports what it needs itself: `callsheet --help` answers at once, and a role loads no other role.

app = typer.Typer(
    help="Callsheet: a self-hosted media job service. Settings come from the environment; see docs/settings.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, passwords in addresses among them
)

Port = Annotated[int | None, typer.Option(help="Port of the API (CALLSHEET_PORT).")]
Data = Annotated[Path | None, typer.Option(help="Folder for everything that is kept (CALLSHEET_DATA).")]


class Queue(StrEnum):
    """A kind of work a worker takes."""

    cpu = "cpu"
    io = "io"
    gpu = "gpu"


@app.command()
def up(port: Port = None, data: Data = None) -> None:
    """Start everything on this machine: Redis, host, workers and API. Ctrl-C stops it all."""
    from callsheet.up import run_up, running_journal

    settings = _settings("up", port=port, data=data, eyes=True)
    if not is_loopback(settings.bind):
        with running_journal(settings) as journal:
            _check_somebody_has_a_key(settings, journal)
    raise typer.Exit(run_up(settings))


@app.command()
def api(port: Port = None) -> None:
    """Answer HTTP."""
    settings = _settings("api", port=port)
    if not is_loopback(settings.bind):
        _check_somebody_has_a_key(settings, settings.journal)
    from callsheet.http.serve import run_api

    run_api(settings)


@app.command()
def host() -> None:
    """Own jobs: run their actors, for the partitions whose lease this process holds."""
    settings = _settings("host")
    from callsheet.actors.host import run_host

    run_host(settings)


@app.command()
def worker(
    queue: Annotated[
        list[Queue] | None, typer.Option(help="Take work of this queue; may be repeated. Default: all.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Stages at once, per queue.")] = None,
) -> None:
    """Run stages."""
    queues = tuple(q.value for q in queue or Queue)
    slots: dict[str, Any] = {f"{name}_concurrency": concurrency for name in queues}
    settings = _settings("worker", **slots)
    from callsheet.actors.stages.worker import run_worker

    run_worker(settings, queues=queues)


@app.command()
def check(
    pipeline: Annotated[str, typer.Argument(help="A file that declares a pipeline; FILE:NAME if it declares several.")],
    input: Annotated[Path | None, typer.Option(help="Run it on this file.", exists=True, dir_okay=False)] = None,  # noqa: A002
    params: Annotated[str | None, typer.Option(help="Its params, as a JSON object.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for what it makes.", file_okay=False)] = None,
) -> None:
    """Look at a pipeline of your own and, with --input, run it right here, without any service."""
    settings = _settings("check", eyes=True)
    from callsheet.actors.pipelines import PipelineError
    from callsheet.check import check as look_at

    try:
        well = look_at(pipeline, settings, input, params, output)
    except (PipelineError, ValueError) as error:
        typer.echo(f"callsheet: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(0 if well else 1)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at this set-up, running or not, and say what to do. The exit code is 1 if there is a problem."""
    from callsheet.actors.telemetry.checkup import Finding
    from callsheet.config.settings import SettingsError, load_settings
    from callsheet.doctor import examine, report

    try:
        findings = examine(load_settings())
    except SettingsError as error:
        findings = iter([Finding("settings", "problem", str(error), "see docs/settings.md")])
    raise typer.Exit(0 if report(findings, as_json=as_json) else 1)


app.add_typer(keys, name="keys")
app.add_typer(tenants, name="tenants")
app.add_typer(webhooks, name="webhooks")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _settings(role: str, *, eyes: bool = False, **given: Any) -> Settings:
    """The settings with what was given on the command line; `eyes`: `auto` logs are for a person wherever they go."""
    from callsheet.config.logging import configure_logging
    from callsheet.config.settings import load_settings

    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    if eyes and settings.log_format == "auto":
        settings = settings.model_copy(update={"log_format": "console"})
    configure_logging(settings, role)
    return settings


def _check_somebody_has_a_key(settings: Settings, journal: str) -> None:
    from callsheet.actors.tenants.keyring import nobody_has_a_key
    from callsheet.config.settings import SettingsError

    if nobody_has_a_key(journal):
        raise SettingsError(
            f"bind={settings.bind} opens the service to the network, and there is no key to it: "
            "make one first (callsheet keys create --tenant NAME), or take bind=127.0.0.1"
        )


def main() -> None:
    """Run the command. What is wrong with the settings or the machine is one line and exit code 2."""
    from callsheet.config.settings import SettingsError

    try:
        app()
    except SettingsError as error:
        sys.stderr.write(f"callsheet: {error}\n")
        sys.exit(2)
