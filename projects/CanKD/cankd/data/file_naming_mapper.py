from collections.abc import Callable

from cankd.utils import UserError, where

from .images import check_sums

__all__ = ["FileNamingMapper"]


class FileNamingMapper:
    """A mapper whose failures name the file that they came from."""

    def __init__(self, mapper: Callable[[dict], dict | None]):
        """
        Args:
            mapper: takes a record of Detectron2's format, as :class:`detectron2.data.DatasetMapper` does.
        """
        self.mapper = mapper

    def __call__(self, record: dict) -> dict | None:
        """Maps a record.

        Raises:
            UserError: if the mapper fails in any way.
        """
        try:
            if "file_name" in record:
                check_sums(record["file_name"])
            return self.mapper(record)
        except UserError:
            raise
        except Exception as error:  # the mapper or its data are the user's
            name = record.get("file_name", f"image {record.get('image_id', 'without a name')}")
            raise UserError(f"{name} cannot be used: {type(error).__name__}: {error} ({where(error)})") from error
