"""Which store a role works with: the one place that knows all implementations."""

from __future__ import annotations

from callsheet.actors.stores.folder import FolderStore
from callsheet.actors.stores.store import ArtifactStore
from callsheet.config.settings import Settings, SettingsError


def open_store(settings: Settings) -> ArtifactStore:
    """The artifact store of these settings. It connects to nothing yet. Raises SettingsError."""
    root = settings.data / "store"
    if settings.store_url is None:
        return FolderStore(root)
    try:
        from callsheet.actors.stores.s3 import S3Address, S3Store  # noqa: PLC0415  (an extra, and 20 MB)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"CALLSHEET_STORE_URL needs {error.name}, which is not installed: pip install 'callsheet[s3]'"
        ) from None
    address = S3Address(
        settings.store_url,
        endpoint=settings.store_endpoint,
        region=settings.store_region,
        credentials=settings.store_credentials,
        path_style=settings.store_path_style,
    )
    return S3Store(address, root / "incoming")
