import pytest
from cankd.data import FileNamingMapper
from detectron2.data import DatasetMapper


def test_a_failure_names_the_file(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    mapper = FileNamingMapper(DatasetMapper(is_train=True, augmentations=[], image_format="BGR"))
    with pytest.raises(ValueError, match=r"broken.jpg cannot be used: UnidentifiedImageError: .*, line \d+\)"):
        mapper({"file_name": str(path)})


def test_what_is_sound_passes():
    assert FileNamingMapper(dict)({"image_id": 3}) == {"image_id": 3}
