"""Passes over pictures with networks whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.splits import IdList
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation.windows import Segmenter
from semiseg_jax.suggesting import networks, ranking, scoring, tables
from semiseg_jax.suggesting.sources import DatasetSource, FolderSource

CLASSES, COLORS = ("road", "sky"), ((128, 64, 128), (70, 130, 180))


def _doubt(images, valid):
  """Three measures, as the first channel says: value / 100, half of it, and a tenth; then 1."""
  value = images[..., :1].astype(np.float32) / 100
  return jnp.asarray(value * (1, 0.5, 0.1, 0) + (0, 0, 0, 1), jnp.float32)


def _certain(images, valid):
  """Sky where the second channel is high."""
  p = np.where(images[..., 1:2] > 100, (0.1, 0.9), (0.9, 0.1))
  return jnp.asarray(p, jnp.float32)


def _segmenter(forward, classes, **how):
  return Segmenter(forward, num_classes=classes, probabilities=True, **{"window": None, **how})


def _run(n=2, **how):
  """Networks whose feature is the mean color."""
  features = networks.Features(lambda images: images.mean((1, 2), dtype=np.float32), (4, 4))
  segmenters = _segmenter(_doubt, 4, **how), _segmenter(_certain, 2, **how)
  return networks.Networks(*segmenters, features, n, CLASSES, COLORS)


def _flat(*color, size=(6, 8)):
  return np.full((*size, 3), color, np.uint8)


@pytest.fixture
def folder(tmp_path):
  root = tmp_path / "in"
  (root / "deep").mkdir(parents=True)
  colors = {"a": (20, 0, 0), "b": (80, 0, 9), "deep/c": (50, 90, 0), "d": (80, 0, 9)}
  for name, color in colors.items():
    Image.fromarray(_flat(*color)).save(root / f"{name}.png")
  (root / "cut.png").write_bytes((root / "a.png").read_bytes()[:40])
  (root / "a_mask.png").write_bytes((root / "a.png").read_bytes())
  return root


@pytest.mark.parametrize("how", [{}, {"window": (4, 4), "stride": (2, 3), "batch": 3}])
def test_scores_of_a_folder(folder, how, capsys):
  source = FolderSource(str(folder), 3, {})
  scores = scoring.score(source, None, _run(**how))
  assert scores.ids == tuple(f"{folder}/{name}.png" for name in ("a", "b", "d", "deep/c"))
  expected = np.array([[0.2, 0.1, 0.02], [0.8, 0.4, 0.08], [0.8, 0.4, 0.08], [0.5, 0.25, 0.05]])
  np.testing.assert_allclose(scores.measures, expected, rtol=1e-5)
  assert list(source.failures) == [f"{folder}/cut.png"]
  assert "1 file has the name of a mask" in capsys.readouterr().out
  np.testing.assert_array_equal(scores.diversity, np.inf)
  found = ranking.suggest(scores, 3, "entropy")
  names = tables.names(scores, found).splitlines()
  assert names == [f"{folder}/{name}.png" for name in ("b", "deep/c", "a")]  # d is a copy of b


def test_the_table_has_all_pictures_the_suggested_ones_first(folder):
  source = FolderSource(str(folder), 3, {})
  scores = scoring.score(source, None, _run(1))
  found = ranking.suggest(scores, 2, "entropy")
  head, *rows = (
    line.split(",") for line in tables.suggested(scores, found, "entropy").splitlines()
  )
  assert [row[0] for row in rows] == ["1", "2", "3", "4"]
  names = [row[1].removeprefix(f"{folder}/") for row in rows]
  assert names == ["b.png", "deep/c.png", "d.png", "a.png"]
  assert [row[head.index("suggested")] for row in rows] == ["yes", "yes", "no", "no"]
  assert [row[head.index("entropy")] for row in rows] == ["0.8", "0.5", "0.8", "0.2"]
  assert {row[head.index("disagreement")] for row in rows} == {""}  # of one network


def test_nothing_to_choose_from_is_told(tmp_path):
  with pytest.raises(DataError, match="not a folder"):
    FolderSource(str(tmp_path / "absent"), 3, {})
  with pytest.raises(DataError, match="no pictures"):
    FolderSource(str(tmp_path), 3, {})


def test_wrong_labels_in_a_dataset(tmp_path):
  """Half of each picture is sky; in two a square of it is labeled road."""
  with DatasetWriter(tmp_path / "data", name="made", classes=CLASSES, colors=COLORS) as writer:
    side = {1: 3, 2: 5, 3: 0}
    for i in range(4):
      image, label = _flat(0, 0, i, size=(20, 20)), np.zeros((20, 20), np.uint8)
      image[:10, :, 1], label[:10] = 200, 1
      if i:
        label[2 : 2 + side[i], 4 : 4 + side[i]] = 0
      writer.add(f"n{i}", image=image, label=label)
    writer.lists(train=[f"n{i}" for i in range(4)])
  dataset = Dataset.open(tmp_path / "data")
  source = DatasetSource(dataset, IdList("all", dataset.info.ids))
  _, found = scoring.suspects(source, _run())
  assert list(found) == ["n2", "n1"]  # the larger one first
  (region,) = found["n2"]
  assert (region.box, region.label, region.suggested) == ((4, 2, 5, 5), 0, 1)
  _, row, other = tables.suspicious(found, CLASSES).splitlines()
  assert other.startswith("2,n1,")
  assert row.startswith("1,n2,") and ",road,sky,4,2,5,5,25,0.1,0.9," in row


def test_pictures_that_are_labeled_are_centers(folder, tmp_path):
  with DatasetWriter(tmp_path / "data", name="made", classes=CLASSES, colors=COLORS) as writer:
    writer.add("known", image=_flat(80, 0, 9), label=np.zeros((6, 8), np.uint8))
    writer.lists(train=["known"])
  labeled = DatasetSource(Dataset.open(tmp_path / "data"), IdList("one", ("known",)))
  source = FolderSource(str(folder), 3, {})
  scores = scoring.score(source, labeled, _run())
  far = np.linalg.norm(
    np.array((5, 9, 0)) / np.hypot(5, 9) - np.array((80, 0, 9)) / np.hypot(80, 9)
  )
  np.testing.assert_allclose(scores.diversity[1:], (0, 0, far), atol=1e-3)
  assert [one.index for one in ranking.suggest(scores, 4, "entropy")] == [3, 0]
