import numpy as np
import pytest
from PIL import Image

from semiseg_jax.evaluation import pictures

COLORS = [(10, 20, 30), (200, 100, 0)]


def test_colorize():
  label = np.array([[0, 1], [2, 255]], np.uint8)
  expected = [[(10, 20, 30), (200, 100, 0)], [(0, 0, 0), (0, 0, 0)]]
  np.testing.assert_array_equal(pictures.colorize(label, COLORS), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_visible_takes_any_number_of_channels(channels):
  image = np.arange(2 * 3 * channels, dtype=np.uint8).reshape(2, 3, channels)
  expected = image[..., [0, 0, 0]] if channels < 3 else image[..., :3]
  np.testing.assert_array_equal(pictures.visible(image), expected)


def test_overlay_mixes_classes_and_keeps_ignored_pixels():
  image = np.full((1, 3, 3), 100, np.uint8)
  label = np.array([[0, 1, 255]], np.uint8)
  mixed = pictures.overlay(image, label, COLORS, opacity=0.25)
  np.testing.assert_array_equal(mixed[0], [(78, 80, 82), (125, 100, 75), (100, 100, 100)])


@pytest.mark.parametrize("width, shown", [(300, 300), (100, 192), (1024, 512)])
def test_strip_has_its_panels_in_order(width, shown):
  image = np.full((50, width, 3), 77, np.uint8)
  truth, prediction = np.zeros((50, width), np.uint8), np.ones((50, width), np.uint8)
  strip = pictures.strip(image, truth, prediction, COLORS)
  assert strip.shape == (round(50 * shown / width), 3 * shown + 2 * pictures._GAP, 3)
  middle = [strip[5, shown // 2 + i * (shown + pictures._GAP)] for i in range(3)]
  np.testing.assert_array_equal(middle, [(77, 77, 77), COLORS[0], COLORS[1]])


def test_strip_without_truth_has_two_panels():
  image, prediction = np.zeros((50, 200, 1), np.uint8), np.ones((50, 200), np.uint8)
  assert pictures.strip(image, None, prediction, COLORS).shape[1] == 400 + pictures._GAP


def test_sheet_holds_every_strip_and_every_class_color():
  rng = np.random.default_rng(0)
  rows = [
    pictures.Shown("first", np.full((40, 60, 3), 9, np.uint8), None, np.zeros((40, 60), np.uint8)),
    pictures.Shown("a/" * 80, rng.integers(0, 9, (90, 250, 1), np.uint8), *[
      rng.integers(0, 2, (90, 250), np.uint8) for _ in range(2)]),
  ]  # fmt: skip
  colors = [*COLORS, (1, 2, 3)]
  sheet = pictures.sheet(rows, ["road", "sky", "never seen"], colors)
  seen = {tuple(c) for c in sheet.reshape(-1, 3).tolist()}
  assert seen.issuperset(colors)
  strip = pictures.strip(*rows[1][1:], colors)
  top = pictures._LINE + 128 + pictures._GAP + pictures._LINE
  np.testing.assert_array_equal(sheet[top : top + 90, : strip.shape[1]], strip)


def test_sheet_errors():
  row = pictures.Shown("a", np.zeros((4, 4, 3), np.uint8), None, np.zeros((4, 4), np.uint8))
  with pytest.raises(ValueError, match="at least one"):
    pictures.sheet([], ["a"], [(0, 0, 0)])
  with pytest.raises(ValueError, match="1 class names but 2 colors"):
    pictures.sheet([row], ["a"], COLORS)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3)])
def test_png_keeps_every_value(tmp_path, shape):
  array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  pictures.write_png(tmp_path / "new" / "a.png", array)
  assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
  np.testing.assert_array_equal(
    np.asarray(Image.open(tmp_path / "new" / "a.png")).reshape(shape), array
  )
