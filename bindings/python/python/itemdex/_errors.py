from __future__ import annotations


class Error(Exception):
    """What itemdex raises, beside ``OSError`` where the system refused something.

    ``kind`` is the name of the error in the Rust library, such as ``"Damaged"`` or ``"CatalogBusy"``. The
    message says what was wrong, where, and what to do.
    """

    kind: str

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class InputError(Error, ValueError):
    """An embedding, an id, a dump or an option that cannot work. Also a ``ValueError``."""


class FileError(Error):
    """A file that is no index, is damaged, or is of a later version of the format."""


class LiveError(Error):
    """What a catalog, or an index that follows one, cannot do now."""
