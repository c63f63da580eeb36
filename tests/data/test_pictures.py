import io
import struct
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, features

from semiseg_jax.data import picture_bytes, pictures
from semiseg_jax.data.pictures import (
  decode_label,
  decode_picture,
  encode_png,
  read_label,
  read_palette,
  read_picture,
)
from semiseg_jax.errors import DataError

rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
GRAY = RGB[..., :1]
IDS = rng.integers(0, 4, (10, 12), dtype=np.uint8)


def _save(path, pixels, mode=None, **options):
  picture = Image.fromarray(pixels.squeeze())
  (picture.convert(mode) if mode else picture).save(path, **options)
  return path


def _six_band_tiff(path, pixels):
  """Baseline TIFF, samples of a pixel beside each other, written tag by tag."""
  height, width, count = pixels.shape
  extra = 8 + 2 + 12 * 11 + 4
  tags = [
    (256, 3, 1, width),
    (257, 3, 1, height),
    (258, 3, count, extra),
    (259, 3, 1, 1),
    (262, 3, 1, 1),
    (273, 4, 1, extra + 4 * count - 2),
    (277, 3, 1, count),
    (278, 3, 1, height),
    (279, 4, 1, pixels.size),
    (284, 3, 1, 1),
    (338, 3, count - 1, extra + 2 * count),
  ]
  head = b"II*\0" + struct.pack("<IH", 8, len(tags))
  head += b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
  head += struct.pack(f"<{2 * count - 1}H", *[8] * count, *[0] * (count - 1))
  path.write_bytes(head + pixels.tobytes())
  return path


@pytest.mark.parametrize(
  "suffix,pixels,kept",
  [("png", RGB, True), ("png", GRAY, True), ("bmp", RGB, False), ("tif", RGB, False)],
)
def test_lossless_kinds(tmp_path, suffix, pixels, kept):
  path = _save(tmp_path / f"p.{suffix}", pixels)
  picture = read_picture(path)
  np.testing.assert_array_equal(picture.pixels, pixels)
  assert picture.file == (path.read_bytes() if kept else None)


@pytest.mark.parametrize("suffix,mode", [("jpg", None), ("jpg", "L"), ("webp", None)])
def test_lossy_files_are_kept(tmp_path, suffix, mode):
  path = _save(tmp_path / f"p.{suffix}", RGB, mode)
  picture = read_picture(path)
  assert picture.file == path.read_bytes()
  expected = np.asarray(Image.open(path)).reshape(picture.pixels.shape)
  np.testing.assert_array_equal(picture.pixels, expected)


def test_palette_and_print_colors_become_rgb(tmp_path):
  path = _save(tmp_path / "p.png", RGB, "P")
  np.testing.assert_array_equal(read_picture(path).pixels, Image.open(path).convert("RGB"))
  path = _save(tmp_path / "p.jpg", RGB, "CMYK")
  assert read_picture(path).pixels.shape == (10, 12, 3) and read_picture(path).file is None


def test_orientation_tag_is_applied(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned clockwise
  path = _save(tmp_path / "p.png", RGB, exif=exif)
  picture = read_picture(path)
  np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))
  assert picture.file is None


def test_alpha(tmp_path):
  opaque = np.dstack([RGB, np.full((10, 12), 255, np.uint8)])
  path = _save(tmp_path / "p.png", opaque)
  np.testing.assert_array_equal(read_picture(path).pixels, RGB)
  np.testing.assert_array_equal(read_picture(path, channels=4).pixels, opaque)
  opaque[0, 0, 3] = 7
  _save(path, opaque)
  with pytest.raises(DataError, match="p.png: 4 channels instead of 3"):
    read_picture(path, channels=3)


