"""Which store a role works with: the one place that knows all implementations."""

from __future__ import annotations

from callsheet.actors.folder_store import FolderStore
from callsheet.actors.store import ArtifactStore
from callsheet.config.settings import Settings


def open_store(settings: Settings) -> ArtifactStore:
    """The artifact store of these settings."""
    return FolderStore(settings.data / "store")
