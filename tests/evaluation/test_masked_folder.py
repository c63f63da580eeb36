"""Plain folders of pictures and masks, read as a labeled dataset."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.evaluation.masked_folder import MaskedFolder

ABOUT = {
  "name": "own",
  "classes": ["road", "sky", "car"],
  "colors": [[0, 0, 0], [1, 1, 1], [2, 2, 2]],
  "channels": 3,
  "reading": {},
  "source_ids": [],
}
BY_TENS = ABOUT | {"source_ids": [10, 20, 30]}


def save(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(array, np.uint8)).save(path)


def picture(seed=0, size=(2, 3)):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3))


MASK = np.array([[0, 1, 2], [2, 255, 0]])


@pytest.fixture
def folders(tmp_path):
  """Three pictures: one with a mask of its name, one in a sub-folder, one with a word for masks."""
  for i, name in enumerate(("a.png", "deep/b.png", "c.png")):
    save(tmp_path / "images" / name, picture(i))
  for i, name in enumerate(("a.png", "deep/b.png", "c_mask.png")):
    save(tmp_path / "labels" / name, np.roll(MASK, i))
  return str(tmp_path / "images"), str(tmp_path / "labels")


def test_pictures_have_the_masks_of_their_names(folders):
  found = MaskedFolder(*folders, ABOUT)
  assert found.info.ids == found.ids.ids == ("a", "c", "deep/b")
  assert found.info.sizes == ((2, 3),) * 3 and found.info.labeled == (True,) * 3
  for id_, seed in (("a", 0), ("deep/b", 1), ("c", 2)):
    example = found.read(found.index(id_))
    np.testing.assert_array_equal(example.image, picture(seed))
    np.testing.assert_array_equal(example.label, np.roll(MASK, seed))


def test_a_picture_without_a_mask_and_a_mask_without_a_picture_are_named(folders, tmp_path, capsys):
  save(tmp_path / "images" / "bare.png", picture())
  save(tmp_path / "labels" / "lone.png", MASK)
  found = MaskedFolder(*folders, ABOUT)
  assert found.info.ids == ("a", "c", "deep/b")
  said = capsys.readouterr().out.splitlines()
  assert said[0].startswith("NOTE 1 picture has no mask") and "bare.png" in said[0]
  assert said[1].startswith("NOTE 1 mask belongs to no picture") and "lone.png" in said[1]


def test_masks_with_the_ids_of_the_source(folders, tmp_path):
  for name in ("a.png", "deep/b.png", "c_mask.png"):
    save(tmp_path / "labels" / name, np.where(MASK == 255, 7, 10 * MASK + 10))
  with pytest.raises(ConfigError, match="0 to 2 .*10, 20, 30.*: say --ids=train or --ids=source"):
    MaskedFolder(*folders, BY_TENS)
  with pytest.raises(DataError) as error:
    MaskedFolder(*folders, BY_TENS, ids="source")
  head, *lines = str(error.value).splitlines()
  assert "3 pictures or masks" in head and "have 10, 20, 30; --ignore 7 leaves" in head
  assert len(lines) == 3 and lines[0].endswith("a.png: 7 is no class and not ignored")
  for ignore in (["7"], ["others"]):
    found = MaskedFolder(*folders, BY_TENS, ids="source", ignore=ignore)
    np.testing.assert_array_equal(found.read(0).label, MASK)
  with pytest.raises(ConfigError, match="--ignore 20: ids of masks that are no class"):
    MaskedFolder(*folders, BY_TENS, ids="source", ignore=["20", "255"])


def test_what_cannot_be_paired_or_read_is_said(folders, tmp_path):
  images, labels = folders
  with pytest.raises(DataError, match="--labels=.*nowhere is not a folder"):
    MaskedFolder(images, str(tmp_path / "nowhere"), ABOUT)
  save(tmp_path / "other" / "z.png", MASK)
  with pytest.raises(DataError, match="none of 3 pictures .* has a mask among 1 file in"):
    MaskedFolder(images, str(tmp_path / "other"), ABOUT)
  save(tmp_path / "labels" / "a.png", MASK[:1])
  with pytest.raises(DataError, match="a.png is 3x1 and its picture .*a.png 3x2"):
    MaskedFolder(images, labels, ABOUT).read(0)
  save(tmp_path / "labels" / "c_label.png", MASK)
  with pytest.raises(DataError, match="c_label.png and .*c_mask.png are both masks of .*c.png"):
    MaskedFolder(images, labels, ABOUT)


def test_all_that_is_wrong_is_said_at_once(folders, tmp_path, capsys):
  images, labels = map(pathlib.Path, folders)
  save(images / "d.jpg", picture(size=(40, 40)))
  (images / "d.jpg").write_bytes((images / "d.jpg").read_bytes()[:-300])  # its head is whole
  save(labels / "d.png", np.zeros((40, 40)))
  (images / "a.png").write_bytes((images / "a.png").read_bytes()[:40])
  (labels / "c_mask.png").write_bytes(b"no picture")
  save(labels / "deep" / "b.png", 9 + 0 * MASK)
  (images / "bare.png").write_bytes(b"no picture")
  with pytest.raises(DataError) as error:
    MaskedFolder(*folders, ABOUT)
  head, *lines = str(error.value).splitlines()
  assert head.startswith("4 pictures or masks are not fit to be evaluated (of 4 pairs)")
  assert "--ignore 9" in head
  starts = (images / "a.png", labels / "c_mask.png", images / "d.jpg", labels / "deep/b.png")
  starts = (*starts, images / "bare.png")
  assert len(lines) == 5
  assert all(line.startswith(f"{file}: ") for line, file in zip(lines, starts, strict=True))


def test_a_broken_picture_without_a_mask_is_said_and_the_others_are_evaluated(folders, capsys):
  (pathlib.Path(folders[0]) / "bare.png").write_bytes(b"no picture")
  assert len(MaskedFolder(*folders, ABOUT).ids.ids) == 3
  assert "bare.png: cannot be read" in capsys.readouterr().out


def test_the_fingerprint_follows_the_contents(folders, tmp_path):
  before = MaskedFolder(*folders, ABOUT).info.fingerprint
  assert MaskedFolder(*folders, ABOUT).info.fingerprint == before
  save(tmp_path / "labels" / "a.png", 1 + 0 * MASK)
  assert MaskedFolder(*folders, ABOUT).info.fingerprint != before