def test_gray_to_three_channels_and_not_back(tmp_path):
  path = _save(tmp_path / "g.png", GRAY)
  picture = read_picture(path, channels=3)
  np.testing.assert_array_equal(picture.pixels, np.dstack([GRAY] * 3))
  assert picture.file is None
  with pytest.raises(DataError, match="3 channels instead of 1"):
    read_picture(_save(tmp_path / "p.png", RGB), channels=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_need_a_range(tmp_path, channels):
  deep = rng.integers(0, 4096, (10, 12, channels)).astype(np.uint16)
  deep[0, 0], deep[0, 1] = 0, 4095
  path = tmp_path / "p.png"
  cv2.imwrite(str(path), deep)
  with pytest.raises(DataError, match="p.png: uint16 values from 0 to 4095; .*--value_range"):
    read_picture(path)
  picture = read_picture(path, value_range=(0, 4095))
  expected = np.floor(deep[..., ::-1] * (255 / 4095) + 0.5)
  np.testing.assert_array_equal(picture.pixels, expected)


def test_npy(tmp_path):
  many = rng.integers(0, 256, (5, 6, 9), dtype=np.uint8)
  np.save(tmp_path / "n.npy", many)
  np.testing.assert_array_equal(read_picture(tmp_path / "n.npy").pixels, many)
  np.save(tmp_path / "f.npy", np.array([[-2.0, 0.0, 1.0, 3.0]]))
  picture = read_picture(tmp_path / "f.npy", value_range=(-1, 1))
  assert picture.pixels.ravel().tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize(
  "array,message",
  [
    (np.array([[np.nan]]), "not finite"),
    (np.zeros((2, 2), bool), "bool"),
    (np.zeros((2, 2, 3, 1), np.uint8), "shape"),
    (np.zeros((0, 2), np.uint8), "shape"),
    (np.array([[None]]), "cannot be read"),
  ],
)
def test_bad_npy(tmp_path, array, message):
  np.save(tmp_path / "n.npy", array)
  with pytest.raises(DataError, match=f"n.npy: .*{message}"):
    read_picture(tmp_path / "n.npy", value_range=(0, 1))


def test_pages_of_a_tiff_are_channels(tmp_path):
  bands = [Image.fromarray(rng.integers(0, 256, (5, 6), dtype=np.uint8)) for _ in range(7)]
  bands[0].save(tmp_path / "b.tif", save_all=True, append_images=bands[1:])
  np.testing.assert_array_equal(read_picture(tmp_path / "b.tif").pixels, np.dstack(bands))


def test_many_samples_a_pixel_without_tifffile(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "tifffile", None)
  pixels = rng.integers(0, 256, (5, 6, 6), dtype=np.uint8)
  with pytest.raises(DataError, match="six.tif: .*pip install tifffile"):
    read_picture(_six_band_tiff(tmp_path / "six.tif", pixels))


@pytest.mark.extras
def test_many_samples_a_pixel_with_tifffile(tmp_path):
  pytest.importorskip("tifffile")
  pixels = rng.integers(0, 256, (5, 6, 6), dtype=np.uint8)
  path = _six_band_tiff(tmp_path / "six.tif", pixels)
  np.testing.assert_array_equal(read_picture(path).pixels, pixels)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "npy"])
