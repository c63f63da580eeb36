"""What is wrong with a picture file is one line that names it, whatever was done to it."""

import io
import re
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from semiseg_jax.data import picture_sizes, pictures
from semiseg_jax.errors import DataError
from tests.data import damaged

PHOTO = cv2.resize(damaged.RGB, (96, 64))
LIMIT = 1 << 16


def _jpeg(**options):
  out = io.BytesIO()
  Image.fromarray(PHOTO).save(out, "JPEG", quality=90, **options)
  return out.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
@pytest.mark.parametrize(
  "damage",
  [
    lambda data, half: data[:half],
    lambda data, half: data[:half] + b"\xff\xd9",
    lambda data, half: data[:half] + b"\xff\xd9" + data[half:],
    lambda data, half: data[:half] + data[half + 90 : -2] + data[-2:],
    lambda data, half: data[:-2] + b"more than a few bytes" + data[-2:],
  ],
  ids=["cut", "cut and ended", "ended early", "a piece missing", "too much"],
)
def test_a_jpeg_with_made_up_pixels_is_refused(damage, options, capfd):
  data = _jpeg(**options)
  assert pictures.decode_picture(data, "a.jpg").file == data
  with pytest.raises(DataError, match="^a.jpg: (the JPEG is damaged|cannot be read)"):
    pictures.decode_picture(damage(data, len(data) * 3 // 5), "a.jpg")
  assert not capfd.readouterr().err


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK"])
def test_a_progressive_jpeg_without_its_last_scans_is_refused(kind, turned):
  out, exif = io.BytesIO(), Image.Exif()
  exif[0x0112] = 6 if turned else 1
  picture = Image.fromarray(PHOTO).convert(kind)
  picture.save(out, "JPEG", quality=90, progressive=True, exif=exif)
  data = out.getvalue()
  pictures.decode_picture(data, "a.jpg")
  scans = [at.start() for at in re.finditer(b"\xff\xda", data)]
  assert len(scans) > 5
  for start in scans[1:]:
    table = data.rfind(b"\xff\xc4", 0, start)  # of its codes, in front of it
    for cut in {start, table if table > scans[0] else start}:
      with pytest.raises(DataError, match="^a.jpg: the JPEG is damaged .its last scans"):
        pictures.decode_picture(data[:cut] + b"\xff\xd9", "a.jpg")


def test_a_turned_jpeg_is_looked_at_too_and_padding_is_no_damage():
  exif = Image.Exif()
  exif[0x0112] = 6
  data = _jpeg(exif=exif)
  assert pictures.decode_picture(data, "a.jpg").pixels.shape == (96, 64, 3)
  pictures.decode_picture(data[:-2] + b"12" + data[-2:], "a.jpg")
  with pytest.raises(DataError, match="a.jpg: the JPEG is damaged"):
    pictures.decode_picture(data[: len(data) * 3 // 5] + b"\xff\xd9", "a.jpg")


def _npy(head):
  head = head.encode() + b" " * (117 - len(head)) + b"\n"
  return b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head + bytes(12)


@pytest.mark.parametrize(
  "head",
  [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000, 1000000), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-3, -4), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 5), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3, 4), }",
    "{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 1), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': " + "(" * 60,
    "{'descr': '|u1', 'shape': (3, 4), }",
  ],
)
def test_absurd_heads_of_arrays_are_one_line(head, tmp_path):
  for decode in (pictures.decode_picture, pictures.decode_label):
    with pytest.raises(DataError, match=r"^a.npy: cannot be read \([^\n]*$"):
      decode(_npy(head), "a.npy")
  (tmp_path / "a.npy").write_bytes(_npy(head))
  picture_sizes.size_of(tmp_path / "a.npy")  # says nothing or what stands there


def test_a_tiff_whose_sides_are_words_is_damaged():
  data = bytearray(damaged.files()["lzw.tif"])
  width = data.index(struct.pack("<HH", 256, 4 if b"\0\1\4\0" in data else 3))
  data[width + 2] = 2  # ASCII
  for decode in (pictures.decode_picture, pictures.decode_label):
    with pytest.raises(DataError, match="^a.tif: cannot be read .its head is damaged"):
      decode(bytes(data), "a.tif")


def test_an_archive_of_arrays_is_no_array():
  out = io.BytesIO()
  np.savez(out, damaged.RGB)
  with pytest.raises(DataError, match="^a.npy: cannot be read"):
    pictures.decode_picture(out.getvalue(), "a.npy")


def test_arrays_are_read_as_numpy_reads_them():
  for array in (damaged.RGB, np.asfortranarray(damaged.GRAY), damaged.GRAY.astype(">i4")):
    out = io.BytesIO()
    np.save(out, array)
    label = pictures.decode_label(out.getvalue(), "a.npy", colors=array.ndim == 3)
    np.testing.assert_array_equal(label, array)


@pytest.mark.parametrize("name", sorted(damaged.files()))
def test_one_limit_for_all_readers(name):
  data = damaged.files()[name]
  options = {"value_range": (0, 9999)}
  assert pictures.decode_picture(data, name, max_pixels=24 * 32, **options).pixels.size
  with pytest.raises(DataError, match=rf"^{name}: 32x24 = .*above the limit.*--max_pixels 768"):
    pictures.decode_picture(data, name, max_pixels=24 * 32 - 1, **options)


def test_a_picture_that_would_start_a_program_is_none():
  out = io.BytesIO()
  Image.fromarray(damaged.RGB).save(out, "EPS")
  with pytest.raises(DataError, match="no picture of a known kind"):
    pictures.decode_picture(out.getvalue(), "a.png")


def test_a_pointer_of_git_lfs_is_called_one():
  with pytest.raises(DataError, match="a.jpg: .*a pointer of Git LFS: `git lfs pull`"):
    pictures.decode_picture(b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", sorted(damaged.files()))
def test_no_damage_ends_in_anything_but_one_line(name, capfd):
  rng, refused = np.random.default_rng(13), 0
  for number, data in enumerate(damaged.damages(damaged.files()[name], 40, rng)):
    read = (pictures.decode_picture, pictures.decode_label)[number % 2]
    options = {"value_range": (0, 9999)} if number % 2 == 0 else {}
    try:
      read(data, name, max_pixels=LIMIT, **options)
    except DataError as error:
      refused += 1
      assert re.fullmatch(rf"{name}: [^\n]{{10,400}}", str(error))
  assert refused
