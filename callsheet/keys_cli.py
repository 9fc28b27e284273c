"""The commands `callsheet keys …` and `callsheet tenants …`. They talk to the journal's Redis, not to the API."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from callsheet.journal_cli import journal

if TYPE_CHECKING:
    from callsheet.config.settings import Settings

keys = typer.Typer(help="API keys: who may use the service.", no_args_is_help=True)
tenants = typer.Typer(help="Limits of single tenants, in place of the settings'.", no_args_is_help=True)


class ScopeName(StrEnum):
    """What a key allows."""

    read = "read"
    write = "write"
    admin = "admin"


Tenant = Annotated[str, typer.Option("--tenant", help="Whose key it is.")]
Scopes = Annotated[list[ScopeName], typer.Option("--scope", help="What it allows; may be repeated.")]


@keys.command("create")
def create(
    tenant: Tenant,
    scope: Scopes = [ScopeName.read, ScopeName.write],  # noqa: B006  (typer copies it)
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Make a key and print it: it is shown only now."""
    from callsheet.actors.tenants.keyring import KeyStore

    with journal() as client:
        key, secret = KeyStore(client).create(tenant, tuple(one.value for one in scope), name)
    typer.echo(f"key {key.id} of tenant {key.tenant} ({', '.join(key.scopes)}); it is not shown again:", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys() -> None:
    """Show the keys that count, without what would let anybody in."""
    from callsheet.actors.tenants.keyring import KeyStore

    with journal() as client:
        found = KeyStore(client).list()
    for key in found:
        typer.echo(f"{key.id}  {key.created_at}  {key.tenant:<20}  {','.join(key.scopes):<16}  {key.name}".rstrip())


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `callsheet keys list` shows it.")]) -> None:
    """Have a key count no more; within two seconds no API takes it."""
    from callsheet.actors.tenants.keyring import KeyStore

    with journal() as client:
        if not KeyStore(client).revoke(key_id):
            raise ValueError(f"there is no key {key_id!r}")
    typer.echo(f"key {key_id} is revoked", err=True)


@tenants.command("set")
def set_limits(
    tenant: Annotated[str, typer.Argument(help="Which tenant.")],
    *,
    rate: Annotated[float | None, typer.Option(min=0, help="Requests a second; 0: any number.")] = None,
    burst: Annotated[int | None, typer.Option(min=1, help="Requests at once.")] = None,
    max_active: Annotated[int | None, typer.Option(min=0, max=1000, help="Jobs at work at once; 0: all.")] = None,
    max_open: Annotated[int | None, typer.Option(min=0, help="Jobs that have not ended; 0: any number.")] = None,
    max_stored: Annotated[int | None, typer.Option(min=0, help="Jobs that are kept; 0: any number.")] = None,
    quota: Annotated[str | None, typer.Option(help="Bytes that are kept, such as 20GiB.")] = None,
    reuse: Annotated[bool | None, typer.Option(help="Use again what its stages gave for the same content.")] = None,
) -> None:
    """Give a tenant limits of its own, in place of those it had. What is not named is as the settings say."""
    from callsheet.actors.tenants.limits import OwnLimits, Tenants, limits_of

    with journal() as client:
        own = OwnLimits(rate, burst, max_active, max_open, max_stored, _bytes(quota), reuse)
        Tenants(client, limits_of(_settings())).set(tenant, own)


@tenants.command("list")
def list_limits() -> None:
    """Show the tenants that have limits of their own."""
    import msgspec

    from callsheet.actors.tenants.limits import Tenants, limits_of

    with journal() as client:
        found = Tenants(client, limits_of(_settings())).own()
    for tenant, own in found.items():
        limits = (f"{name}={value}" for name, value in msgspec.structs.asdict(own).items() if value is not None)
        typer.echo(f"{tenant:<20}  {' '.join(limits)}")


def _settings() -> Settings:
    from callsheet.config.settings import load_settings

    return load_settings()


def _bytes(text: str | None) -> int | None:
    from pydantic import TypeAdapter, ValidationError

    from callsheet.config.kinds import Size

    if text is None:
        return None
    try:
        return int(TypeAdapter(Size).validate_python(text))
    except ValidationError:
        raise ValueError(f"--quota takes a number of bytes, such as 20GiB, not {text[:40]!r}") from None
