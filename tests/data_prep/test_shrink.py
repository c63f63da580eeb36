"""Pictures and masks at a part of their size."""

import numpy as np
import pytest
from PIL import Image

from data_prep import shrink
from semiseg_jax.errors import DataError


@pytest.fixture
def folders(tmp_path):
  values = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
  mask = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
  mask.putpalette(list(range(256)) * 3)
  for name, image in {"images/a/x.bmp": Image.fromarray(values), "labels/x.png": mask}.items():
    (tmp_path / name).parent.mkdir(parents=True)
    image.save(tmp_path / name)
  return tmp_path


def _run(folder, times="2"):
  images, labels, out = (f"--{k}={folder / k}" for k in ("images", "labels", "out"))
  shrink.main([images, labels, out, "--times", times])


def test_means_of_pictures_and_middles_of_masks(folders):
  _run(folders)
  with Image.open(folders / "out/images/a/x.png") as small:
    # Blocks 0, 3, 24, 27 (+ 0, 1, 2): their mean is 13.5.
    assert small.size == (4, 3) and abs(np.asarray(small)[0, 0] - (13.5, 14.5, 15.5)).max() <= 0.5
  with Image.open(folders / "out/labels/x.png") as small:
    expected = [[9, 11, 13, 15], [25, 27, 29, 31], [41, 43, 45, 47]]
    assert small.mode == "P" and np.asarray(small).tolist() == expected


def test_sides_that_are_no_multiples(folders):
  _run(folders, "4")
  sizes = [Image.open(file).size for file in sorted((folders / "out").rglob("*.png"))]
  assert sizes == [(2, 2), (2, 2)]


def test_what_cannot_be_read_is_named_and_nothing_is_left(folders, capsys):
  (folders / "images/broken.png").write_bytes(b"no picture")
  Image.new("RGBA", (4, 4)).save(folders / "images/clear.png")
  before = sorted(folders.iterdir())
  with pytest.raises(SystemExit, match=r"error: 2 files cannot be shrunk:(.|\n)*broken(.|\n)*RGBA"):
    _run(folders)
  assert sorted(folders.iterdir()) == before


def test_names_that_would_meet_and_folders_that_are_there(folders):
  with pytest.raises(DataError, match="exists"):
    shrink.shrink(folders / "images", None, 2, folders / "labels")
  Image.new("RGB", (4, 4)).save(folders / "images/a/x.png")
  with pytest.raises(DataError, match="suffix alone"):
    shrink.shrink(folders / "images", None, 2, folders / "out")
