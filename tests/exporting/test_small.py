"""Exported files and pictures of many sizes: small ones, and few programs for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from PIL import Image

from semiseg_jax import predict
from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.exporting import about, container, promise, tracing
from tests.exporting.test_frozen import DAY
from tests.exporting.tiny_networks import pictures, trained

LEAST = 32
CHANGED = ({"flip": True}, {"scales": (0.5, 1.0)}, {"mode": "resize_to_multiple", "multiple": 8})


def _scores(weights, images, valid):
  """Each channel is the score of a class."""
  return images.astype(jnp.float32) * weights["ones"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  """A file of a network without layers, of any size from LEAST on."""
  return _written(tmp_path_factory.mktemp("small") / "net.semiseg")


def _written(path, **evaluated):
  scope = export.SymbolicScope([f"{side} >= {LEAST}" for side in "hw"])
  b, h, w = export.symbolic_shape("b, h, w", scope=scope)
  weights = {"ones": np.ones((1, 1, 1, 3), np.float32)}
  shapes = (
    jax.ShapeDtypeStruct((b, h, w, 3), jnp.uint8),
    jax.ShapeDtypeStruct((b, 4), jnp.int32),
  )
  program = export.export(jax.jit(_scores), platforms=tracing.PLATFORMS)(weights, *shapes)
  told = about.describe(trained(), network="0", command="semiseg export", run="r", day=DAY)
  told |= {"format": container.FORMAT, "format_version": container.VERSION}
  told |= {"promise": promise.of(DAY), "platforms": list(tracing.PLATFORMS)}
  told |= {"input": {"size": None, "least": LEAST}, "scores": "logits"}
  told["grid"] = {"crop": [33, 33], "stride": 8}
  told["eval"] |= {"mode": "whole", **evaluated}
  programs = dict.fromkeys(("segment", "scores"), bytes(program.serialize()))
  container.write(path, told, weights, programs)
  return str(path)


@pytest.mark.parametrize("size", [(5, 5), (1, 40), (31, 33)])
def test_small_pictures_lie_on_a_canvas_and_their_labels_are_cut_out(file, size):
  predictor, (small, large) = (
    predict.load_predictor(file),
    (pictures(1, *size)[0], pictures(1, 40, 48)[0]),
  )
  np.testing.assert_array_equal(predictor(small), small.argmax(-1))
  found = predictor.predict([small, large, small])
  assert [x.labels.shape for x in found] == [size, (40, 48), size]
  assert found[0].probabilities.shape == (*size, 3)
  np.testing.assert_array_equal(found[2].labels, small.argmax(-1))


@pytest.mark.parametrize("how", [{"whole": "as_is"}, {"window": (40, 40), "border": "cut"}])
def test_pictures_that_are_too_small_are_left_out_by_name(file, how, tmp_path):
  (tmp_path / "in").mkdir()
  sizes = {"a": (40, 40), "b": (5, 5), "c": (40, 40)}
  for name, size in sizes.items():
    Image.fromarray(pictures(1, *size)[0]).save(tmp_path / "in" / f"{name}.png")
  predictor = predict.load_predictor(file, stride=(40, 40) if "window" in how else None, **how)
  out = tmp_path / "out"
  left = predict.predict_folder(predictor, str(tmp_path / "in"), str(out), write=["labels"])
  assert len(left) == 1 and "b.png is 5x5" in left[0] and "32x32" in left[0]
  assert sorted(path.name for path in (out / "labels").iterdir()) == ["a.png", "c.png"]
  with pytest.raises(DataError, match="picture number 1 is 5x5"):
    predictor([pictures(1, 40, 40)[0], pictures(1, 5, 5)[0]])


def test_windows_that_are_too_small_are_refused(file):
  with pytest.raises(ConfigError, match="windows of 16x40: .*net.semiseg takes 32x32 or more"):
    predict.load_predictor(file, window=(16, 40))


def test_what_no_file_has_is_refused_and_what_its_run_did_is_said(file, tmp_path, caplog):
  for how in CHANGED:
    with pytest.raises(
      ConfigError, match="net.semiseg holds a network that sees each picture once"
    ):
      predict.load_predictor(file, **how)
  assert not caplog.records
  image = pictures(1, 40, 48)[0]
  for evaluated in CHANGED:
    predictor = predict.load_predictor(_written(tmp_path / "net.semiseg", **evaluated))
    np.testing.assert_array_equal(predictor(image), image.argmax(-1))
    assert "net.semiseg holds a network that sees each picture once" in caplog.records.pop().message


def test_twenty_sizes_one_by_one_need_three_compilations(file):
  begun = []
  count = lambda event, *_, **__: begun.append(event) if "backend_compile" in event else None
  predictor = predict.load_predictor(file)
  sizes = np.random.default_rng(0).integers(18, 70, (20, 2))
  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    labels = [predictor(pictures(1, *size)[0]) for size in sizes]
  finally:
    jax.monitoring.unregister_event_duration_listener(count)
  assert [x.shape for x in labels] == [tuple(size) for size in sizes]
  assert 0 < len(begun) <= 3
