import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from semiseg_jax.data import picture_sizes
from semiseg_jax.evaluation import long_notes, windows
from semiseg_jax.evaluation.canvases import AT_MOST, Canvases, Grid, surround

EVEN, ODD = Grid((320, 512), 8), Grid((321, 321), 16)


def some_sizes(count=20, seed=0):
  return [tuple(size) for size in np.random.default_rng(seed).integers(150, 600, (count, 2))]


@pytest.mark.parametrize(
  "grid, size, canvas",
  [
    (EVEN, (240, 273), (240, 280)),
    (EVEN, (1, 8), (8, 8)),
    (ODD, (240, 273), (241, 273)),
    (ODD, (322, 274), (337, 289)),
    (Grid((518, 518), 14), (480, 640), (490, 644)),
  ],
)
def test_a_canvas_is_the_smallest_of_the_class_of_the_crop(grid, size, canvas):
  assert grid.up(size) == canvas
  assert Canvases(grid, [size]).fit(size) == Canvases(grid).fit(size) == canvas


def test_up_to_three_sizes_get_canvases_of_their_own():
  sizes = [(360, 480), (480, 360), (500, 500), (359, 477)]
  canvases = Canvases(EVEN, sizes)
  assert [canvases.fit(size) for size in sizes] == [(360, 480), (480, 360), (504, 504), (360, 480)]


@pytest.mark.parametrize("grid", [EVEN, ODD])
@pytest.mark.parametrize("count", [20, 700])
def test_many_sizes_share_three_canvases_that_hold_them(grid, count):
  sizes = some_sizes(count)
  canvases = Canvases(grid, sizes)
  found = [canvases.fit(size) for size in sizes]
  assert len(set(found)) == AT_MOST == 3
  for canvas, size in zip(found, sizes):
    assert canvas[0] >= size[0] and canvas[1] >= size[1] and grid.up(canvas) == canvas


def test_canvases_follow_from_the_sizes_whatever_their_order():
  sizes = some_sizes()
  one, other = Canvases(EVEN, sizes), Canvases(EVEN, sizes[::-1])
  assert [one.fit(s) for s in sizes] == [other.fit(s) for s in sizes]


def test_sizes_are_merged_where_it_costs_the_fewest_pixels():
  many, few = [(200, 200)] * 100 + [(300, 300)] * 100, [(240, 240), (256, 256)]
  assert Canvases(Grid((320, 320), 8), many + few).sizes == [(200, 200), (256, 256), (304, 304)]


@pytest.mark.parametrize("seed", range(5))
def test_sizes_that_nobody_announced_make_do_with_three(seed):
  canvases, sizes = Canvases(EVEN), some_sizes(seed=seed)
  found = [canvases.fit(size) for size in sizes]
  assert len(set(found)) <= 3
  assert all(c[0] >= s[0] and c[1] >= s[1] for c, s in zip(found, sizes))


def test_the_border_is_repeated_around_the_picture():
  canvas, corner = surround(np.array([[[1], [2]], [[3], [4]]], np.uint8), (4, 5))
  assert corner == (1, 1)
  np.testing.assert_array_equal(
    canvas[..., 0], np.array([[1, 1, 2, 2, 2]] * 2 + [[3, 3, 4, 4, 4]] * 2)
  )


CROP, STRIDE, CLASSES = 32, 8, 3


