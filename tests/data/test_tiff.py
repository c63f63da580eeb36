"""TIFF in its corners: depths, bands, pages that are none, values without data, orientation."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from semiseg_jax.data import orientation
from semiseg_jax.data.picture_sizes import size_of
from semiseg_jax.data.pictures import read_label, read_picture
from semiseg_jax.errors import DataError
from tests.made_tiff import ASCII, SHORT, nodata, write

rng = np.random.default_rng(0)
KIND = 254


@pytest.fixture(autouse=True)
def without_tifffile(monkeypatch):
  """What these tests read, nobody has to install a package for."""
  monkeypatch.setitem(sys.modules, "tifffile", None)


def _values(dtype, channels):
  return rng.integers(0, 100, (6, 9, channels)).astype(dtype)


@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_depths_that_opencv_reads(tmp_path, dtype, channels):
  values = _values(dtype, channels)
  path = write(tmp_path / "p.tif", (values, {}))
  np.testing.assert_array_equal(read_picture(path, value_range=(0, 255)).pixels, values)


def test_each_band_has_its_range(tmp_path):
  values = np.array([[[0, 100, -5], [50, 300, 0], [100, 500, 20]]], np.int16)
  path = write(tmp_path / "p.tif", (values, {}))
  picture = read_picture(path, value_range=(0, 100, 100, 500, -10, 10))
  assert picture.pixels[0].tolist() == [[0, 0, 64], [128, 128, 128], [255, 255, 255]]
  with pytest.raises(DataError, match="p.tif: 3 bands, and the value range has 2 pairs"):
    read_picture(path, value_range=(0, 1, 0, 1))
  with pytest.raises(DataError, match=r"-5 to 500; .*--value_range|by band 0, 100, -5"):
    read_picture(path)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_planes_are_never_cut_to_one(tmp_path, dtype):
  values = _values("u1", 3)
  path = write(tmp_path / "p.tif", (values, {}), planar=True)
  np.testing.assert_array_equal(read_picture(path).pixels, values)
  write(path, (values.astype(dtype), {}), planar=True)
  with pytest.raises(DataError, match="p.tif: .*pip install tifffile"):
    read_picture(path, value_range=(0, 100))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("channels", [2, 5])
def test_channels_that_nothing_here_reads_are_never_left_out(tmp_path, dtype, channels):
  path = write(tmp_path / "p.tif", (_values(dtype, channels), {}))
  for read in (read_picture, read_label):
    with pytest.raises(DataError, match="p.tif: .*pip install tifffile"):
      read(path)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_copies_and_masks_of_a_cog_are_no_pages(tmp_path, dtype):
  values = _values(dtype, 3)
  mask = np.full((6, 9), 255, np.uint8)
  mask[:, 7:] = 0
  small = values[::2, ::2]
  pages = [
    (values, {}),
    (mask, {KIND: (4,)}),
    (small, {KIND: (1,)}),
    (mask[::2, ::2], {KIND: (5,)}),
  ]
  picture = read_picture(write(tmp_path / "p.tif", *pages), value_range=(0, 255))
  np.testing.assert_array_equal(picture.valid, mask > 0)
  np.testing.assert_array_equal(picture.pixels[:, :7], values[:, :7].astype(np.uint8))
  bands = [(values[..., k], {}) for k in range(3)]
  with_mask = read_picture(write(tmp_path / "b.tif", *bands, pages[1]), value_range=(0, 255))
  assert with_mask.pixels.shape == (6, 9, 3)


@pytest.mark.parametrize(
  "dtype,text,value", [("f4", "-3.4e+38", -3.4e38), ("f4", "nan", np.nan), ("i2", "-9999", -9999)]
)
def test_values_without_data(tmp_path, dtype, text, value):
  values = _values(dtype, 3)
  values[0], values[1, :, 0] = value, 0 if np.isnan(value) else value
  path = write(tmp_path / "p.tif", (values, nodata(text)))
  picture = read_picture(path, value_range=(0, 100))
  expected = np.ones((6, 9), bool)
  expected[0] = False  # row 1 has data in two of three bands
  np.testing.assert_array_equal(picture.valid, expected)
  assert picture.pixels.max() <= 253 and not picture.pixels[0].any()
  if value == -9999:
    assert read_picture(path, value_range=(0, 100), nodata="keep").valid is None


def test_no_value_without_data(tmp_path):
  values = _values("u1", 3)
  for text in ("-9999", "300", "none", ""):
    path = write(tmp_path / "p.tif", (values, nodata(text)))
    assert read_picture(path).valid is None
  np.testing.assert_array_equal(read_picture(path).pixels, values)


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_orientation_is_that_of_viewers_or_none(tmp_path, tag, dtype):
  values = _values(dtype, 3)
  exif = Image.Exif()
  exif[orientation.TAG] = tag
  Image.fromarray(values.astype(np.uint8)).save(tmp_path / "p.png", exif=exif)
  seen = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "p.png")))
  write(tmp_path / "p.tif", (values, {orientation.TAG: (SHORT, (tag,))}))
  for name in ("p.png", "p.tif"):
    of = {"value_range": (0, 255)}
    turned = read_picture(tmp_path / name, **of)
    assert turned.orientation == tag
    np.testing.assert_array_equal(turned.pixels, seen)
    assert size_of(tmp_path / name) == seen.shape[:2]
    assert size_of(tmp_path / name, "ignore") == values.shape[:2]
    stored = read_picture(tmp_path / name, exif="ignore", **of)
    np.testing.assert_array_equal(stored.pixels, values)
  write(tmp_path / "l.tif", (values[..., 0], {orientation.TAG: (SHORT, (tag,))}))
  Image.fromarray(values[..., 0].astype(np.uint8)).save(tmp_path / "l.png", exif=exif)
  for name in ("l.tif", "l.png"):
    np.testing.assert_array_equal(read_label(tmp_path / name), seen[..., 0])
    np.testing.assert_array_equal(read_label(tmp_path / name, exif="ignore"), values[..., 0])


@pytest.mark.parametrize("dtype", ["u4", "i8", "u8"])
def test_labels_of_many_bits(tmp_path, dtype):
  ids = rng.integers(0, 4, (6, 9)).astype(dtype)
  ids[0, 0] = 4_000_000_000 if dtype != "i8" else -1
  path = write(tmp_path / "l.tif", (ids, {}))
  try:
    np.testing.assert_array_equal(read_label(path), ids)
  except DataError as error:  # OpenCV before 5 reads no integers of 64 bits
    assert dtype != "u4" and "pip install tifffile" in str(error)


def test_kinds_are_known_by_content(tmp_path):
  values = _values("u2", 3)
  write(tmp_path / "p.jpg", (values, {}))
  pixels = read_picture(tmp_path / "p.jpg", value_range=(0, 255)).pixels
  np.testing.assert_array_equal(pixels, values)
  Image.fromarray(values.astype(np.uint8)).save(tmp_path / "p.tif", format="PNG")
  np.testing.assert_array_equal(read_picture(tmp_path / "p.tif").pixels, values)


@pytest.mark.parametrize("cut", [9, 40, 200])
def test_broken_files_are_named(tmp_path, cut):
  path = write(tmp_path / "p.tif", (_values("u2", 3), {33550: (ASCII, "x" * 40)}))
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(DataError, match="p.tif: "):
    read_picture(path, value_range=(0, 1))


def test_one_limit_of_size_for_all_readers(tmp_path):
  values = _values("u1", 3)
  write(tmp_path / "p.tif", (values, {}))
  for name in ("p.png", "p.jpg", "p.bmp"):
    Image.fromarray(values).save(tmp_path / name)
  for name in ("p.tif", "p.png", "p.jpg", "p.bmp"):
    assert read_picture(tmp_path / name, max_pixels=54).pixels.shape == values.shape
    with pytest.raises(DataError, match=f"{name}: 9x6 = .*above the limit.*--max_pixels 54"):
      read_picture(tmp_path / name, max_pixels=53)


def test_above_the_limit_of_pillow(tmp_path):
  """Of 179 million pixels, from where on Pillow takes a file for an attack."""
  Image.new("1", (16384, 10944)).save(tmp_path / "l.tif", compression="group4")
  assert read_label(tmp_path / "l.tif").shape == (10944, 16384)


@pytest.mark.parametrize("dtype,planar", [("u1", True), ("u2", False), ("u2", True)])
def test_no_band_of_colors_is_taken_for_ids(tmp_path, dtype, planar):
  path = write(tmp_path / "l.tif", (_values(dtype, 3), {}), planar=planar)
  with pytest.raises(DataError, match="l.tif: (a color picture|.*pip install tifffile)"):
    read_label(path)
