import io

import cv2
import msgpack
import numpy as np
import pytest
from PIL import Image

from semiseg_jax.data import records
from semiseg_jax.errors import DataError

rng = np.random.default_rng(0)


def _pixels(height, width, channels):
  return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def _file(pixels, kind, **options):
  out = io.BytesIO()
  Image.fromarray(pixels.squeeze()).save(out, kind, **options)
  return out.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [(13, 17), (1030, 1025)])
def test_round_trip_is_lossless(channels, size):
  image, label = _pixels(*size, channels), rng.integers(0, 20, size, dtype=np.uint8)
  example = records.Record(records.encode_record("a/b", image, label)).example()
  assert example.id == "a/b" and example.size == size
  np.testing.assert_array_equal(example.image, image)
  np.testing.assert_array_equal(example.label, label)


def test_label_may_be_absent():
  data = records.encode_record("x", _pixels(5, 6, 3), None)
  assert records.Record(data).example().label is None
  assert not records.Record(data).labeled


@pytest.mark.parametrize(
  "kind,channels,options",
  [
    ("JPEG", 1, {"quality": 90}),
    ("JPEG", 3, {"quality": 90}),
    ("PNG", 1, {}),
    ("PNG", 3, {}),
    ("PNG", 4, {}),
    ("WEBP", 3, {"quality": 80}),
  ],
)
def test_original_file_is_kept_and_decodes_as_pillow_does(kind, options, channels):
  smooth = cv2.resize(_pixels(8, 8, 4), (60, 40))[..., :channels]
  original = _file(smooth, kind, **options)
  data = records.encode_record("p", original, None)
  assert original in data
  expected = np.asarray(Image.open(io.BytesIO(original))).reshape(40, 60, channels)
  np.testing.assert_array_equal(records.Record(data).example().image, expected)


def test_large_png_becomes_tiles_and_large_jpeg_stays():
  image = _pixels(1100, 1000, 3)
  png, jpeg = _file(image, "PNG"), _file(image, "JPEG")
  tiled = msgpack.unpackb(records.encode_record("p", png, None))["image"]
  assert tiled["codec"] == "png" and len(tiled["parts"]) == 5 * 4
  assert msgpack.unpackb(records.encode_record("p", jpeg, None))["image"]["parts"] == [jpeg]


@pytest.mark.parametrize(
  "box",
  [
    (0, 0, 1, 1),
    (255, 255, 257, 257),
    (300, 500, 700, 1100),
    (1023, 0, 1024, 1200),
    (0, 0, 1024, 1200),
    (512, 256, 768, 512),
  ],
)
def test_window_equals_slice_of_the_whole(box):
  image, label = _pixels(1024, 1200, 3), rng.integers(0, 9, (1024, 1200), dtype=np.uint8)
  data = records.encode_record("p", image, label)
  y0, x0, y1, x1 = box
  for part in (records.Record(data).window(*box), records.Example("p", image, label).window(*box)):
    np.testing.assert_array_equal(part.image, image[y0:y1, x0:x1])
    np.testing.assert_array_equal(part.label, label[y0:y1, x0:x1])


def test_window_decodes_only_touched_tiles():
  fields = msgpack.unpackb(records.encode_record("p", _pixels(1024, 1200, 3), None))
  parts = fields["image"]["parts"]
  fields["image"]["parts"] = [p if i in (6, 7) else b"broken" for i, p in enumerate(parts)]
  data = msgpack.packb(fields)  # 5 tiles a row: 6 and 7 are row 1, columns 1 and 2
  assert records.Record(data).window(256, 256, 512, 768).size == (256, 512)
  with pytest.raises(DataError, match="'?p'?"):
    records.Record(data).window(255, 256, 512, 768)


@pytest.mark.parametrize("box", [(-1, 0, 3, 3), (0, 0, 6, 3), (2, 2, 2, 3), (0, 3, 3, 8)])
def test_window_outside_is_an_error(box):
  data = records.encode_record("p", _pixels(5, 7, 3), None)
  with pytest.raises(ValueError, match="leaves 'p'"):
    records.Record(data).window(*box)


def _smooth(height, width, channels):
  return cv2.resize(_pixels(4, 4, 3), (width, height))[..., :channels]


def _image_of(data):
  return msgpack.unpackb(data)["image"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(40, 60), (1100, 1000)])
