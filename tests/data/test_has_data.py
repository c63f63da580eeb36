"""Pixels without data: from the record to the batch, with the picture's crop, scale and flip."""

import dataclasses

import numpy as np
import pytest

from semiseg_jax.data import records
from semiseg_jax.data.augment.crops import Rules, random_crop
from semiseg_jax.data.augment.families import FAMILIES
from semiseg_jax.data.augment.pairs import random_pair
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.pipeline import StreamSpec, make_batches
from semiseg_jax.data.records import HAS_DATA
from semiseg_jax.data.writing.dataset_writer import DatasetWriter

FAMILY = dataclasses.replace(FAMILIES["cps"], size=lambda size, *_: size)
RULES = Rules(FAMILY, (48, 48), (1.0,), 0.5)


def _picture(seed, height=40, width=60):
  return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def _write(root, *, masked, classes=("a", "b")):
  """Two pictures, one of them labeled; of one, `masked`, the pixels without data are black."""
  with DatasetWriter(
    root, name=root.name, classes=classes, colors=[(0, 0, 0)] * len(classes)
  ) as writer:
    for number in range(2):
      pixels, valid = _picture(number + 10 * len(classes)), None
      if masked and number:
        valid = np.random.default_rng(7).random(pixels.shape[:2]) < 0.7
        pixels[~valid] = 0
      label = None if number else np.zeros(pixels.shape[:2], np.uint8)
      writer.add(f"{root.name}{number}", image=pixels, label=label, valid=valid)
  return Dataset.open(root)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
  return _write(tmp_path_factory.mktemp("data") / "masked", masked=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
  return _write(tmp_path_factory.mktemp("data") / "plain", masked=False, classes=("c",))


def _fields(dataset, augment=random_crop, ids=None):
  spec = StreamSpec(
    "s", ids or dataset.info.ids, 8, "s", lambda picture, rng: augment(picture, rng, rules=RULES)
  )
  batches = make_batches(dataset, [spec], seed=1, start_step=0, rows=lambda n: slice(n), workers=0)
  return next(batches)["s"]


def _expected(fields, suffix=""):
  """0 where a pixel is black and not padding."""
  y, x = np.ogrid[:48, :48]
  top, left, bottom, right = fields[f"valid{suffix}"].T[..., None, None]
  inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
  return ~(inside & (fields[f"image{suffix}"] == 0).all(-1))


def test_the_map_lies_on_its_picture(masked):
  fields = _fields(masked)
  np.testing.assert_array_equal(fields[HAS_DATA], _expected(fields))
  of_first = fields["index"] == 0
  assert fields[HAS_DATA][of_first].all() and not fields[HAS_DATA][~of_first].all((1, 2)).any()


def test_both_crops_of_a_pair_have_theirs(masked):
  fields = _fields(masked, random_pair)
  for suffix in ("", "_2"):
    np.testing.assert_array_equal(fields[f"{HAS_DATA}{suffix}"], _expected(fields, suffix))


def test_where_all_pixels_have_data_nothing_is_added(plain):
  assert plain.info.facts == {} and not plain.info.masked
  assert HAS_DATA not in _fields(plain)


def test_joined_datasets_have_it_if_one_has(masked, plain):
  for joined in (JoinedDataset(masked, plain), JoinedDataset(plain, masked)):
    fields = _fields(joined)
    np.testing.assert_array_equal(fields[HAS_DATA], _expected(fields))
    assert not fields[HAS_DATA].all()


def test_a_record_without_the_map_is_what_it_was():
  """Its bytes, too: old datasets have the fingerprint of new ones."""
  pixels = _picture(3)
  valid = np.ones(pixels.shape[:2], bool)
  valid[5:9, 3] = False
  without = records.encode_record("a", pixels, None)
  assert without == records.encode_record("a", pixels, None, valid=None)
  assert HAS_DATA.encode() not in without
  data = records.encode_record("a", pixels, None, valid=valid)
  assert records.Record(data).window(0, 0, 40, 60).maps == {}
  shown = records.Record(data, masked=True).window(4, 2, 12, 6).maps[HAS_DATA]
  np.testing.assert_array_equal(shown.values, valid[4:12, 2:6])
  assert shown.fill == 1
