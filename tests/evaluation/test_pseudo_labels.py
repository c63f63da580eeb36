import numpy as np
import pytest

from semiseg_jax.config import schema
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.evaluation import calibration, pseudo_labels, run

CLASSES, COLORS = ["road", "tree"], [(200, 0, 0), (0, 200, 0)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  """a is labeled; of b, c and d two have masks."""
  root = tmp_path_factory.mktemp("pseudo") / "set"
  rng = np.random.default_rng(0)
  with DatasetWriter(root, name="set", classes=CLASSES, colors=COLORS) as writer:
    for id_ in "abcd":
      label = None if id_ == "d" else rng.integers(0, 2, (8, 9)).astype(np.uint8)
      writer.add(id_, image=np.zeros((8, 9, 3), np.uint8), label=label)
    writer.lists(train=list("abcd"), one=["a"], two=["b", "c"], bare=["d"])
  return Dataset.open(root)


def config(**lists):
  found = schema.default()
  found.data.update(labeled="one", **lists)
  return found


@pytest.mark.parametrize(
  "unlabeled, ids, without",
  [("rest", "bc", 1), ("all", "bc", 1), ("two", "bc", 0), ("bare", "", 1)],
)
def test_pictures_that_are_scored_are_unlabeled_ones_with_masks(dataset, unlabeled, ids, without):
  found = pseudo_labels.hidden(config(unlabeled=unlabeled), dataset)
  assert (found.split.ids, found.without) == (tuple(ids), without)
  assert ("none of 1 unlabeled" in found.note) == (unlabeled == "bare")
  assert bool(found.note) == (without > 0)


def test_a_run_without_unlabeled_pictures_is_an_error(dataset):
  with pytest.raises(ConfigError, match="--pseudo_labels: .*no unlabeled"):
    pseudo_labels.hidden(config(unlabeled="all", train="one"), dataset)
  with pytest.raises(DataError, match="--pseudo_labels: .*no unlabeled"):
    pseudo_labels.hidden(config(unlabeled="rest", train="one"), dataset)


class Sure:
  """Says road everywhere: in the left third with p 0.97, in the middle 0.6, then 0.3."""

  def segment_many(self, images, sizes):
    p = np.repeat(np.array([0.97, 0.6, 0.3], np.float32), 3)
    for _ in images:
      yield np.zeros((8, 9), np.uint8), np.tile(p, (8, 1))


def test_coverage_and_accuracy_of_what_reaches_a_threshold(dataset):
  of = pseudo_labels.hidden(config(unlabeled="rest"), dataset)
  result = run.evaluate_ids(
    Sure(), of.pool, of.split.ids, pictures=0, title="pseudo labels", certain=True
  )
  fields = pseudo_labels.describe(result, of, CLASSES)
  roads = np.stack([dataset.read(dataset.index(id_)).label == 0 for id_ in "bc"])
  assert fields["pixel_accuracy"] == pytest.approx(roads.mean())
  assert fields["iou"] == {"road": pytest.approx(roads.mean()), "tree": 0}
  rows = {row["threshold"]: row for row in fields["by_threshold"]}
  assert tuple(rows) == calibration.THRESHOLDS
  for threshold, columns in [(0.0, 9), (0.5, 6), (0.6, 6), (0.7, 3), (0.95, 3)]:
    row, right = rows[threshold], roads[..., :columns].mean()
    assert row["coverage"] == pytest.approx(columns / 9)
    assert row["accuracy"] == pytest.approx(right) and row["miou"] == pytest.approx(right / 2)
  assert rows[0.98] == {"threshold": 0.98, "coverage": 0, "accuracy": None, "miou": None}
  error = sum(
    abs(p - roads[..., 3 * i : 3 * i + 3].mean()) / 3 for i, p in enumerate([0.97, 0.6, 0.3])
  )
  assert fields["calibration"]["ece"] == pytest.approx(error, rel=1e-6)
  assert fields["pictures"] == 2 and fields["pictures_without_mask"] == 1
  assert fields["split"]["ids"] == 2 and "masks" in fields["split"]["name"]
  text = "\n".join(pseudo_labels.format_lines(fields))
  assert f"{100 * roads.mean():.2f}" in text and "0.95     33.33" in text
