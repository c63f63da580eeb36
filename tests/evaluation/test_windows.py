import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.errors import ConfigError, NonFiniteError
from semiseg_jax.evaluation import bands, long_notes, placing, windows

PALETTE = np.array([(0, 0, 0), (250, 10, 10), (10, 250, 10), (10, 10, 250)], np.uint8)


def color_forward():
  """Scores every pixel by its distance to each palette color; counts its traces."""
  traces = []

  @jax.jit
  def forward(images, valid):
    traces.append(images.shape)
    palette = jnp.asarray(PALETTE, jnp.float32)[None, None, None]
    return -jnp.square(images[..., None, :].astype(jnp.float32) - palette).sum(-1)

  return forward, traces


def position_forward(num_classes):
  """Scores that depend on the place in the window, the pixel and the valid rectangle."""

  @jax.jit
  def forward(images, valid):
    _, h, w, _ = images.shape
    y, x = (axis[None, ..., None] for axis in jnp.mgrid[:h, :w].astype(jnp.float32))
    k = jnp.arange(num_classes, dtype=jnp.float32)[None, None, None]
    place = jnp.sin(0.7 * (k + 1) * y + 1.3 * k * x)
    shade = images.sum(-1, keepdims=True, dtype=jnp.float32) * jnp.cos(k)
    return place + 0.01 * shade + 0.001 * valid.sum(-1)[:, None, None, None] * jnp.sin(3 * k)

  return forward


