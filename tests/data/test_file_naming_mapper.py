import numpy as np
import pytest
from cankd.data import FileNamingMapper
from detectron2.data import DatasetMapper
from PIL import Image


def test_a_failure_names_the_file(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    mapper = FileNamingMapper(DatasetMapper(is_train=True, augmentations=[], image_format="BGR"))
    with pytest.raises(ValueError, match=r"broken.jpg cannot be used: UnidentifiedImageError: .*, line \d+\)"):
        mapper({"file_name": str(path)})


def test_what_is_sound_passes():
    assert FileNamingMapper(dict)({"image_id": 3}) == {"image_id": 3}


def test_bytes_of_a_png_that_have_changed_are_found(tmp_path):
    """Detectron2 looks for the orientation first, which decodes the pixels, and takes no notice of the failure."""
    path = tmp_path / "photo.PNG"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path, "PNG")
    mapper = FileNamingMapper(DatasetMapper(is_train=False, augmentations=[], image_format="BGR"))
    assert mapper({"file_name": str(path)})["image"].shape == (3, 64, 64)
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 255
    path.write_bytes(contents)
    with pytest.raises(ValueError, match="photo.PNG cannot be used: SyntaxError: broken PNG file"):
        mapper({"file_name": str(path)})