def test_jpeg95_is_close_and_small(size, channels):
  image = _smooth(*size, channels)
  label = rng.integers(0, 9, size, dtype=np.uint8)
  data = records.encode_record("p", image, label, "jpeg95")
  stored = _image_of(data)
  large = size[0] > 1000
  assert (stored["codec"], len(stored["parts"])) == ("jpeg", 5 * 4 if large else 1)
  example = records.Record(data).example()
  np.testing.assert_array_equal(example.label, label)
  error = np.abs(example.image.astype(int) - image)
  assert 0 < error.max() and error.mean() < 2
  png = sum(map(len, _image_of(records.encode_record("p", image, None))["parts"]))
  assert not large or sum(map(len, stored["parts"])) < png / 2


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_jpeg95_keeps_other_channels_without_loss(channels):
  image = _pixels(20, 30, channels)
  example = records.Record(records.encode_record("p", image, None, "jpeg95")).example()
  np.testing.assert_array_equal(example.image, image)


@pytest.mark.parametrize(
  "kind,size,codec,stored",
  [
    ("PNG", (40, 60), "keep", "file"),
    ("PNG", (1100, 1000), "keep", "png"),
    ("JPEG", (40, 60), "keep", "file"),
    ("JPEG", (1100, 1000), "keep", "file"),
    ("WEBP", (1100, 1000), "keep", "file"),
    ("PNG", (40, 60), "jpeg95", "jpeg"),
    ("PNG", (1100, 1000), "jpeg95", "jpeg"),
    ("JPEG", (40, 60), "jpeg95", "file"),
    ("WEBP", (40, 60), "jpeg95", "file"),
    ("JPEG", (1100, 1000), "jpeg95", "jpeg"),
    ("PNG", (40, 60), "raw", "raw"),
    ("JPEG", (1100, 1000), "raw", "raw"),
  ],
)
def test_what_becomes_of_files(kind, size, codec, stored):
  data = _file(_smooth(*size, 3), kind)
  image = _image_of(records.encode_record("p", data, None, codec))
  assert image["codec"] == stored and (image["parts"] == [data]) == (stored == "file")


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_raw_is_the_values_themselves(channels):
  image = _pixels(1100, 1000, channels)
  data = records.encode_record("p", image, None, "raw")
  assert _image_of(data)["parts"] == [image.tobytes()]
  box = (300, 200, 901, 803)
  np.testing.assert_array_equal(records.Record(data).window(*box).image, image[300:901, 200:803])


def test_unknown_codec():
  with pytest.raises(ValueError, match="'jpeg90'; choose one of keep, jpeg95, raw"):
    records.encode_record("p", _pixels(3, 3, 3), None, "jpeg90")


@pytest.mark.parametrize("codec", ["keep", "raw"])
def test_values_that_do_not_fit_are_an_error(codec):
  fields = msgpack.unpackb(records.encode_record("p", _pixels(6, 5, 7), None, codec))
  for part in (b"", b"junk", fields["image"]["parts"][0][:-1]):
    fields["image"]["parts"] = [part]
    with pytest.raises(DataError, match="p: does not decode .*prepare the dataset again"):
      records.Record(msgpack.packb(fields)).example()


def test_encoding_is_deterministic():
  image, label = _pixels(1100, 1000, 3), rng.integers(0, 9, (1100, 1000), dtype=np.uint8)
  assert records.encode_record("p", image, label) == records.encode_record("p", image, label)


@pytest.mark.parametrize(
  "image,label,message",
  [
    (np.zeros((4, 4)), None, "float64"),
    (np.zeros((4, 4), np.uint8), None, "H, W, C"),
    (np.zeros((0, 4, 3), np.uint8), None, "H, W, C"),
    (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), "4, 5"),
    (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int64), "int64"),
    (b"nothing", None, "readable"),
  ],
)
def test_bad_input_is_an_error_naming_the_picture(image, label, message):
  with pytest.raises(DataError, match=message) as caught:
    records.encode_record("the_id", image, label)
  assert "the_id" in str(caught.value)


def test_sixteen_bit_file_is_an_error():
  png = cv2.imencode(".png", np.full((3, 3), 40000, np.uint16))[1].tobytes()
  with pytest.raises(DataError, match="uint16"):
    records.encode_record("p", png, None)


@pytest.mark.parametrize("data", [b"", b"junk", msgpack.packb({"v": 2}), msgpack.packb([1])])
def test_foreign_bytes_are_an_error(data):
  with pytest.raises(DataError, match="prepare the dataset again"):
    records.Record(data)
