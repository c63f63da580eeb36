"""Border rules of windows, the middle of pictures, mirrored ones: against plain numpy loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.data.records import Example
from semiseg_jax.evaluation import placing, run, windows
from semiseg_jax.evaluation.cropped import Cropped

K = 4


def scores_of(images, valid):
  """[B,h,w,K]: depends on pixels, on their place in the window and on what is valid of it."""
  _, h, w, _ = images.shape
  y, x = np.mgrid[:h, :w]
  rows = (y[None] >= valid[:, 0, None, None]) & (y[None] < valid[:, 2, None, None])
  inside = rows & (x[None] >= valid[:, 1, None, None]) & (x[None] < valid[:, 3, None, None])
  value = np.where(inside, images[..., 0].astype(float) / 9, 0.0)
  k = np.arange(1, K + 1)
  place = np.sin(k * (y / h)[..., None] * 7 + k * (x / w)[..., None] * 5)
  return np.sin(k * value[..., None]) + place[None]


class Seen:
  """A forward that keeps the shapes it gets."""

  def __init__(self):
    self.shapes = []

  def __call__(self, images, valid):
    self.shapes.append(images.shape[:3])
    return jnp.asarray(scores_of(images, valid), jnp.float32)


def picture(size, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (*size, 1), np.uint8)


def by_loop(image, side, stride, border):
  """The sums of scores, window after window."""
  height, width = image.shape[:2]
  total = np.zeros((height, width, K))
  reaches = lambda start, length: start == 0 or start - stride + side < length
  goes_on = reaches if border == "padded" else lambda start, length: start < length
  y = 0
  while goes_on(y, height):
    x = 0
    while goes_on(x, width):
      seen = image[y : y + side, x : x + side]
      h, w = seen.shape[:2]
      window = np.full((side, side, 1), 77, np.uint8) if border == "padded" else seen.copy()
      window[:h, :w] = seen
      found = scores_of(window[None], np.array([[0, 0, h, w]]))[0]
      total[y : y + h, x : x + w] += found[:h, :w]
      x += stride
    y += stride
  return total


@pytest.mark.parametrize("border", ["padded", "cut"])
@pytest.mark.parametrize("stride, batch", [(5, 1), (8, 3)])
def test_windows_beyond_the_border_and_those_it_cuts(border, stride, batch):
  pictures = [picture(size, i) for i, size in enumerate([(8, 8), (5, 14), (13, 11)])]
  segment = windows.Segmenter(
    Seen(), window=(8, 8), stride=stride, border=border, batch=batch, num_classes=K
  )
  for image, label in zip(pictures, segment.segment_many(pictures), strict=True):
    total = by_loop(image, 8, stride, border)
    assert label.shape == image.shape[:2]
    chosen = np.take_along_axis(total, label[..., None].astype(int), -1)[..., 0]
    np.testing.assert_allclose(chosen, total.max(-1), atol=1e-5)


def test_windows_of_cityscapes_are_those_of_the_papers():
  image = np.zeros((1024, 2048, 1), np.uint8)
  tiles = placing.shifted(image, (798, 798), (532, 532)).tiles  # UniMatch V2
  assert [t.corner for t in tiles] == [(y, x) for y in (0, 226) for x in (0, 532, 1064, 1250)]
  tiles = placing.cut(image, (801, 801), (534, 534)).tiles  # UniMatch
  assert [t.corner for t in tiles] == [(y, x) for y in (0, 534) for x in (0, 534, 1068, 1602)]
  assert {t.shape for t in tiles} == {(801, 801), (801, 446), (490, 801), (490, 446)}
  (tile,) = placing.padded(np.zeros((375, 500, 1), np.uint8), (505, 505), (337, 337)).tiles
  assert (tile.corner, tile.valid) == ((0, 0), (0, 0, 375, 500))  # AdvSemiSeg
  tiles = placing.padded(np.zeros((12, 8, 1), np.uint8), (8, 8), (5, 5)).tiles
  assert [(t.corner, t.valid) for t in tiles] == [((0, 0), (0, 0, 8, 8)), ((5, 0), (0, 0, 7, 8))]


def test_windows_that_the_border_cuts_fill_batches_with_those_of_other_pictures():
  forward, pictures = Seen(), [picture((13, 13), i) for i in range(8)]
  segment = windows.Segmenter(
    forward, window=(8, 8), stride=8, border="cut", batch=4, num_classes=K
  )
  assert len(list(segment.segment_many(pictures))) == 8
  shapes = [(4, h, w) for h in (5, 8) for w in (5, 8) for _ in range(2)]
  assert sorted(forward.shapes) == shapes


def test_whole_pictures_of_one_size_share_a_batch_across_others():
  forward, sizes = Seen(), [(6, 6), (7, 9)] * 4
  pictures = [picture(size, i) for i, size in enumerate(sizes)]
  segment = windows.Segmenter(forward, window=None, batch=4, num_classes=K)
  found = list(segment.segment_many(pictures))
  assert [label.shape for label in found] == sizes
  assert sorted(forward.shapes) == [(4, 6, 6), (4, 7, 9)]
  for image, label in zip(pictures, found):
    alone = scores_of(image[None], np.array([[0, 0, *image.shape[:2]]]))[0]
    np.testing.assert_array_equal(label, alone.argmax(-1))


def test_a_rare_size_does_not_keep_others_waiting_for_ever():
  read = []

  def pictures():
    for i in range(60):
      read.append(i)
      yield picture((6, 6) if i else (7, 9), i)

  segment = windows.Segmenter(Seen(), window=None, batch=4, num_classes=K)
  next(segment.segment_many(pictures()))
  assert len(read) <= 2 * 4 + 4


def test_mirrored_below_and_to_the_right_up_to_multiples():
  image = picture((6, 9))
  seen = placing.reflected(image, 8)
  assert seen.canvas.shape == (8, 16, 1) and seen.offset == (0, 0)
  np.testing.assert_array_equal(seen.canvas[:6, :9], image)
  np.testing.assert_array_equal(seen.canvas[6:, :9], image[[4, 3]])
  np.testing.assert_array_equal(seen.canvas[:6, 9:], image[:, [7, 6, 5, 4, 3, 2, 1]])
  segment = windows.Segmenter(Seen(), window=None, reflected=8, num_classes=K)
  valid = np.array([[0, 0, 8, 16]])
  expected = scores_of(seen.canvas[None], valid)[0, :6, :9].argmax(-1)
  np.testing.assert_array_equal(segment(image), expected)


class Pictures:
  """Stands for a dataset: pictures whose labels are their own values."""

  def __init__(self, sizes):
    self.root, self.pictures = "here", [picture(size, i) % K for i, size in enumerate(sizes)]
    info = dict(sizes=tuple(sizes), labeled=(True,) * len(sizes), classes=tuple("abcd"))
    fields = dict.fromkeys(("name", "colors", "source_ignore_id", "channels", "ids"))
    fields |= dict.fromkeys(("class_pixels", "lists", "list_pixels", "fingerprint", "codec"))
    self.info = DatasetInfo(**fields, **info)

  def index(self, id_):
    return int(id_)

  def read(self, index):
    image = self.pictures[index]
    return Example(str(index), image, image[..., 0])


def test_only_the_middle_is_scored():
  whole, forward = Pictures([(11, 14), (5, 20), (8, 8)]), Seen()
  cropped = Cropped(whole, (8, 8))
  assert cropped.info.sizes == ((8, 8), (5, 8), (8, 8))
  np.testing.assert_array_equal(cropped.read(0).image, whole.pictures[0][1:9, 3:11])
  np.testing.assert_array_equal(cropped.read(1).label, whole.pictures[1][:, 6:14, 0])
  segment = windows.Segmenter(forward, window=(8, 8), batch=2, num_classes=K)
  found = run.evaluate_ids(segment, cropped, ["0", "1", "2"], pictures=0, title="t")
  assert found.confusion.sum() == 64 + 40 + 64 and set(forward.shapes) == {(2, 8, 8)}
  middle = whole.pictures[0][1:9, 3:11, 0]
  one = run.evaluate_ids(segment, cropped, ["0"], pictures=0, title="t").confusion
  np.testing.assert_array_equal(one.sum(1), np.bincount(middle.ravel(), minlength=K))
