"""The commands `callsheet webhooks …`. They talk to the journal's Redis, not to the API."""

from __future__ import annotations

from typing import Annotated

import typer

from callsheet.journal_cli import journal

webhooks = typer.Typer(help="Webhooks: the secrets that sign them.", no_args_is_help=True)
secret = typer.Typer(help="The secret of a tenant.", no_args_is_help=True)
webhooks.add_typer(secret, name="secret")

Tenant = Annotated[str, typer.Option("--tenant", help="Whose webhooks it signs.")]
DAY = 86_400


@secret.command()
def show(tenant: Tenant = "default") -> None:
    """Print the secret; beside it the one before, while that signs as well. Made when it is first needed."""
    from callsheet.actors.webhooks.signing import of_tenant

    with journal() as client:
        _print(of_tenant(client, _checked(tenant)))


@secret.command()
def rotate(
    tenant: Tenant = "default",
    overlap: Annotated[int, typer.Option(min=0, help="Seconds for which the old one signs as well.")] = DAY,
) -> None:
    """Make a new secret and print it."""
    from callsheet.actors.webhooks.signing import rotate as replace

    with journal() as client:
        _print(replace(client, _checked(tenant), overlap))


def _print(secrets: list[str]) -> None:
    typer.echo(secrets[0])
    for old in secrets[1:]:
        typer.echo(f"{old}  (the one before; it signs as well for now)", err=True)


def _checked(tenant: str) -> str:
    from callsheet.actors.tenants.names import TENANT
    from callsheet.config.settings import SettingsError

    if not TENANT.match(tenant):
        raise SettingsError(f"{tenant!r} is no name of a tenant")
    return tenant