def numpy_reference(image, window, stride, num_classes):
  """The published protocol in plain numpy, window after window."""
  h, w = window
  H, W, C = image.shape
  fits = H <= h and W <= w
  top, left = max(h - H, 0) // 2, max(w - W, 0) // 2
  canvas = np.zeros((max(h, H), max(w, W), C), np.float64)
  canvas[top : top + H, left : left + W] = image
  valid = top + left + (top + H) + (left + W) if fits else h + w
  total = np.zeros((*canvas.shape[:2], num_classes))
  k = np.arange(num_classes)
  y, x = np.mgrid[:h, :w]
  place = np.sin(0.7 * (k + 1) * y[..., None] + 1.3 * k * x[..., None])
  rows = -(-(canvas.shape[0] - h) // stride[0]) + 1
  columns = -(-(canvas.shape[1] - w) // stride[1]) + 1
  for i in range(rows):
    for j in range(columns):
      y1 = min(i * stride[0] + h, canvas.shape[0])
      x1 = min(j * stride[1] + w, canvas.shape[1])
      shade = canvas[y1 - h : y1, x1 - w : x1].sum(-1)[..., None] * np.cos(k)
      total[y1 - h : y1, x1 - w : x1] += place + 0.01 * shade + 0.001 * valid * np.sin(3 * k)
  return total[top : top + H, left : left + W]


def palette_picture(height, width, seed=0):
  label = np.random.default_rng(seed).integers(0, len(PALETTE), (height, width))
  return PALETTE[label], label


def test_plan_of_cityscapes():
  corners = placing.plan((1024, 2048), (800, 800), (534, 534))
  assert corners == [(y, x) for y in (0, 224) for x in (0, 534, 1068, 1248)]


def test_plan_one_pixel_larger_adds_one_shifted_window():
  assert placing.plan((8, 9), (8, 8), (6, 6)) == [(0, 0), (0, 1)]
  assert placing.plan((8, 8), (8, 8), (6, 6)) == [(0, 0)]
  assert placing.plan((8, 14), (8, 8), (6, 6)) == [(0, 0), (0, 6)]


def test_default_stride_rounds_two_thirds_up():
  segment = windows.Segmenter(None, window=(800, 512), num_classes=2)
  assert segment.stride == (534, 342)


SIZES = [(5, 7), (16, 24), (12, 40), (16, 25), (17, 24), (40, 11), (33, 61), (1, 1), (64, 64)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("stride", [None, 1 + 5, (16, 24)])
def test_any_plan_gives_the_labels_of_a_pixel_classifier(batch, stride):
  forward, traces = color_forward()
  segment = windows.Segmenter(
    forward, window=(16, 24), stride=stride, batch=batch, num_classes=len(PALETTE)
  )
  pictures, labels = zip(*(palette_picture(*size, seed) for seed, size in enumerate(SIZES)))
  results = list(segment.segment_many(pictures))
  for result, label in zip(results, labels, strict=True):
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, label)
  assert traces == [(batch, 16, 24, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [1, 4])
def test_overlaps_are_sums(size, batch):
  image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
  window, stride, num_classes = (16, 24), (11, 16), 5
  segment = windows.Segmenter(
    position_forward(num_classes),
    window=window,
    stride=stride,
    batch=batch,
    num_classes=num_classes,
  )
  total = numpy_reference(image, window, stride, num_classes)
  label = segment(image)
  best = np.take_along_axis(total, label[..., None].astype(int), -1)[..., 0]
  np.testing.assert_allclose(best, total.max(-1), atol=1e-3)
  assert len(np.unique(label)) > 1 or label.size == 1


def test_small_picture_is_centered_and_its_rectangle_is_told():
  seen = []

  def forward(images, valid):
    seen.append((np.asarray(images), np.asarray(valid)))
    return jnp.zeros((*images.shape[:3], 2))

  segment = windows.Segmenter(forward, window=(8, 8), num_classes=2)
  segment(np.full((5, 6, 1), 9, np.uint8))
  images, valid = seen[0]
  np.testing.assert_array_equal(valid, [[1, 1, 6, 7]])
  expected = np.zeros((8, 8))
  expected[1:6, 1:7] = 9
  np.testing.assert_array_equal(images[0, :, :, 0], expected)


def test_large_picture_is_padded_raw_and_everything_is_valid():
  seen = []

  def forward(images, valid):
    seen.append((np.asarray(images), np.asarray(valid)))
    return jnp.zeros((*images.shape[:3], 2))

  segment = windows.Segmenter(forward, window=(8, 8), stride=8, batch=2, num_classes=2)
  segment(np.full((5, 9, 1), 9, np.uint8))
  images, valid = seen[0]
  np.testing.assert_array_equal(valid, [[0, 0, 8, 8]] * 2)
  assert (images[:, 1:6] == 9).all() and not images[:, :1].any() and not images[:, 6:].any()


@pytest.mark.parametrize("batch", [1, 2])
def test_whole_mode_sees_the_picture_itself_and_compiles_per_size(batch):
  forward, traces = color_forward()
  segment = windows.Segmenter(forward, window=None, batch=batch, num_classes=len(PALETTE))
  pictures, labels = zip(*(palette_picture(*s) for s in [(7, 9), (7, 9), (7, 9), (5, 4), (7, 9)]))
  for result, label in zip(segment.segment_many(pictures), labels, strict=True):
    np.testing.assert_array_equal(result, label)
  assert traces == [(batch, 7, 9, 3), (batch, 5, 4, 3)]


def test_a_new_segmenter_compiles_nothing_anew():
  forward, traces = color_forward()
  image, label = palette_picture(30, 45)
  for _ in range(3):
    segment = windows.Segmenter(forward, window=(16, 16), batch=2, num_classes=len(PALETTE))
    before = bands._add_windows._cache_size()
    np.testing.assert_array_equal(segment(image), label)
  assert len(traces) == 1
  assert bands._add_windows._cache_size() == before


def test_canvas_sizes_are_few_and_little_larger():
  sizes = {bands.bucket(n) for n in range(512, 2049)}
  assert len(sizes) == 17
  assert all(n <= bands.bucket(n) <= n * 9 / 8 for n in range(1, 5000))
  assert bands.bucket(1024) == 1024 and bands.bucket(2048) == 2048


def test_reads_lazily():
  read = []

  def pictures():
    for i in range(50):
      read.append(i)
      yield palette_picture(8, 8)[0]

  forward, _ = color_forward()
  segment = windows.Segmenter(forward, window=(8, 8), batch=4, num_classes=len(PALETTE))
  next(segment.segment_many(pictures()))
  assert len(read) <= 8


def test_scores_that_are_not_finite_stop():
  def forward(images, valid):
    return jnp.full((*images.shape[:3], 2), jnp.nan)

  segment = windows.Segmenter(forward, window=(8, 8), num_classes=2)
  with pytest.raises(NonFiniteError, match="picture number 0"):
    segment(np.zeros((4, 4, 3), np.uint8))


def test_wrong_inputs_are_named():
  forward, _ = color_forward()
  with pytest.raises(ConfigError, match="stride"):
    windows.Segmenter(forward, window=(8, 8), stride=9, num_classes=2)
  with pytest.raises(ValueError, match="stride needs a window"):
    windows.Segmenter(forward, window=None, stride=9, num_classes=2)
  with pytest.raises(ValueError, match="num_classes"):
    windows.Segmenter(forward, window=(8, 8), num_classes=256)
  segment = windows.Segmenter(forward, window=(8, 8), num_classes=7)
  with pytest.raises(ValueError, match="expected"):
    segment(np.zeros((4, 4, 3), np.uint8))
  with pytest.raises(ValueError, match="float32"):
    segment(np.zeros((4, 4, 3), np.float32))


def test_pictures_of_different_channels_never_share_a_batch():
  def forward(images, valid):
    return jax.nn.one_hot(jnp.full(images.shape[:3], images.shape[3]), 5)

  segment = windows.Segmenter(forward, window=(8, 8), batch=2, num_classes=5)
  pictures = [np.zeros((6, 6, channels), np.uint8) for channels in (3, 1, 1, 4)]
  labels = list(segment.segment_many(pictures))
  assert [np.unique(label).tolist() for label in labels] == [[3], [1], [1], [4]]


def test_many_sizes_of_whole_pictures_are_told_once_whatever_segments_them(capsys):
  long_notes.of_sizes.cache_clear()
  images = [np.zeros((4, side, 3), np.uint8) for side in range(1, 8)]

  def said(window, count):
    segment = windows.Segmenter(color_forward()[0], window=window, num_classes=len(PALETTE))
    assert len(list(segment.segment_many(images[:count]))) == count
    return capsys.readouterr().err.count("many sizes")

  assert said((4, 4), 7) == 0 and said(None, 4) == 0
  assert said(None, 7) == 1
  assert said(None, 7) == 0


def test_shapes_of_cut_windows_are_counted_before_they_come(capsys):
  long_notes.of_cut_windows.cache_clear()
  forward = color_forward()[0]
  cut = lambda window: windows.Segmenter(
    forward, window=window, border="cut", num_classes=len(PALETTE)
  )
  next(cut((4, 4)).segment_many(iter([np.zeros((6, 3, 3), np.uint8)]), [(6, 3)]))
  assert "NOTE" not in capsys.readouterr().err
  next(cut((4, 4)).segment_many(iter([np.zeros((8, 9, 3), np.uint8)]), [(8, 9), (7, 7)]))
  heights = {4, 2, 1}  # of 8 rows from 0, 3, 6; of 7 from 0, 3, 6
  assert f"{len(heights) * 2 + 1} shapes" in capsys.readouterr().err


def test_very_many_windows_are_told_with_their_time(capsys, monkeypatch):
  long_notes.of_windows.cache_clear()
  monkeypatch.setattr(long_notes, "MANY", 20)
  forward = color_forward()[0]
  segment = lambda stride: windows.Segmenter(
    forward, window=(4, 4), stride=stride, num_classes=len(PALETTE)
  )(np.zeros((8, 9, 3), np.uint8))
  segment(2)
  assert "NOTE" not in capsys.readouterr().err
  segment(1)
  said = capsys.readouterr().err
  assert "8x9 has 30 windows of 4x4" in said and "seconds; --stride=3x3" in said
