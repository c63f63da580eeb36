import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.splits import IdList
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import protocol, report, run
from semiseg_jax.evaluation.windows import Segmenter

COLORS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)]
CLASSES = ["road", "tree", "car", "pole"]


@jax.jit
def nearest_color(images, valid):
  colors = jnp.asarray(COLORS, jnp.float32)[None, None, None]
  return -jnp.square(images[..., None, :].astype(jnp.float32) - colors).sum(-1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  """Pictures painted in class colors; truth differs from the paint in known places."""
  root = tmp_path_factory.mktemp("run") / "painted"
  rng = np.random.default_rng(0)
  with DatasetWriter(root, name="painted", classes=CLASSES, colors=COLORS) as writer:
    for i, size in enumerate([(6, 9), (20, 30), (11, 16), (16, 16), (9, 40)]):
      paint = rng.integers(0, 2, size)
      truth = paint.astype(np.uint8)
      truth[0, :3] = 255
      truth[-1, -4:] = 2  # painted as class 0 or 1: four wrong pixels a picture
      writer.add(f"p{i}", image=np.asarray(COLORS, np.uint8)[paint], label=truth)
    writer.add("bare", image=np.zeros((4, 4, 3), np.uint8))
    writer.lists(val=[f"p{i}" for i in range(5)], two=["p3", "p0"])
  return Dataset.open(root)


def segmenter():
  return Segmenter(nearest_color, window=(16, 16), batch=3, num_classes=4)


def test_confusion_of_a_split_counts_by_hand(dataset):
  ids = [f"p{i}" for i in range(5)]
  result = run.evaluate_ids(segmenter(), dataset, ids, pictures=3, title="t")
  pixels = 6 * 9 + 20 * 30 + 11 * 16 + 16 * 16 + 9 * 40
  assert result.confusion.sum() == pixels - 5 * 3
  assert result.confusion[2].sum() == 5 * 4 and result.confusion[2, 2] == 0
  assert np.trace(result.confusion) == pixels - 5 * 3 - 5 * 4
  assert result.pictures == 5
  assert [row.id for row in result.shown] == ["p0", "p2", "p4"]
  for row in result.shown:
    painted = np.asarray(COLORS, np.uint8)[row.prediction]
    np.testing.assert_array_equal(painted, row.image)


def test_errors_name_the_picture(dataset):
  with pytest.raises(DataError, match="1 of 2 .*'bare'"):
    run.evaluate_ids(segmenter(), dataset, ["p0", "bare"], pictures=0, title="t")
  with pytest.raises(DataError, match="'p9'"):
    run.evaluate_ids(segmenter(), dataset, ["p0", "p9"], pictures=0, title="t")
  with pytest.raises(DataError, match="nothing to evaluate"):
    run.evaluate_ids(segmenter(), dataset, [], pictures=0, title="t")


def test_read_ahead_keeps_the_order_and_raises():
  assert list(run.read_ahead(lambda x: x * x, range(100))) == [x * x for x in range(100)]
  with pytest.raises(ZeroDivisionError):
    list(run.read_ahead(lambda x: 1 // x, [1, 0]))


def example_result():
  # road 90 of 100 right, tree never right, car absent, pole only predicted.
  confusion = np.array([[90, 5, 0, 5], [10, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.int64)
  return run.Evaluation(confusion, [], 7)


def test_table_tells_every_class_and_what_drops_out():
  text = report.format_report(
    example_result(), CLASSES, title="val, step 5", places={"result": "/x/y.json"}
  )
  rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
  assert text.startswith("val, step 5\n")
  # 90/110, 180/200, 90/100, 90/100, 100/110
  assert rows["road"] == ["81.82", "90.00", "90.00", "90.00", "90.91"]
  assert rows["tree"] == ["0.00", "0.00", "0.00", "0.00", "9.09"]
  assert rows["car"] == ["-", "-", "-", "-", "0.00"]
  assert rows["pole"] == ["0.00", "0.00", "-", "0.00", "0.00"]
  assert "  mean F1                  30.00\n" in text
  assert rows["mIoU"] == ["27.27"]
  assert rows["pixel"] == ["accuracy", "81.82"]
  assert rows["result"] == ["/x/y.json"]
  assert "left out of the mean: car" in text and "counted with IoU 0: pole" in text
  assert "never predicted" not in text  # tree was, in the wrong place
  assert "7 pictures, 110 labeled pixels" in text


def test_a_class_that_is_never_predicted_is_said():
  confusion = np.array([[9, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.int64)
  result = run.Evaluation(confusion, [], 1)
  assert report.never_predicted(result, CLASSES) == ["tree"]
  text = report.format_report(result, CLASSES, title="val", places={})
  assert "in the labels but never predicted, counted with IoU 0: tree" in text


def described(split="lists/val set.txt", fingerprint="f" * 64):
  how = protocol.Protocol("slide", (8, 8), (6, 6), 4, "mean")
  origin = report.origin(
    protocol=how,
    split=IdList(split, ("a", "b")),
    dataset={"name": "painted", "fingerprint": fingerprint, "classes": CLASSES},
    trained_on={"name": "painted", "fingerprint": "f" * 64, "splits": {}},
    step=5,
    config=ConfigDict({"data": {"crop": (3, 4)}}).to_dict(),
    versions={"jax": "1"},
  )
  return how, report.describe(example_result(), CLASSES, origin)


def test_result_file_says_how_it_was_obtained(tmp_path):
  how, fields = described()
  path = report.write_result(tmp_path, fields, how)
  with open(path) as file:
    found = json.load(file, parse_constant=pytest.fail)
  assert list(found)[0] == "miou" and list(found)[-1] == "provenance"
  found |= found["provenance"]
  np.testing.assert_allclose(found["miou"], 90 / 110 / 3)
  assert found["iou"] == {"road": 90 / 110, "tree": 0, "car": None, "pole": 0}
  assert found["f1"] == {"road": 0.9, "tree": 0, "car": None, "pole": 0}
  assert found["precision"] == {"road": 0.9, "tree": 0, "car": None, "pole": 0}
  assert found["recall"] == {"road": 0.9, "tree": 0, "car": None, "pole": None}
  np.testing.assert_allclose(found["mean_f1"], 0.3)
  assert found["classes_left_out"] == ["car"] and found["classes_only_predicted"] == ["pole"]
  assert found["classes_never_predicted"] == []
  assert found["protocol"] == {
    "mode": "slide", "window": [8, 8], "stride": [6, 6], "network": "mean", "stack": "",
    "scales": [1.0], "flip": False}  # fmt: skip
  assert found["split"]["sha256"] == IdList("other name", ("a", "b")).sha256
  assert found["checkpoint_step"] == 5 and found["pictures"] == 7
  assert found["config"] == {"data": {"crop": [3, 4]}} and found["versions"] == {"jax": "1"}
  assert found["confusion"][0] == [90, 5, 0, 5]


def test_result_files_are_told_apart_by_name(tmp_path):
  names = {report.write_result(tmp_path, fields, how)
           for how, fields in [described(), described(), described("other"),
                               described(fingerprint="0" * 64)]}  # fmt: skip
  assert len(names) == 3 == len(list((tmp_path / "evaluations").iterdir()))
  assert any("painted_00000000_lists_val_set.txt_step_5_network_mean_slide_8x8" in n for n in names)
