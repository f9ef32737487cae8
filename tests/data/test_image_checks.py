import os

import numpy as np
import pytest
from cankd.data import image_checks
from cankd.data.image_checks import check_images
from PIL import Image, PngImagePlugin


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = []
    for i in range(3):
        path = tmp_path / f"{i}.jpg"
        Image.fromarray(np.random.default_rng(i).integers(256, size=(20, 30, 3), dtype=np.uint8)).save(path)
        found.append({"file_name": str(path), "width": 30, "height": 20})
    return found


def cut_off(path):
    with open(path, "rb") as f:
        contents = f.read()
    with open(path, "wb") as f:
        f.write(contents[:-50])


def make_empty(path):
    open(path, "w").close()


def make_deep(path):
    os.remove(path)
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(path, format="png")


def make_pipe(path):
    os.remove(path)
    os.mkfifo(path)


def make_large(path):
    Image.new("RGB", (40, 20)).save(path)


def make_bomb(path):
    """Gives a BMP of a few bytes a head that promises 10 gigapixels."""
    Image.new("RGB", (1, 1)).save(path, "BMP")
    with open(path, "r+b") as f:
        f.seek(18)
        f.write((100_000).to_bytes(4, "little") * 2)


@pytest.mark.parametrize(
    "change, message",
    [
        (make_bomb, "1.jpg cannot be read as an image; .*decompression bomb"),
        (make_empty, "1.jpg cannot be read as an image"),
        (make_deep, "1.jpg has pixels of mode I"),
        (make_pipe, "1.jpg is no regular file"),
        (make_large, "1.jpg has 40×20 pixels, and its annotation says 30×20"),
        (os.remove, "1.jpg: No such file or directory"),
    ],
)
def test_each_fault_is_named_or_left_out(records, change, message, caplog):
    change(records[1]["file_name"])
    with pytest.raises(ValueError, match=f"mine.json has 1 images that cannot be used, of 3; the first: .*{message}"):
        check_images(records, "mine.json")
    assert check_images(records, "mine.json", skip_broken=True) == [records[0], records[2]]
    assert "mine.json is used without 1 images" in caplog.text


def test_what_is_cut_off_shows_if_all_is_read(records):
    cut_off(records[1]["file_name"])
    assert check_images(records, "mine.json") is records
    with pytest.raises(ValueError, match="1.jpg cannot be read as an image; it may be cut off"):
        check_images(records, "mine.json", whole=True)


def test_a_turned_photograph_has_the_turned_size(records):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 30)).save(records[1]["file_name"], exif=exif)
    assert check_images(records, "mine.json") is records
    Image.new("RGB", (30, 20)).save(records[1]["file_name"], exif=exif)  # Detectron2 turns it, and refuses it
    with pytest.raises(ValueError, match="1.jpg has 20×30 pixels, and its annotation says 30×20"):
        check_images(records, "mine.json")


def test_sizes_may_be_numbers_of_numpy(records):
    records[1].update(width=np.int64(30), height=np.int64(20))
    assert check_images(records, "mine.json") is records


def test_a_text_that_is_too_large_is_named(records, monkeypatch):
    monkeypatch.setattr("PIL.PngImagePlugin.MAX_TEXT_CHUNK", 100)
    comment = PngImagePlugin.PngInfo()
    comment.add_text("comment", "a" * 1000, zip=True)
    records[1]["file_name"] = records[1]["file_name"].replace(".jpg", ".png")
    Image.new("RGB", (30, 20)).save(records[1]["file_name"], pnginfo=comment)
    with pytest.raises(ValueError, match="1.png cannot be read as an image"):
        check_images(records, "mine.json", whole=True)


def test_sound_files_are_read_once_and_changed_ones_again(records, monkeypatch):
    read = []
    describe = image_checks._describe
    monkeypatch.setattr(image_checks, "_describe", lambda *a: read.append(a) or describe(*a))
    for _ in range(2):
        check_images(records, "mine.json")
    assert len(read) == 3
    make_large(records[1]["file_name"])
    with pytest.raises(ValueError, match="40×20"):
        check_images(records, "mine.json")


def test_a_size_that_is_corrected_is_compared_again(records):
    check_images(records, "pets")
    records[1]["width"] = 40
    with pytest.raises(ValueError, match="1.jpg has 30×20 pixels, and its annotation says 40×20"):
        check_images(records, "pets")


def test_images_that_are_all_needed_cannot_be_skipped(records):
    make_empty(records[1]["file_name"])
    with pytest.raises(ValueError, match="it may be cut off .*Mend them$"):
        check_images(records, "mine.json", skip_broken=None)


def test_a_cache_that_cannot_be_written_ends_nothing(records, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert check_images(records, "mine.json") is records
