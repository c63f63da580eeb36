import cv2
import numpy as np
import pytest
from PIL import Image

from semiseg_jax.data.augment.crops import Rules, random_crop, whole_picture
from semiseg_jax.data.augment.families import FAMILIES
from semiseg_jax.data.records import Example, Record, encode_record


class Script:
  """Draws what the test says; `integers` checks the bounds it is asked for."""

  def __init__(self, flip, choice, *draws):
    self.flip, self.draws, self.asked = flip, [(None, choice), *draws], []

  def random(self):
    return self.flip

  def integers(self, low, high=None, endpoint=False):
    bounds, value = self.draws.pop(0)
    assert bounds is None or (low, high if endpoint else high - 1) == bounds
    return value


def _example(height, width, channels=3, labeled=True):
  rng = np.random.default_rng(height * width)
  image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
  label = rng.integers(0, 19, (height, width), dtype=np.uint8) if labeled else None
  return Example("p", image, label)


def _crop(picture, rng, family="cps", **rules):
  return random_crop(picture, rng, rules=Rules(FAMILIES[family], **rules))


def _reference(example, flipped, scale, crop, top, left):
  """Whole picture: flip, resize, cut, pad each side; nothing clever."""
  image, label = example.image, example.label
  if flipped:
    image, label = image[:, ::-1], label[:, ::-1]
  size = (int(image.shape[1] * scale), int(image.shape[0] * scale))
  image = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_LINEAR)
  label = cv2.resize(np.ascontiguousarray(label), size, interpolation=cv2.INTER_NEAREST)
  image = image[top : top + crop[0], left : left + crop[1]]
  label = label[top : top + crop[0], left : left + crop[1]]
  rows, columns = crop[0] - label.shape[0], crop[1] - label.shape[1]
  pads = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
  valid = [pads[0][0], pads[1][0], crop[0] - pads[0][1], crop[1] - pads[1][1]]
  return np.pad(image, (*pads, (0, 0))), np.pad(label, pads, constant_values=255), valid


@pytest.mark.parametrize("scale", (0.5, 0.75, 1.0, 1.5, 1.75, 2.0))
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("size", [(360, 480), (375, 500), (333, 97), (1024, 1200)])
@pytest.mark.parametrize("corner", [0.0, 0.37, 1.0])
def test_equals_resize_then_crop(scale, flipped, size, corner):
  crop, example = (160, 200), _example(*size)
  spans = [max(int(n * scale) - c, 0) for n, c in zip(size, crop)]
  top, left = (int(span * corner) for span in spans)
  draws = [((0, span), value) for span, value in zip(spans, (top, left)) if span]
  script = Script(0.0 if flipped else 0.9, 0, *draws)
  out = _crop(example, script, crop=crop, scales=(scale,), flip=0.5)
  image, label, valid = _reference(example, flipped, scale, crop, top, left)
  np.testing.assert_array_equal(out["label"], label)
  np.testing.assert_array_equal(out["valid"], valid)
  difference = np.abs(out["image"].astype(int) - image)
  # Noise is the worst case: at 1.75 the kernel's weights are rounded differently in a window.
  assert difference.max() <= 1 and (difference > 0).mean() <= (0.02 if scale == 1.75 else 0)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_a_record_in_tiles_gives_what_the_decoded_picture_gives(scale):
  example = _example(1030, 1200)
  record = Record(encode_record("p", example.image, example.label))
  options = {"crop": (200, 300), "scales": (scale,), "flip": 0.5}
  for seed in range(4):
    first = _crop(example, np.random.default_rng(seed), **options)
    second = _crop(record, np.random.default_rng(seed), **options)
    for name in ("image", "label", "valid"):
      np.testing.assert_array_equal(first[name], second[name])


def test_a_crop_decodes_only_what_it_needs():
  class Watched(Example):
    def window(self, y0, x0, y1, x1):
      assert (y1 - y0) * (x1 - x0) < 60 * 60
      return super().window(y0, x0, y1, x1)

  example = _example(1024, 2048)
  _crop(
    Watched("p", example.image, example.label),
    np.random.default_rng(0),
    crop=(100, 100),
    scales=(2.0,),
    flip=0.5,
  )


def test_shapes_types_and_unlabeled():
  for channels in (1, 3, 6):
    out = _crop(
      _example(50, 60, channels, labeled=False),
      np.random.default_rng(1),
      crop=(33, 40),
      scales=(1.25,),
      flip=0.5,
    )
    assert out["image"].shape == (33, 40, channels) and out["image"].dtype == np.uint8
    assert out["label"].shape == (33, 40) and (out["label"] == 255).all()
    assert out["valid"].dtype == np.int32


def test_small_picture_is_centered():
  out = _crop(_example(5, 8), np.random.default_rng(0), crop=(10, 11), scales=(1.0,), flip=0.0)
  assert out["valid"].tolist() == [2, 1, 7, 9]
  np.testing.assert_array_equal(out["image"][2:7, 1:9], _example(5, 8).image)
  assert (out["label"][:2] == 255).all() and (out["image"][:, 9:] == 0).all()


@pytest.mark.parametrize("size", [(30, 50), (7, 90)])
def test_a_whole_picture_is_resized_to_the_crop_and_mirrored_by_chance(size):
  """As torchvision's Resize of both sides; the label by nearest centers."""
  example, crop = _example(*size), (16, 20)
  image = np.asarray(Image.fromarray(example.image).resize(crop[::-1], Image.Resampling.BILINEAR))
  label = np.asarray(Image.fromarray(example.label).resize(crop[::-1], Image.Resampling.NEAREST))
  for drawn, step in ((0.6, 1), (0.4, -1)):
    rules = Rules(FAMILIES["pseudoseg"], crop=crop, scales=(3.0,), flip=0.5)
    out = whole_picture(example, Script(drawn, None), rules=rules)
    np.testing.assert_array_equal(out["image"], image[:, ::step])
    np.testing.assert_array_equal(out["label"], label[:, ::step])
    assert out["valid"].tolist() == [0, 0, *crop]


def test_offsets_cover_both_ends_and_no_more():
  example = _example(6, 20)
  firsts = set()
  rng = np.random.default_rng(0)
  for _ in range(300):
    out = _crop(example, rng, crop=(6, 17), scales=(1.0,), flip=0.0)
    assert out["valid"].tolist() == [0, 0, 6, 17]
    match = [x for x in range(4) if (example.image[:, x : x + 17] == out["image"]).all()]
    firsts.update(match)
  assert firsts == {0, 1, 2, 3}


def test_crop_offset_quirk():
  example = _example(6, 20)
  script = Script(0.9, 0, ((0, 4), 4))
  out = _crop(example, script, crop=(6, 17), scales=(1.0,), flip=0.5, beyond=1)
  assert out["valid"].tolist() == [0, 0, 6, 16]
  np.testing.assert_array_equal(out["image"][:, :16], example.image[:, 4:])
  assert (out["label"][:, 16] == 255).all()


def test_flip_and_scale_frequencies():
  ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))[..., None]
  rng, counts, flips = np.random.default_rng(3), {}, 0
  for _ in range(600):
    out = _crop(Example("p", ramp, None), rng, crop=(200, 200), scales=(0.5, 1.0, 2.0), flip=0.25)
    y0, x0, y1, x1 = out["valid"]
    counts[int(y1 - y0)] = counts.get(int(y1 - y0), 0) + 1
    flips += int(out["image"][100, x0, 0]) > int(out["image"][100, x1 - 1, 0])
  assert set(counts) == {32, 64, 128} and min(counts.values()) > 150
  assert 110 < flips < 190
