"""Which files of a folder are pictures to label."""

import types

import numpy as np
import pytest
from PIL import Image

from semiseg_jax import predict
from semiseg_jax.errors import DataError

PREDICTOR = types.SimpleNamespace(
  refuse=lambda name, size: None,
  channels=3,
  colors=((0, 0, 0),),
  about={"name": "noise", "classes": ["ground"]},
  predict_many=lambda images, sizes=(): (np.zeros(image.shape[:2], np.uint8) for image in images),
)


def _files(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(root / name)


def _labeled(tmp_path):
  failures = predict.predict_folder(PREDICTOR, str(tmp_path / "in"), str(tmp_path / "out"))
  labels = tmp_path / "out/labels"
  return {str(p.relative_to(labels)) for p in labels.rglob("*") if p.is_file()}, failures


def test_hidden_files_are_no_pictures(tmp_path):
  names = ("a.png", "sub/b.jpg", ".c.png", ".git/d.png", "__MACOSX/e.png", "sub/@eaDir/f.png")
  _files(tmp_path / "in", *names)
  (tmp_path / "in/._a.jpg").write_bytes(b"what a Mac knows of it")
  assert _labeled(tmp_path) == ({"a.png", "sub/b.png"}, [])


def test_masks_of_pictures_are_left_out_and_said(tmp_path, capsys):
  _files(tmp_path / "in", "a.jpg", "a_mask.png", "gt_a.png", "gas_mask.png", "a_1.png")
  assert _labeled(tmp_path) == ({"a.png", "gas_mask.png", "a_1.png"}, [])
  assert "NOTE: 2 files have the names of masks" in capsys.readouterr().out


@pytest.mark.parametrize("values", [(10, 255, 7), (0, 300, 65535)])
def test_ids_of_the_source(tmp_path, values):
  about = {"name": "scans", "classes": ["a", "b", "c"], "source_ids": values}
  label = np.array([[0, 1, 2, 2, 1], [2, 2, 0, 1, 0]], np.uint8)
  predictor = types.SimpleNamespace(
    refuse=lambda name, size: None,
    channels=3,
    colors=((0, 0, 0), (9, 8, 7), (1, 2, 3)),
    about=about,
    predict_many=lambda images, sizes=(): (label for _ in images),
  )
  (tmp_path / "in").mkdir()
  Image.fromarray(np.zeros((2, 5, 3), np.uint8)).save(tmp_path / "in/a.png")
  run = lambda: predict.predict_folder(
    predictor, str(tmp_path / "in"), str(tmp_path / "out"), ids="source"
  )
  assert run() == []
  written = np.asarray(Image.open(tmp_path / "out/labels/a.png"))
  expected = [[values[k] for k in row] for row in ([0, 1, 2, 2, 1], [2, 2, 0, 1, 0])]
  assert written.tolist() == expected
  assert np.asarray(Image.open(tmp_path / "out/color/a.png"))[0, 1].tolist() == [9, 8, 7]
  about["source_ids"] = ()
  with pytest.raises(DataError, match="--ids=source: data set 'scans' does not say"):
    run()


def test_nothing_but_hidden_files(tmp_path):
  _files(tmp_path / "in", ".a.png")
  with pytest.raises(DataError, match="no pictures under"):
    _labeled(tmp_path)
