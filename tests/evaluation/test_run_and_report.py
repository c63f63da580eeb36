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
from semiseg_jax.evaluation import confusion, protocol, report, run, table
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
  # Four wrong pixels each: the smaller a picture, the worse.
  kept = (result.extremes.worst, result.extremes.best)
  worst, best = ([one.row.id for one in some] for some in kept)
  assert worst == ["p0", "p2", "p3"] and best == ["p1", "p4", "p3"]
  for row in result.shown:
    painted = np.asarray(COLORS, np.uint8)[row.prediction]
    np.testing.assert_array_equal(painted, row.image)
  pixels = result.of_pictures  # hit, in the labels, predicted
  assert pixels.shape == (5, 3, 4) and pixels[0, 1].sum() == 6 * 9 - 3
  np.testing.assert_array_equal(pixels.sum(0), confusion.overlaps(result.confusion))
  # Every picture is smaller than a contour is wide but the second, where d is 1.
  assert (result.boundary <= pixels.sum(0)).all() and result.boundary[1, 2] == 5 * 4
  assert result.interval.low <= confusion.scores(result.confusion)["miou"] <= result.interval.high


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
  counts = np.array([[90, 5, 0, 5], [10, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.int64)
  return run.Evaluation(counts, [], 7)


def test_table_tells_every_class_and_what_drops_out():
  text = table.format_report(
    example_result(), CLASSES, title="val, step 5", places={"result": "/x/y.json"}
  )
  rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
  assert text.startswith("val, step 5\n")
  # 90/110, 180/200, 90/100, 90/100, 100/110
  assert rows["road"] == ["81.82", "90.00", "90.00", "90.00", "90.91"]
  assert rows["tree"] == ["0.00", "0.00", "0.00", "0.00", "9.09"]
  assert rows["car"] == ["-", "-", "-", "-", "0.00"]
  assert rows["pole"] == ["0.00", "0.00", "-", "0.00", "0.00"]
  means = {line[:24].strip(): line[24:].strip() for line in text.splitlines()}
  assert means["mean F1"] == "30.00" and means["frequency-weighted IoU"] == "74.38"
  assert means["mean class accuracy"] == "45.00"  # of road and tree
  assert rows["mIoU"] == ["27.27"]
  assert rows["pixel"] == ["accuracy", "81.82"]
  assert rows["result"] == ["/x/y.json"]
  assert "left out of the mean: car" in text and "counted with IoU 0: pole" in text
  assert "never predicted" not in text  # tree was, in the wrong place
  assert "7 pictures, 110 labeled pixels" in text


def test_a_class_that_is_never_predicted_is_said():
  counts = np.array([[9, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.int64)
  result = run.Evaluation(counts, [], 1)
  assert report.never_predicted(result, CLASSES) == ["tree"]
  text = table.format_report(result, CLASSES, title="val", places={})
  assert "in the labels but never predicted, counted with IoU 0: tree" in text


def full_result(pictures, boundary=((30, 0, 0, 0), (40, 5, 0, 0), (35, 0, 0, 5))):
  """Half of the pictures is right everywhere, the other half nowhere."""
  half = np.array([[[8, 2, 0, 0]] * 3, [[0, 0, 0, 0], [8, 2, 0, 0], [2, 8, 0, 0]]])
  of_pictures = np.tile(half, (pictures // 2, 1, 1))
  counts = pictures // 2 * np.diag([8, 2, 0, 0])
  counts[0, 1], counts[1, 0] = pictures // 2 * 8, pictures // 2 * 2
  return run.Evaluation(counts, [], pictures, of_pictures, np.array(boundary))


def test_boundary_and_interval_are_in_table_and_file():
  result = full_result(40)
  text = table.format_report(result, CLASSES, title="val", places={})
  rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
  # 30 / (40 + 35 - 30), 0 / 5, absent, only predicted
  assert [rows[name][-1] for name in CLASSES] == ["66.67", "0.00", "-", "0.00"]
  assert "boundary mIoU            22.22" in text
  found = report.describe(result, CLASSES, {})
  assert found["boundary_iou"] == {"road": 30 / 45, "tree": 0, "car": None, "pole": 0}
  assert found["boundary_miou"] == pytest.approx(30 / 45 / 3)
  interval = found["miou_interval"]
  # k of 40 drawn pictures are right; 95 % of k lie in 14 to 26.
  miou = lambda k: (8 * k / (320 + 2 * (40 - k)) + 2 * k / (80 + 8 * (40 - k))) / 2
  assert miou(13) <= interval["low"] <= miou(15) and miou(25) <= interval["high"] <= miou(27)
  assert interval["resamples"] == 1000 and interval["pictures"] == 40
  assert f"{100 * interval['low']:.2f} to {100 * interval['high']:.2f}" in text
  assert "are few" not in text and json.loads(json.dumps(found)) == found


def test_what_few_pictures_mean_is_said():
  text = table.format_report(full_result(4), CLASSES, title="val", places={})
  assert "NOTE 4 pictures are few: the interval is too narrow" in text
  one = run.Evaluation(np.diag([3, 1, 0, 0]), [], 1, np.ones((1, 3, 4), int))
  assert "NOTE one picture" in table.format_report(one, CLASSES, title="val", places={})
  assert report.describe(one, CLASSES, {})["miou_interval"] is None


@pytest.mark.parametrize(
  "known, said",
  [
    ({"commit": "ab12", "changed": False}, "ab12"),
    ({"commit": "ab12", "changed": True}, "ab12 + changes"),
    ({"commit": None, "changed": None}, "unknown"),
    ({}, "unknown"),
  ],
)
def test_the_commit_is_said_or_that_it_is_unknown(known, said):
  assert report.commit(known) == said


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
    "scales": [1.0], "flip": False, "whole": "as_is", "border": "shifted", "multiple": 0,
    "summed": "probabilities", "several_sizes": ""}  # fmt: skip
  assert found["split"]["sha256"] == IdList("other name", ("a", "b")).sha256
  assert found["checkpoint_step"] == 5 and found["pictures"] == 7
  assert found["config"] == {"data": {"crop": [3, 4]}} and found["versions"] == {"jax": "1"}
  assert found["provenance"]["commit"] == "unknown"
  assert found["confusion"][0] == [90, 5, 0, 5]


def test_result_files_are_told_apart_by_name(tmp_path):
  names = {report.write_result(tmp_path, fields, how)
           for how, fields in [described(), described(), described("other"),
                               described(fingerprint="0" * 64)]}  # fmt: skip
  assert len(names) == 3 == len(list((tmp_path / "evaluations").iterdir()))
  assert any("painted_00000000_lists_val_set.txt_step_5_network_mean_slide_8x8" in n for n in names)
