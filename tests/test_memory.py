"""Where memory runs out for a picture, it is named and the others are done."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax import memory, predict
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.evaluation import pictures
from semiseg_jax.evaluation.run import evaluate_ids
from semiseg_jax.evaluation.windows import Segmenter
from tests import small_city

ON_DEVICE = jax.errors.JaxRuntimeError(
  "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"
)

ON_CPU = jax.errors.JaxRuntimeError(
  "INTERNAL: Error dispatching computation: Out of memory allocating 1900000000 bytes."
)


def _forward(error, is_bad):
  def forward(images, valid):
    if is_bad(images):
      raise error
    return jnp.zeros((*images.shape[:3], 3)).at[..., 1].set(1)

  return forward


def _predictor(error, batch=3):
  forward = _forward(error, lambda images: (images == 255).any())
  segmenter = Segmenter(forward, window=(8, 8), batch=batch, num_classes=3)
  colors = small_city.COLORS
  return predict.Predictor(segmenter, classes=small_city.CLASSES, colors=colors, channels=3)


@pytest.mark.parametrize("error", [MemoryError(), ON_DEVICE, ON_CPU])
def test_the_others_are_done(tmp_path, error):
  for number in range(7):
    value = 255 if number in (2, 5) else number
    pictures.write_png(tmp_path / f"in/{number}.png", np.full((12, 9, 3), value, np.uint8))
  failures = predict.predict_folder(_predictor(error), tmp_path / "in", tmp_path / "out")
  assert failures.pictures == 7
  assert [line.partition(": ")[0] for line in failures] == [
    str(tmp_path / f"in/{number}.png") for number in (2, 5)
  ]
  for line in failures:
    assert "--window" in line and "--batch" in line and "\n" not in line
  for kind in ("labels", "color", "overlay"):
    assert sorted(p.name for p in (tmp_path / "out" / kind).iterdir()) == [
      f"{number}.png" for number in (0, 1, 3, 4, 6)
    ]
  assert (cv2.imread(str(tmp_path / "out/labels/6.png"), cv2.IMREAD_UNCHANGED) == 1).all()


def test_a_write_for_which_memory_runs_out_is_named(tmp_path, monkeypatch):
  pictures.write_png(tmp_path / "in/a.png", np.zeros((12, 9, 3), np.uint8))

  def overlay(*_):
    raise MemoryError("Unable to allocate")

  monkeypatch.setattr(predict.pictures, "overlay", overlay)
  failures = predict.predict_folder(_predictor(MemoryError()), tmp_path / "in", tmp_path / "out")
  assert len(failures) == 1 and failures[0].startswith(f"{tmp_path}/in/a.png: the memory")


def test_what_is_no_lack_of_memory_keeps_its_traceback(tmp_path):
  pictures.write_png(tmp_path / "in/a.png", np.full((12, 9, 3), 255, np.uint8))
  predictor = _predictor(jax.errors.JaxRuntimeError("INTERNAL: broken"))
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
    predict.predict_folder(predictor, tmp_path / "in", tmp_path / "out")


def test_an_evaluation_names_the_picture(tmp_path):
  small_city.write(tmp_path, pictures=2)
  dataset, seen = Dataset.open(tmp_path), []
  forward = _forward(ON_DEVICE, lambda images: seen.append(1) or len(seen) > 2)
  segmenter = Segmenter(forward, window=(40, 48), num_classes=3)
  line = r"'\w+': the memory does not.*--mode=slide"
  with pytest.raises(memory.OutOfMemoryError, match=line) as caught:
    evaluate_ids(segmenter, dataset, dataset.info.ids[:4], pictures=0, title="test")
  assert "\n" not in str(caught.value)
