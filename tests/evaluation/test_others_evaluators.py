"""Our counts beside those of cityscapesscripts and scikit-learn, on what our programs write."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data_prep import cityscapes
from semiseg_jax import predict
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.evaluation import calibration, confusion, palette, run
from semiseg_jax.evaluation.windows import Segmenter

pytestmark = pytest.mark.extras

LABEL_IDS, CLASSES, COLORS = zip(*cityscapes.CLASSES)
SIZES = [(40, 60), (33, 47), (64, 32)]


@jax.jit
def nearest_color(images, valid):
  colors = jnp.asarray(COLORS, jnp.float32)[None, None, None]
  difference = images[..., None, :].astype(jnp.float32) - colors
  return -jnp.square(difference).sum(-1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """Pictures in class colors, masks of label ids beside them, the dataset, and its result."""
  if not any(map(importlib.util.find_spec, ("cityscapesscripts", "sklearn"))):
    pytest.skip("there is no other evaluator")
  root, rng = tmp_path_factory.mktemp("city"), np.random.default_rng(0)
  with DatasetWriter(root / "set", name="set", classes=CLASSES, colors=COLORS) as writer:
    for i, size in enumerate(SIZES):
      paint = np.kron(rng.integers(0, 19, (8, 8)), np.ones((8, 8), int))[: size[0], : size[1]]
      paint = np.resize(paint, size)
      ids = np.array(LABEL_IDS)[paint]
      changed = rng.uniform(size=size) < 0.4
      ids[changed] = rng.integers(0, 34, size)[changed]  # ignored ones among them
      image = np.asarray(COLORS, np.uint8)[paint]
      for kind, array in (("images", image), ("masks", ids.astype(np.uint8))):
        (root / kind).mkdir(exist_ok=True)
        Image.fromarray(array).save(root / kind / f"p{i}.png")
      writer.add(f"p{i}", image=image, label=cityscapes.train_ids()[ids].astype(np.uint8))
    writer.lists(val=["p0", "p1", "p2"])
  segmenter = Segmenter(nearest_color, window=(32, 32), batch=2, num_classes=19)
  dataset = Dataset.open(root / "set")
  result = run.evaluate_ids(segmenter, dataset, dataset.info.ids, pictures=0, title="t")
  about = {"name": "set", "classes": CLASSES, "source_ids": LABEL_IDS}
  predictor = predict.Predictor(segmenter, classes=CLASSES, colors=COLORS, channels=3, about=about)
  for ids in ("source", "train"):
    assert not predict.predict_folder(predictor, root / "images", root / ids, ids=ids)
  return root, dataset, result


def theirs(predictions, masks):
  """Confusion and IoU of the classes by the published script for Cityscapes."""
  script = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
  options = script.args
  options.evalInstLevelScore, options.JSONOutput, options.quiet = False, False, True
  counts = script.generateMatrix(options)
  stats = script.generateInstanceStats(options)
  for pair in zip(map(str, predictions), map(str, masks), strict=True):
    script.evaluatePair(*pair, counts, stats, {}, options)
  ious = [script.getIouScoreForLabel(k, counts, options) for k in LABEL_IDS]
  mean = script.getScoreAverage(dict(enumerate(ious)), options)
  return counts[np.ix_(LABEL_IDS, LABEL_IDS)], ious, mean


@pytest.mark.parametrize("written", ["source", "train", "palette"])
def test_cityscapesscripts_counts_the_same(made, tmp_path, written):
  labels = pytest.importorskip("cityscapesscripts.helpers.labels")
  root, dataset, result = made
  files = [root / "source" / "labels" / f"{id_}.png" for id_ in dataset.info.ids]
  if written != "source":  # train ids, which the script's own table turns into label ids
    table = np.array([labels.trainId2label[k].id for k in range(19)], np.uint8)
    for i, id_ in enumerate(dataset.info.ids):
      picture = np.asarray(Image.open(root / "train" / "labels" / f"{id_}.png"))
      if written == "palette":
        palette.write(tmp_path / "palette" / f"{id_}.png", picture, CLASSES, COLORS)
        picture = np.asarray(Image.open(tmp_path / "palette" / f"{id_}.png"))
      files[i] = tmp_path / f"{id_}.png"
      Image.fromarray(table[picture]).save(files[i])
  counts, ious, mean = theirs(files, [root / "masks" / f"{id_}.png" for id_ in dataset.info.ids])
  np.testing.assert_array_equal(result.confusion, counts)
  scores = confusion.scores(result.confusion)
  np.testing.assert_allclose(scores["iou"], ious, atol=1e-9, rtol=0)
  assert scores["miou"] == pytest.approx(mean, abs=1e-9)
  assert 0.3 < mean < 0.9


def test_scikit_learn_scores_the_same(made):
  metrics = pytest.importorskip("sklearn.metrics")
  root, dataset, result = made
  examples = [dataset.read(dataset.index(id_)) for id_ in dataset.info.ids]
  files = [root / "train" / "labels" / f"{example.id}.png" for example in examples]
  truth = np.concatenate([example.label.ravel() for example in examples])
  found = np.concatenate([np.asarray(Image.open(file)).ravel() for file in files])
  pair, scores = (truth[truth < 19], found[truth < 19]), confusion.scores(result.confusion)
  counts = metrics.confusion_matrix(*pair, labels=range(19))
  np.testing.assert_array_equal(result.confusion, counts)
  close = {"abs": 1e-9, "rel": 0}
  for ours, average in (("iou", None), ("miou", "macro"), ("frequency_weighted_iou", "weighted")):
    assert scores[ours] == pytest.approx(metrics.jaccard_score(*pair, average=average), **close)
  assert scores["f1"] == pytest.approx(metrics.f1_score(*pair, average=None), **close)
  assert scores["mean_class_accuracy"] == pytest.approx(
    metrics.balanced_accuracy_score(*pair), **close
  )
  assert scores["pixel_accuracy"] == pytest.approx(metrics.accuracy_score(*pair), **close)


def test_scikit_learn_has_the_same_reliability_table():
  curves = pytest.importorskip("sklearn.calibration")
  rng = np.random.default_rng(0)
  p = rng.beta(4, 2, (50, 70)).astype(np.float32)
  label = rng.integers(0, 3, p.shape).astype(np.uint8)
  right = rng.uniform(size=p.shape) < p**1.5
  prediction = np.where(right, label, (label + 1) % 3).astype(np.uint8)
  fields = calibration.describe(calibration.count(label, prediction, p, 3))
  accuracy, mean = curves.calibration_curve(right.ravel(), p.ravel().astype(float), n_bins=15)
  full = [m for m, n in enumerate(fields["pixels"]) if n]
  np.testing.assert_allclose(np.array(fields["accuracy"])[full].astype(float), accuracy, atol=1e-9)
  np.testing.assert_allclose(np.array(fields["probability"])[full].astype(float), mean, atol=1e-9)
