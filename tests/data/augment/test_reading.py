"""A crop read through a window equals the crop of the whole scaled picture, kernel by kernel."""

import cv2
import numpy as np
import pytest
from PIL import Image

from semiseg_jax.data.augment.axes import Axis, draw_axis
from semiseg_jax.data.augment.reading import KERNELS, Region, read_crop, windows
from semiseg_jax.data.records import Example

PIL = {
  "pillow_linear": Image.Resampling.BILINEAR,
  "pillow_cubic": Image.Resampling.BICUBIC,
}
CV = {"opencv_linear": cv2.INTER_LINEAR, "opencv_cubic": cv2.INTER_CUBIC}


def _picture(height, width, channels=3):
  rng = np.random.default_rng(height + width)
  image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
  return Example("p", image, rng.integers(0, 19, (height, width), dtype=np.uint8))


def _whole(image, size, kernel):
  height, width = size
  if kernel in CV:
    resized = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=CV[kernel])
    return resized.reshape(height, width, -1)
  planes = [
    np.asarray(Image.fromarray(p).resize((width, height), PIL[kernel])) for p in _planes(image)
  ]
  return np.stack(planes, -1)


def _nearest(label, size, centers):
  """The whole label by Pillow (centers) or by OpenCV."""
  if centers:
    return np.asarray(Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST))
  return cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)


def _planes(image):
  return [np.ascontiguousarray(image[..., c]) for c in range(image.shape[2])]


def _axes(size, scaled, crop, corner):
  return [
    Axis(n, s, int(max(s - c, 0) * corner), min(c, s), 0) for n, s, c in zip(size, scaled, crop)
  ]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
  "size, scaled",
  [
    ((128, 256), (64, 128)),
    ((128, 256), (190, 380)),
    ((128, 256), (100, 300)),
    ((375, 500), (281, 375)),
    ((375, 500), (610, 813)),
    ((97, 60), (97, 60)),
    ((320, 448), (155, 224)),
  ],
)
@pytest.mark.parametrize("corner", [0.0, 0.41, 1.0])
def test_window_equals_whole(kernel, size, scaled, corner):
  picture, crop = _picture(*size), (64, 80)
  y, x = _axes(size, scaled, crop, corner)
  for centers in (False, True):
    options = {"kernel": kernel, "nearest_centers": centers, "flipped": False}
    found = read_crop(picture, y, x, **options)
    image, label = found.image, found.label
    rows, columns = np.s_[y.start : y.start + y.count], np.s_[x.start : x.start + x.count]
    difference = np.abs(image.astype(int) - _whole(picture.image, scaled, kernel)[rows, columns])
    # Weights are rounded to a few bits, differently in a window; of noise, ties are frequent.
    assert difference.max() <= (1 if kernel == "opencv_linear" else 2)
    assert (difference > 0).mean() < (0.1 if "pillow" in kernel else 0.02)
    np.testing.assert_array_equal(label, _nearest(picture.label, scaled, centers)[rows, columns])


def test_nearest_rules_are_those_of_pillow_and_opencv():
  label = _picture(111, 173).label
  for scaled in ((55, 86), (111, 173), (200, 311), (187, 291), (222, 346), (333, 519), (37, 60)):
    axes = _axes(label.shape, scaled, scaled, 0.0)
    for centers in (True, False):
      found = label[axes[0].nearest(centers=centers)][:, axes[1].nearest(centers=centers)]
      np.testing.assert_array_equal(found, _nearest(label, scaled, centers))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("channels", [1, 4, 6])
def test_any_number_of_channels(kernel, channels):
  picture = _picture(64, 96, channels)
  y, x = _axes((64, 96), (96, 144), (40, 50), 0.5)
  image = read_crop(picture, y, x, kernel=kernel, nearest_centers=False, flipped=False).image
  expected = _whole(picture.image, (96, 144), kernel)[
    y.start : y.start + 40, x.start : x.start + 50
  ]
  assert image.shape == (40, 50, channels)
  assert np.abs(image.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_mirrored_crop_is_that_of_the_mirrored_picture(kernel):
  picture = _picture(64, 128)
  mirrored = Example("m", picture.image[:, ::-1].copy(), picture.label[:, ::-1].copy())
  y, x = _axes((64, 128), (96, 192), (40, 50), 0.3)
  options = {"kernel": kernel, "nearest_centers": False}
  found = read_crop(picture, y, x, flipped=True, **options)
  expected = read_crop(mirrored, y, x, flipped=False, **options)
  np.testing.assert_array_equal(found.image, expected.image)
  np.testing.assert_array_equal(found.label, expected.label)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_options_a_large_picture_reads_a_part(kernel):
  y, x = _axes((1024, 2048), (1536, 3072), (300, 300), 0.5)
  for first, end in windows(y, x, kernel):
    assert 200 <= end - first < 215


def test_a_region_is_read_by_the_coordinates_of_the_whole():
  picture = _picture(50, 60)
  region = Region(picture, (10, 40), (5, 55))
  part = region.window(12, 7, 30, 50)
  np.testing.assert_array_equal(part.image, picture.image[12:30, 7:50])
  np.testing.assert_array_equal(part.label, picture.label[12:30, 7:50])
  assert region.size == (50, 60)


def test_places_of_small_pictures():
  rng = np.random.default_rng(0)
  assert [draw_axis(5, 5, 12, rng, place=p).pad for p in ("center", "end")] == [3, 0]
  pads = [draw_axis(5, 5, 12, rng, place="random").pad for _ in range(800)]
  assert set(pads) == set(range(8)) and abs(np.mean(pads) - 3.5) < 0.35
  assert draw_axis(20, 20, 12, rng, place="random").pad == 0