def of_even_crops():
  """A network that is right where training had features: pixels beyond the last one are class 2.

  A feature stands for the STRIDE pixels from its own on.  One whose pixels a border cuts off was
  never trained.
  """
  sizes = []

  @jax.jit
  def forward(images, valid):
    sizes.append(images.shape[1:3])
    x = images[..., 0]
    trained = [np.arange(n) < n // STRIDE * STRIDE for n in x.shape[1:]]
    known = jnp.asarray(trained[0][:, None] & trained[1][None])[None]
    return jax.nn.one_hot(jnp.where(known, x, 2), CLASSES)

  return forward, sizes


def pictures(sizes):
  rng = np.random.default_rng(1)
  return [rng.integers(0, 2, (*size, 1), np.uint8) for size in sizes]


ODD_SIZES = [(39, 41), (40, 40), (33, 57), (41, 33)]


def test_whole_pictures_of_odd_sizes_are_labeled_like_those_of_windows():
  images, (forward, _) = pictures(ODD_SIZES), of_even_crops()
  segment = lambda **how: list(
    windows.Segmenter(forward, num_classes=CLASSES, **how).segment_many(images)
  )
  whole = segment(window=None, grid=Grid((CROP, CROP), STRIDE), batch=2)
  sliding = segment(window=(CROP, CROP), batch=2)
  as_it_is = segment(window=None)
  for image, a, b, c in zip(images, whole, sliding, as_it_is, strict=True):
    np.testing.assert_array_equal(a, image[..., 0])
    np.testing.assert_array_equal(a, b)
    assert (c == 2).any() == (image.shape[:2] != (40, 40))


@pytest.mark.parametrize("announced", [True, False])
def test_the_network_is_compiled_three_times_for_twenty_sizes(announced, capsys):
  sizes = some_sizes()
  images, (forward, compiled) = pictures([(h // 8, w // 8) for h, w in sizes]), of_even_crops()
  segment = windows.Segmenter(
    forward, window=None, grid=Grid((CROP, CROP), STRIDE), num_classes=CLASSES
  )
  told = [image.shape[:2] for image in images] if announced else ()
  for image, label in zip(images, segment.segment_many(images, told), strict=True):
    np.testing.assert_array_equal(label, image[..., 0])
  assert len(compiled) <= 3 and "many sizes" not in capsys.readouterr().err


@pytest.mark.parametrize("announced", [True, False])
def test_pictures_of_one_size_are_seen_as_they_are_and_of_several_on_few_canvases(
  announced, capsys
):
  long_notes.of_padding.cache_clear()
  forward, compiled = of_even_crops()
  grid = Grid((CROP, CROP), STRIDE)
  segment = windows.Segmenter(forward, window=None, several=grid, num_classes=CLASSES)

  def seen(sizes):
    compiled.clear()
    some = pictures(sizes)
    for image, label in zip(some, segment.segment_many(some, sizes * announced), strict=True):
      assert label.shape == image.shape[:2]
    return {*compiled}

  assert seen([(39, 41)] * 3) == {(39, 41)} and "NOTE" not in capsys.readouterr().err
  more = seen([(39, 41), (40, 40), (33, 57), (41, 33), (50, 20), (57, 33)])
  assert len(more) <= (3 if announced else 2)  # beside that one
  assert capsys.readouterr().err.count("--whole=as_is") == 1


def test_announced_sizes_hide_what_came_before():
  segment = windows.Segmenter(
    of_even_crops()[0], window=None, grid=Grid((CROP, CROP), STRIDE), num_classes=CLASSES
  )
  small, large = pictures([(20, 20), (50, 90)])
  seen = []
  segment._forward = lambda images, valid: (
    seen.append(images.shape[1:3]) or jnp.zeros((*images.shape[:3], CLASSES))
  )
  segment(large)
  list(segment.segment_many([small], [(20, 20)]))
  assert seen == [(56, 96), (24, 24)]


def test_windows_have_no_grid():
  with pytest.raises(ValueError, match="whole pictures"):
    windows.Segmenter(None, window=(8, 8), grid=EVEN, num_classes=2)


def test_sizes_come_from_the_heads_of_files(tmp_path):
  image, lying = Image.new("RGB", (5, 3)), Image.Exif()
  lying[0x0112] = 6
  image.save(tmp_path / "a.png")
  image.save(tmp_path / "turned.jpg", exif=lying)
  np.save(tmp_path / "a.npy", np.zeros((7, 9, 2), np.uint8))
  (tmp_path / "broken.png").write_bytes(b"no picture")
  found = {p.name: picture_sizes.size_of(p) for p in tmp_path.iterdir()}
  assert found == {"a.png": (3, 5), "turned.jpg": (5, 3), "a.npy": (7, 9), "broken.png": None}