@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
def test_broken_files_are_named(tmp_path, suffix, how):
  noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
  path = tmp_path / f"broken.{suffix}"
  if suffix == "npy":
    np.save(path, noise)
  else:
    _save(path, noise)
  data = path.read_bytes()
  path.write_bytes({"truncated": data[: len(data) * 2 // 3], "empty": b"", "text": b"hello"}[how])
  with pytest.raises(DataError, match=f"broken.{suffix}: .*cannot be read.*; replace or remove"):
    read_picture(path)


def test_a_changed_byte_of_a_png_is_found(tmp_path):
  path = _save(tmp_path / "p.png", RGB)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  with pytest.raises(DataError, match="p.png: cannot be read.*damaged"):
    read_picture(path)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_no_changed_byte_of_a_label_changes_it(tmp_path, mode):
  large = np.kron(IDS, np.ones((4, 4), np.uint8))
  data = _save(tmp_path / "l.png", large, mode).read_bytes()
  for at in range(len(data)):
    changed = bytearray(data)
    changed[at] ^= 4
    with pytest.raises(DataError, match="l.png: cannot be read"):
      decode_label(bytes(changed), "l.png")


def test_transparent_color_of_a_png(tmp_path):
  """Pillow and OpenCV differ in the number of channels of such files."""
  path = _save(tmp_path / "p.png", RGB, transparency=(1, 2, 3))
  assert b"tRNS" in path.read_bytes()
  np.testing.assert_array_equal(read_picture(path).pixels, RGB)


def test_orientation_in_a_png_behind_the_pixels(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  data = _save(tmp_path / "p.png", RGB, exif=exif).read_bytes()
  at = data.index(b"eXIf") - 4
  end = at + 12 + int.from_bytes(data[at : at + 4], "big")
  moved = data[:at] + data[end:-12] + data[at:end] + data[-12:]
  (tmp_path / "p.png").write_bytes(moved)
  np.testing.assert_array_equal(read_picture(tmp_path / "p.png").pixels, np.rot90(RGB, -1))


def test_bytes_of_no_file(tmp_path):
  path = _save(tmp_path / "p.png", RGB)
  picture = decode_picture(path.read_bytes(), "archive.zip:a/p.PNG")
  np.testing.assert_array_equal(picture.pixels, RGB)
  lossy = _save(tmp_path / "l.jpg", RGB).read_bytes()
  with pytest.raises(DataError, match="archive.zip:a/l.png: labels must be lossless.* JPEG"):
    decode_label(lossy, "archive.zip:a/l.png")


def test_animation_is_an_error(tmp_path):
  frames = [Image.fromarray(np.full((4, 4, 3), v, np.uint8)) for v in (0, 99)]
  frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
  with pytest.raises(DataError, match="2 pictures in one file"):
    read_picture(tmp_path / "a.webp")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_labels_are_read_as_stored(tmp_path, suffix):
  path = _save(tmp_path / f"l.{suffix}", IDS)
  np.testing.assert_array_equal(read_label(path), IDS)


PALETTE = np.array([[9, 9, 9], [200, 0, 0], [0, 200, 0], [3, 3, 3]], np.uint8)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_labels_are_indices_or_colors(tmp_path, bits):
  ids = IDS % 2 if bits == 1 else IDS
  picture = Image.fromarray(ids)
  picture.putpalette(PALETTE.tobytes())
  picture.save(tmp_path / "l.png", bits=bits)
  assert Image.open(tmp_path / "l.png").mode == "P"
  np.testing.assert_array_equal(read_label(tmp_path / "l.png"), ids)
  np.testing.assert_array_equal(read_label(tmp_path / "l.png", colors=True), PALETTE[ids])
  shown = read_palette(tmp_path / "l.png")
  np.testing.assert_array_equal(shown[: ids.max() + 1], PALETTE[: ids.max() + 1])


def test_only_palettes_of_colors_are_palettes(tmp_path):
  for name, pixels in (("gray", IDS), ("rgb", RGB)):
    assert read_palette(_save(tmp_path / f"{name}.png", pixels)) is None
  picture = Image.fromarray(IDS)
  picture.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
  picture.save(tmp_path / "ramp.png")
  assert read_palette(tmp_path / "ramp.png") is None
  (tmp_path / "broken.png").write_bytes(b"")
  assert read_palette(tmp_path / "broken.png") is None


def _gray_png(ids, depth):
  """A gray PNG of 1, 2, 4 bits a pixel, which Pillow cannot write; width a multiple of 8."""
  import zlib

  bits = ((ids[..., None] >> np.arange(depth - 1, -1, -1)) & 1).reshape(len(ids), -1)
  rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits.astype(np.uint8))

  def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

  header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], depth, 0, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", header)
    + chunk(b"IDAT", zlib.compress(rows))
    + chunk(b"IEND", b"")
  )


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_labels_of_few_bits(tmp_path, depth):
  ids = rng.integers(0, 2**depth, (6, 16), dtype=np.uint8)
  (tmp_path / "l.png").write_bytes(_gray_png(ids, depth))
  np.testing.assert_array_equal(read_label(tmp_path / "l.png"), ids)


def test_labels_of_sixteen_bits_and_npy(tmp_path):
  wide = IDS.astype(np.uint16) * 1000
  path = _save(tmp_path / "l.png", wide)
  np.testing.assert_array_equal(read_label(path), wide)
  np.save(tmp_path / "l.npy", IDS.astype(np.int64) - 1)
  np.testing.assert_array_equal(read_label(tmp_path / "l.npy"), IDS.astype(int) - 1)


def test_color_labels_only_on_request(tmp_path):
  path = _save(tmp_path / "l.png", RGB)
  with pytest.raises(DataError, match="l.png: a color picture.*--label_colors"):
    read_label(path)
  np.testing.assert_array_equal(read_label(path, colors=True), RGB)
  path = _save(tmp_path / "a.png", np.dstack([RGB, np.full((10, 12), 255, np.uint8)]))
  np.testing.assert_array_equal(read_label(path, colors=True), RGB)


OPAQUE = np.full((10, 12), 255, np.uint8)


@pytest.mark.parametrize(
  "pixels,mode,expected",
  [
    (np.dstack([RGB, OPAQUE]), None, RGB),
    (np.dstack([IDS, OPAQUE]), None, np.dstack([IDS] * 3)),
    (IDS, None, np.dstack([IDS] * 3)),
    (IDS % 2 * 255, "1", np.dstack([IDS % 2 * 255] * 3)),
  ],
)
def test_every_picture_has_colors(tmp_path, pixels, mode, expected):
  path = _save(tmp_path / "l.png", pixels, mode)
  np.testing.assert_array_equal(read_label(path, colors=True), expected)
  np.save(tmp_path / "l.npy", pixels)
  if mode is None and pixels.shape[2:] != (2,):
    np.testing.assert_array_equal(read_label(tmp_path / "l.npy", colors=True), expected)


@pytest.mark.parametrize("colors", [False, True])
@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_are_counted(tmp_path, kind, colors):
  alpha = np.where(IDS == 2, 0, 255).astype(np.uint8)
  clear = int((IDS == 2).sum())
  if kind in ("RGBA", "LA"):
    path = _save(tmp_path / "l.png", np.dstack([RGB if kind == "RGBA" else IDS, alpha]))
  elif kind == "RGB":
    path = _save(tmp_path / "l.png", PALETTE[IDS], transparency=(0, 200, 0))
  else:
    path, picture = tmp_path / "l.png", Image.fromarray(IDS)
    picture.putpalette(PALETTE.tobytes())
    picture.save(path, transparency=2)
  if not colors and kind == "P":  # its indices are exact
    np.testing.assert_array_equal(read_label(path), IDS)
    return
  are_colors = kind in ("RGB", "RGBA") and not colors
  message = "a color picture" if are_colors else f"{clear} transparent pixels"
  with pytest.raises(DataError, match=f"l.png: {message}"):
    read_label(path, colors=colors)


def test_colors_of_sixteen_bits_are_not_cut(tmp_path):
  path = tmp_path / "l.png"
  cv2.imwrite(str(path), RGB.astype(np.uint16))
  with pytest.raises(DataError, match="l.png: uint16 values.*8 bits"):
    read_label(path, colors=True)
  with pytest.raises(DataError, match="l.png: uint16 values"):
    read_label(_save(tmp_path / "l.png", IDS.astype(np.uint16)), colors=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
@pytest.mark.parametrize("shape", [(10, 12), (10, 12, 1), (1, 10, 12)])
def test_axes_of_one_are_no_axes(tmp_path, shape, dtype):
  ids = (IDS % 2 if dtype is bool else IDS).astype(dtype)
  np.save(tmp_path / "l.npy", ids.reshape(shape))
  label = read_label(tmp_path / "l.npy")
  assert np.issubdtype(label.dtype, np.integer)
  np.testing.assert_array_equal(label, ids)


def test_three_equal_channels_are_ids_on_request(tmp_path):
  opaque = np.dstack([IDS, IDS, IDS, OPAQUE])
  for pixels in (opaque, opaque[..., :3]):
    path = _save(tmp_path / "l.png", pixels)
    np.testing.assert_array_equal(read_label(path, grays=True), IDS)
    with pytest.raises(DataError, match="a color picture"):
      read_label(path)
  opaque[0, 0, 3] = 7
  with pytest.raises(DataError, match="l.png: 1 transparent pixels"):
    read_label(_save(tmp_path / "l.png", opaque), grays=True)
  pixels[0, 0, 0] ^= 1
  with pytest.raises(DataError, match="a color picture"):
    read_label(_save(tmp_path / "l.png", pixels), grays=True)


@pytest.mark.parametrize(
  "kind,options",
  [
    ("JPEG", {}),
    ("WEBP", {}),
    ("WEBP", {"exif": b"Exif"}),
    ("TIFF", {"compression": "jpeg"}),
    ("JPEG2000", {"irreversible": True}),
    ("JPEG2000", {"quality_layers": [4]}),  # cut off, of the wavelet of integers
    ("AVIF", {}),
  ],
)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_lossy_labels_are_refused_whatever_they_are_called(tmp_path, kind, options, suffix):
  if kind == "AVIF" and not features.check("avif"):
    pytest.skip("this Pillow writes no AVIF")
  path = _save(tmp_path / f"l.{suffix}", np.dstack([IDS] * 3), format=kind, **options)
  for colors in (False, True):
    with pytest.raises(DataError, match=rf"l.{suffix}: labels must be lossless.* {kind}"):
      read_label(path, colors=colors)


@pytest.mark.parametrize(
  "kind,options",
  [
    ("PNG", {}),
    ("BMP", {}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"lossless": True, "exif": b"Exif"}),
    *(("TIFF", {"compression": c}) for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")),
    ("GIF", {}),
    ("JPEG2000", {}),
    ("JPEG2000", {"no_jp2": True, "num_resolutions": 2, "tile_size": (8, 8)}),
  ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_lossless_labels_are_read_whatever_they_are_called(tmp_path, kind, options, suffix):
  pixels = IDS if kind == "GIF" else np.dstack([IDS] * 3)
  path = _save(tmp_path / f"l.{suffix}", pixels, format=kind, **options)
  np.testing.assert_array_equal(read_label(path, grays=True), IDS)


def test_a_label_is_one_picture(tmp_path):
  first, second = Image.fromarray(IDS), Image.fromarray(3 - IDS)
  for kind in ("tif", "png", "gif"):
    first.save(tmp_path / f"l.{kind}", save_all=True, append_images=[second])
    with pytest.raises(DataError, match=f"l.{kind}: 2 pictures in one file"):
      read_label(tmp_path / f"l.{kind}")


def test_smaller_copies_in_a_tiff_are_no_further_pictures(tmp_path):
  small = Image.fromarray(IDS[::2, ::2])
  small.encoderinfo = {"tiffinfo": {254: 1}}
  Image.fromarray(IDS).save(tmp_path / "l.tif", save_all=True, append_images=[small])
  np.testing.assert_array_equal(read_label(tmp_path / "l.tif"), IDS)


def test_signed_bytes_of_a_tiff(tmp_path):
  signed = IDS.astype(np.int8) - 1
  Image.fromarray(signed.view(np.uint8)).save(tmp_path / "l.tif", tiffinfo={339: 2})
  np.testing.assert_array_equal(read_label(tmp_path / "l.tif"), signed)


def test_labels_that_cannot_be_exact(tmp_path):
  np.save(tmp_path / "l.npy", IDS.astype(np.float32))
  with pytest.raises(DataError, match="float32"):
    read_label(tmp_path / "l.npy")
  path = _save(tmp_path / "l.png", rng.integers(0, 256, (64, 64), dtype=np.uint8))
  path.write_bytes(path.read_bytes()[:900])
  with pytest.raises(DataError, match="l.png: cannot be read"):
    read_label(path)


def test_camera_jpeg_with_a_preview(tmp_path):
  first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
  out = io.BytesIO()
  first.save(out, "MPO", save_all=True, append_images=[second])
  (tmp_path / "p.jpg").write_bytes(out.getvalue())
  picture = read_picture(tmp_path / "p.jpg")
  out = io.BytesIO()
  first.save(out, "JPEG")
  assert np.abs(picture.pixels.astype(int) - np.asarray(Image.open(out))).max() == 0


@pytest.mark.parametrize("pixels", [RGB, GRAY, IDS])
def test_a_png_file_of_an_array(pixels):
  shown = np.asarray(Image.open(io.BytesIO(encode_png(pixels))))
  np.testing.assert_array_equal(shown, pixels.squeeze())


def test_png_refuses_what_it_cannot_hold():
  with pytest.raises(ValueError, match="int64"):
    encode_png(np.zeros((3, 3), int))
  with pytest.raises(ValueError, match="2"):
    encode_png(np.zeros((3, 3, 2), np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_what_opencv_does_not_decode_is_read_where_it_is_asked_for(tmp_path, monkeypatch, kind):
  """Its limit is that of many pixels, which a test has not got: it is lowered."""
  path = _save(tmp_path / f"p.{kind.lower()}", np.dstack([IDS * 60] * 3), format=kind)
  expected = read_picture(path).pixels
  monkeypatch.setattr(picture_bytes, "MAX_PIXELS", 100)
  with pytest.raises(DataError, match="12x10 .* give --max_pixels 120 if the memory suffices"):
    read_picture(path, max_pixels=119)
  monkeypatch.setattr(pictures, "decode_image", None)
  picture = read_picture(path, max_pixels=120)
  np.testing.assert_array_equal(picture.pixels, expected)
  assert picture.file is None  # so that tiles are stored, which OpenCV does decode
