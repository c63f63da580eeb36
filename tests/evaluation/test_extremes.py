import zipfile

import numpy as np
import pytest

from semiseg_jax.evaluation import extremes
from semiseg_jax.evaluation.extremes import Extremes
from semiseg_jax.evaluation.pictures import Shown

COLORS = [(255, 0, 0), (0, 255, 0)]


def shown(name, wrong, size=(10, 10), unlabeled=0):
  """A picture of which `wrong` labeled pixels are wrong, `unlabeled` ones come after them."""
  truth, prediction = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
  prediction.ravel()[:wrong] = 1
  truth.ravel()[wrong : wrong + unlabeled] = 255
  image = np.full((*size, 3), 7, np.uint8)
  return Shown(name, image, truth, prediction)


def taken(*rows, number=2):
  found = Extremes(number, 2)
  for row in rows:
    found.take(row)
  return found


def ids(ranked):
  return [one.row.id for one in ranked]


def test_the_worst_and_best_are_kept_in_order():
  found = taken(*(shown(f"w{k}", k) for k in (30, 5, 80, 0, 60)))
  assert ids(found.worst) == ["w80", "w60"] and ids(found.best) == ["w0", "w5"]
  assert [one.accuracy for one in found.worst] == [0.2, 0.4]


def test_shares_are_of_labeled_pixels_and_pictures_without_any_are_left_out():
  found = taken(shown("half", 10, unlabeled=80), shown("none", 0, unlabeled=100), number=3)
  assert ids(found.worst) == ["half"] and found.worst[0].accuracy == 0.5


def test_of_equal_pictures_the_earlier_ones_are_kept():
  found = taken(*(shown(name, 9) for name in "abc"))
  assert ids(found.worst) == ids(found.best) == ["a", "b"]


def test_none_are_kept_where_none_are_asked_for():
  assert taken(shown("a", 1), number=0).worst == []


def test_large_pictures_are_reduced_and_counted_as_they_are():
  found = taken(shown("large", 1300, size=(1300, 2600)))
  (one,) = found.worst
  assert one.row.image.shape == (200, 400, 3) and one.row.prediction.shape == (200, 400)
  assert one.size == (1300, 2600) and one.accuracy == 1 - 1300 / (1300 * 2600)


def test_a_file_gives_back_what_was_kept(tmp_path):
  path = tmp_path / "x.pictures.zip"
  found = taken(shown("a/<b>", 30), shown("c", 2), shown("d", 50, unlabeled=10))
  extremes.write(path, found, "val_step_5_x.json", ["road", "tree"], COLORS)
  kept = extremes.read(path)
  assert kept.result == "val_step_5_x.json" and kept.classes == ("road", "tree")
  assert kept.colors == ((255, 0, 0), (0, 255, 0))
  assert ids(kept.worst) == ["d", "a/<b>"] and ids(kept.best) == ["c", "a/<b>"]
  for one, same in zip(found.worst, kept.worst, strict=True):
    assert (one.accuracy, one.size) == (same.accuracy, same.size)
    np.testing.assert_array_equal(one.row.truth, same.row.truth)
    np.testing.assert_array_equal(one.row.prediction, same.row.prediction)
    assert np.abs(one.row.image.astype(int) - same.row.image).max() < 12
  first = path.read_bytes()
  extremes.write(path, found, "val_step_5_x.json", ["road", "tree"], COLORS)
  assert path.read_bytes() == first


def test_damaged_files_are_told(tmp_path):
  path = tmp_path / "x.pictures.zip"
  extremes.write(path, taken(shown("a", 1)), "r.json", ["road", "tree"], COLORS)
  whole = path.read_bytes()
  for damaged in (whole[: len(whole) // 2], b"", whole.replace(b'"worst"', b'"wurst"')):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="is damaged"):
      extremes.read(path)


@pytest.mark.parametrize("mark", (b"PK\3\4", b"PK\1\2", b"PK\5\6"))
def test_no_flipped_bit_of_the_heads_of_a_file_is_an_error_of_another_kind(tmp_path, mark):
  path, held = tmp_path / "x.pictures.zip", 0
  extremes.write(path, taken(shown("a", 1)), "r.json", ["road", "tree"], COLORS)
  whole = path.read_bytes()
  for bit in range(8 * whole.index(mark), min(8 * whole.index(mark) + 8 * 46, 8 * len(whole))):
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
      assert ids(extremes.read(path).worst) == ["a"]
    except ValueError as error:
      assert str(error).startswith(f"{path} is damaged (")
      held += 1
  assert held > 40


@pytest.mark.parametrize("method", (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
def test_a_file_that_another_program_packed_is_refused(tmp_path, method):
  path = tmp_path / "x.pictures.zip"
  with zipfile.ZipFile(path, "w", method) as archive:
    archive.writestr("index.json", "{}")
  with pytest.raises(ValueError, match="damaged .'index.json' is packed otherwise"):
    extremes.read(path)


def test_the_next_evaluation_by_one_protocol_has_the_same_file(tmp_path):
  path = lambda name, step: extremes.path_of(tmp_path / name, step).name
  assert path("val_step_5_network_0_whole.json", 5) == "val_network_0_whole.pictures.zip"
  assert path("val_step_10_network_0_whole.json", 10) == "val_network_0_whole.pictures.zip"
  assert path("my_step_5_list_step_6_mean.json", 6) == "my_step_5_list_mean.pictures.zip"
