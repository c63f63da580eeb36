"""Predictions of GeoTIFFs lie where their pictures lie, and files are read as in preparation."""

import types

import numpy as np
import pytest
from PIL import Image

from semiseg_jax import predict
from semiseg_jax.evaluation import geotiff, source_ids
from semiseg_jax.evaluation.maps import Maps
from tests.made_tiff import ASCII, DOUBLE, SHORT, nodata, write

PLACE = {
  33550: (DOUBLE, (0.5, 0.25, 0.0)),
  33922: (DOUBLE, (0.0, 0.0, 0.0, 440720.125, 3751320.5, 0.0)),
  34735: (SHORT, (1, 1, 0, 1, 1024, 0, 1, 1)),
  34736: (DOUBLE, (6378137.0, 298.257223563)),
  34737: (ASCII, "WGS 84|"),
}
PIXELS = np.random.default_rng(0).integers(1, 1000, (5, 7, 3)).astype(np.uint16)


@pytest.mark.parametrize("dtype,absent", [(np.uint8, 255), (np.uint16, 65535)])
def test_a_label_keeps_the_place(tmp_path, dtype, absent):
  source = write(tmp_path / "p.tif", (PIXELS, PLACE))
  label = np.arange(35, dtype=dtype).reshape(5, 7)
  assert geotiff.write_label(tmp_path / "out/l.tif", label, source, nodata=absent)
  with Image.open(tmp_path / "out/l.tif") as written:
    np.testing.assert_array_equal(np.asarray(written), label)
    for number, (_, values) in PLACE.items():
      assert written.tag_v2[number] == values
    assert written.tag_v2[42113] == str(absent)


def test_a_confidence_keeps_the_place_and_a_disagreement_has_no_value_of_no_data(tmp_path):
  (tmp_path / "in").mkdir()
  write(tmp_path / "in/p.tif", (PIXELS.astype(np.uint8), PLACE))
  values = np.arange(35, dtype=np.uint8).reshape(5, 7)
  maps = Maps(values % 2, confidence=values, disagreement=values)
  predictor = _predictor(None, [])
  predictor.prepare = lambda wanted: None
  predictor.maps_many = lambda wanted, images, sizes: (maps for _ in images)
  kinds = ("confidence", "disagreement")
  assert not predict.predict_folder(predictor, str(tmp_path / "in"), tmp_path / "out", write=kinds)
  for kind, absent in zip(kinds, ("0", None)):
    with Image.open(tmp_path / "out" / kind / "p.tif") as written:
      np.testing.assert_array_equal(np.asarray(written), values)
      assert written.tag_v2[33922] == PLACE[33922][1] and written.tag_v2.get(42113) == absent


def test_without_a_place_there_is_no_geotiff(tmp_path):
  plain = write(tmp_path / "p.tif", (PIXELS, {}))
  turned = write(tmp_path / "t.tif", (PIXELS, PLACE | {0x0112: (SHORT, (6,))}))
  Image.fromarray(PIXELS.astype(np.uint8)).save(tmp_path / "q.png")
  for source in (plain, turned, tmp_path / "q.png"):
    assert not geotiff.write_label(tmp_path / "l.tif", np.zeros((5, 7), np.uint8), source)
  assert not (tmp_path / "l.tif").exists()


def _predictor(reading, seen):
  def predict_many(images, sizes=()):
    for image in images:
      seen.append(image)
      yield np.zeros(image.shape[:2], np.uint8)

  about = {"name": "d", "classes": ["a", "b"], "source_ids": [0, 255], "reading": reading}
  return types.SimpleNamespace(
    refuse=lambda name, size: None,
    channels=3,
    colors=((0, 0, 0), (9, 9, 9)),
    about=about,
    predict_many=predict_many,
  )


def test_predictions_read_files_as_the_data_set_was_read(tmp_path, capsys):
  values = PIXELS.copy()
  values[0] = 0
  (tmp_path / "in").mkdir()
  write(tmp_path / "in/p.tif", (values, PLACE | nodata("0")))
  ranges, seen = [0, 1000, 0, 500, 0, 2000], []
  predictor = _predictor({"value_range": ranges, "exif": "turn", "nodata": "ignore"}, seen)
  folders = str(tmp_path / "in"), str(tmp_path / "out")
  assert not predict.predict_folder(predictor, *folders)
  expected = np.clip(values / [1000, 500, 2000], 0, 1) * 255
  np.testing.assert_allclose(seen[0], expected, atol=0.5)
  for name in ("p.png", "p.tif"):
    label = np.asarray(Image.open(tmp_path / "out/labels" / name))
    assert (label[0] == 255).all() and not label[1:].any()
  predict.predict_folder(predictor, *folders, value_range=(0, 255), ids="source")
  assert "NOTE: --value_range (0, 255) where the training data" in capsys.readouterr().out
  np.testing.assert_array_equal(seen[1], np.minimum(values, 255))
  label = np.asarray(Image.open(tmp_path / "out/labels/p.tif"))
  assert (label[0] == 254).all()  # 255 is a class


def test_files_of_earlier_data_sets_are_read_as_before(tmp_path):
  (tmp_path / "in").mkdir()
  Image.fromarray(PIXELS.astype(np.uint8)).save(tmp_path / "in/p.png")
  seen = []
  predict.predict_folder(_predictor(None, seen), str(tmp_path / "in"), str(tmp_path / "out"))
  np.testing.assert_array_equal(seen[0], PIXELS.astype(np.uint8))


def test_the_id_of_no_data_is_free():
  table = source_ids.with_ignored(np.array([0, 255, 254], np.uint8))
  assert table[:3].tolist() == [0, 255, 254] and set(table[3:].tolist()) == {253}
