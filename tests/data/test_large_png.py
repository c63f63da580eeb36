import cv2
import numpy as np
import pytest

from semiseg_jax.data import large_png, pictures


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_picture_made_in_parts_is_read_as_it_is(kind, channels, monkeypatch):
  monkeypatch.setattr(large_png, "_PIXELS", 90)
  array = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (31, 17, *channels), kind)
  parts = []
  file = bytes(large_png.encode((31, 17), lambda part: parts.append(part) or array[part]))
  assert len(parts) == 7
  if kind is np.uint8:
    expected = array if channels else array[..., None]
    np.testing.assert_array_equal(pictures.decode_picture(file, "a.png").pixels, expected)
  if not channels:
    np.testing.assert_array_equal(pictures.decode_label(file, "a.png"), array)
  read = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
  np.testing.assert_array_equal(read[..., ::-1] if channels else read, array)


def test_a_palette_has_ids_for_readers_and_colors_for_viewers(monkeypatch):
  monkeypatch.setattr(large_png, "_PIXELS", 90)
  rng = np.random.default_rng(0)
  ids, colors = (rng.integers(0, 256, shape, np.uint8) for shape in ((31, 17), (256, 3)))
  file = bytes(large_png.encode((31, 17), lambda part: ids[part], colors))
  np.testing.assert_array_equal(pictures.decode_label(file, "a.png"), ids)
  np.testing.assert_array_equal(pictures.decode_picture(file, "a.png").pixels, colors[ids])
