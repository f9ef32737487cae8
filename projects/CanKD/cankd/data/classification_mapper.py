from detectron2.data import DatasetMapper

from .images import check_image, naming_broken_image

__all__ = ["ClassificationMapper"]


class ClassificationMapper(DatasetMapper):
    """Detectron2's :class:`DatasetMapper` for records with a "label": an image that cannot be used is named.

    Grey, CMYK and palette images become RGB; its arguments are those of :class:`DatasetMapper`.
    """

    def __call__(self, dataset_dict: dict) -> dict:
        """See :class:`DatasetMapper`.

        Raises:
            UserError: if the image cannot be read, or has more than 8 bits a channel.
        """
        path = dataset_dict["file_name"]
        check_image(path, whole=False)
        with naming_broken_image(path):
            return super().__call__(dataset_dict)
