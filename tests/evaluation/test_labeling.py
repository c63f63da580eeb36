"""Stored labels are what `predict` says; their confidence, what numpy makes of the windows."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from configs import cps_toy
from semiseg_jax import label, predict, seals, sharding
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.targets import METADATA, Targets
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import inference, labeling, placing
from semiseg_jax.labels import IGNORE
from semiseg_jax.training import experiment
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import small_city

WINDOW, STRIDE, SIZE = (24, 32), (10, 16), (40, 48)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(config, work directory) of two untrained networks that evaluate in windows."""
  folder = tmp_path_factory.mktemp("run")
  small_city.write(folder / "data", pictures=6, val=1, size=SIZE)
  config = small_city.config(folder / "data", "ratio=1_4", data__unlabeled="all")
  config.model = cps_toy.get_config().model  # fine maps: labels and confidence vary in a window
  config.eval.mode, config.eval.window, config.eval.stride = "slide", WINDOW, STRIDE
  method = experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)
  state = experiment.initial_state(config, method, experiment.make_optimizer(config, method))
  # Fresh networks say one class everywhere; stronger kernels make the labels vary.
  state = dataclasses.replace(state, params=jax.tree.map(lambda x: 1.4 * x, state.params))
  info = Dataset.open(folder / "data").info
  about = {k: getattr(info, k) for k in ("name", "classes", "colors", "channels", "fingerprint")}
  nets = experiment.describe_nets(method, method.evaluated)
  saved = Checkpoints(folder / "work")
  saved.save(state, {"config": config.to_dict(), "dataset": about, **nets}, None)
  saved.close()
  return config, folder / "work"


@pytest.fixture(scope="module")
def stored(run, tmp_path_factory):
  config, work = run
  root = tmp_path_factory.mktemp("root")
  labeling.store_labels(config, str(work), str(root))
  return root


def _values(folder):
  """id -> (label, confidence) as they are stored."""
  targets, found = Targets.open(folder), {}
  for id_ in targets.info.ids:
    maps = targets.record(id_).window(0, 0, *SIZE)
    found[id_] = maps["target"].values, maps["confidence"].values
  return found


def test_every_unlabeled_picture_is_there_with_its_origin(run, stored):
  config, _ = run
  info = Targets.open(stored / "targets").info
  dataset = Dataset.open(config.data.root)
  assert info.ids == tuple(dataset.info.lists["train"])  # data.unlabeled='all'
  assert info.dataset == dataset.info.fingerprint
  assert (info.about["run"], info.about["step"]) == (config.name, 0)
  assert info.about["protocol"]["window"] == list(WINDOW)


def test_labels_are_those_of_predict(run, stored):
  config, work = run
  predictor, dataset = (
    predict.load_predictor(str(work), network="mean"),
    Dataset.open(config.data.root),
  )
  classes = set()
  for id_, (found, _) in _values(stored / "targets").items():
    expected = predictor(dataset.read(dataset.index(id_)).image)
    np.testing.assert_array_equal(found, expected)
    classes |= set(np.unique(found).tolist())
  assert len(classes) > 1


def test_confidence_is_the_mean_probability_over_the_windows(run, stored):
  config, work = run
  forward = inference.make_forward(inference.load_trained(work), "mean")
  dataset = Dataset.open(config.data.root)
  corners = placing.plan(SIZE, WINDOW, STRIDE)
  assert len(corners) == 6
  height, width = WINDOW
  for id_, (_, confidence) in _values(stored / "targets").items():
    image = dataset.read(dataset.index(id_)).image
    total, count = np.zeros((*SIZE, 3)), np.zeros(SIZE)
    for y, x in corners:
      part = image[None, y : y + height, x : x + width]
      # The batch of the evaluation, so that no other program is compiled.
      part = np.concatenate([part, np.zeros_like(part)])
      valid = np.array([[0, 0, *WINDOW], [0, 0, 0, 0]], np.int32)
      p = np.asarray(forward(part, valid), np.float64)[0]
      np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
      total[y : y + height, x : x + width] += p
      count[y : y + height, x : x + width] += 1
    assert count.max() > 1
    expected = 255 * (total / count[..., None]).max(-1)
    # At most rounding from the float; not more than float32 sums can move it over a half.
    assert np.abs(confidence - expected).max() <= 0.5 + 1e-3
    assert len(np.unique(confidence)) > 10


@pytest.mark.slow
def test_labels_of_several_views_are_of_their_mean(run, tmp_path):
  """Mirrored by hand."""
  config, work = run
  labeler = labeling.Labeler(flip=True)
  config = config.copy_and_resolve_references()
  config.eval.mode, config.eval.batch = "whole", 1
  labeling.store_labels(config, str(work), str(tmp_path), labeler)
  assert Targets.open(tmp_path / "targets").info.about["protocol"]["flip"] is True
  forward = inference.make_forward(inference.load_trained(work), "mean")
  dataset, valid = Dataset.open(config.data.root), np.array([[0, 0, *SIZE]], np.int32)
  for id_, (found, confidence) in list(_values(tmp_path / "targets").items())[:3]:
    image = dataset.read(dataset.index(id_)).image[None]
    views = forward(image, valid), forward(image[:, :, ::-1].copy(), valid)
    p = (np.asarray(views[0]) + np.asarray(views[1])[:, :, ::-1])[0] / 2
    top = np.sort(p, -1)
    sure = top[..., -1] - top[..., -2] > 1e-4
    assert sure.mean() > 0.3 and np.abs(255 * (p - views[0][0])).max() > 2
    np.testing.assert_array_equal(found[sure], p.argmax(-1)[sure])
    assert np.abs(confidence - 255 * p.max(-1)).max() <= 0.5 + 1e-2


@pytest.mark.slow
def test_the_command_writes_what_a_stage_does(run, stored, tmp_path, capsys):
  _, work = run
  out = tmp_path / "labels"
  label.main([f"--workdir={work}", f"--out={out}"])
  one, two = (Targets.open(folder).info for folder in (stored / "targets", out))
  assert (one.fingerprint, one.about) == (two.fingerprint, two.about)
  assert f"--config.data.targets={out}" in capsys.readouterr().out
  with pytest.raises(SystemExit, match="label: .*labels exists"):
    label.main([f"--workdir={work}", f"--out={out}"])
  label.main([f"--workdir={work}", f"--out={out}", "--overwrite", "--unlabeled=rest"])
  assert len(Targets.open(out)) == 4


def test_labels_of_one_network_have_its_probability(run, tmp_path):
  config, work = run
  flags = ["--network=1", "--mode=whole", "--unlabeled=rest", "--topk=2", "--threshold", "1"]
  label.main([f"--workdir={work}", f"--out={tmp_path / 'one'}", *flags])
  assert Targets.open(tmp_path / "one").info.about["threshold"] == [1, 1, 1]
  forward = inference.make_forward(inference.load_trained(work), "1")
  dataset = Dataset.open(config.data.root)
  for id_, (found, confidence) in _values(tmp_path / "one").items():
    maps = Targets.open(tmp_path / "one").record(id_).window(0, 0, *SIZE)
    image = dataset.read(dataset.index(id_)).image[None]
    image = np.concatenate([image, np.zeros_like(image)])  # the batch of the evaluation
    valid = np.array([[0, 0, *SIZE], [0, 0, 0, 0]], np.int32)
    z = np.asarray(forward(image, valid), np.float64)[0]
    p = np.exp(z - z.max(-1, keepdims=True))
    p = 255 * p / p.sum(-1, keepdims=True)
    is_kept = found < IGNORE
    clear = np.abs(p.max(-1) - 254.5) > 1e-2
    np.testing.assert_array_equal(is_kept[clear], p.max(-1)[clear] > 254.5)
    assert (confidence == 255 * is_kept).all()
    np.testing.assert_array_equal(found[is_kept], p.argmax(-1)[is_kept])
    top = -np.sort(-p, -1)[..., :2]
    assert np.abs(maps["top_probabilities"].values - top).max() <= 0.5 + 1e-2
    np.testing.assert_array_equal(maps["top_classes"].values[..., 0], p.argmax(-1))


def test_a_whole_folder_is_left_alone(run, stored, monkeypatch):
  config, work = run
  folder = stored / "targets"
  before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}

  def never(*args):
    raise AssertionError("networks are read")

  monkeypatch.setattr(inference, "load_trained", never)
  labeling.store_labels(config, str(work), str(stored))
  assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before


@pytest.fixture
def copied(stored, tmp_path):
  """A copy of the stored labels that may be damaged."""
  return pathlib.Path(shutil.copytree(stored, tmp_path / "copied"))


@pytest.mark.parametrize("damage", ["metadata", "no shard", "cut shard"])
def test_damaged_labels_are_one_error(run, copied, damage):
  config, work = run
  folder: pathlib.Path = copied / "targets"
  (shard,) = folder.glob("*.array_record")
  if damage == "metadata":
    (folder / METADATA).write_text("{")
  elif damage == "no shard":
    shard.unlink()
  else:
    shard.write_bytes(shard.read_bytes()[:-100])
  with pytest.raises(DataError, match=r"damaged(.|\n)*make the targets again"):
    labeling.store_labels(config, str(work), str(copied))


def _edit(folder, edit):
  """Changes what labels tell of their origin."""
  saved = json.loads((folder / METADATA).read_text())
  edit(saved["about"])
  (folder / METADATA).write_text(json.dumps(seals.sealed(saved)))


OTHERWISE = {
  "views": (
    {"scales": (0.5, 1.0), "flip": True},
    r"scales: \[1.0\] then, \[0.5, 1.0\] now\n  flip: False then, True now\nSet the keys back",
  ),
  "rule": ({"step": "best"}, "checkpoint: 'last' then, 'best' now"),
  "windows": ({}, "eval.mode: 'slide' then, 'whole' now"),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_labels_that_were_made_in_another_way_are_one_error(run, copied, case):
  (config, work), (labeler, said) = run, OTHERWISE[case]
  config = config.copy_and_resolve_references()
  if case == "windows":
    config.eval.mode = "whole"
  with pytest.raises(DataError, match=rf"copied/targets holds labels(.|\n)*{said}"):
    labeling.store_labels(config, str(work), str(copied), labeling.Labeler(**labeler))


def test_labels_of_a_teacher_that_is_gone_are_one_error(run, copied):
  config, work = run
  labeling.store_labels(config, str(work), str(copied))
  _edit(copied / "targets", lambda about: about["checksums"].update(networks=1))
  with pytest.raises(
    DataError, match=r"checksums: \{'networks': 1\} then, \{'networks': \d+\} now"
  ):
    labeling.store_labels(config, str(work), str(copied))


def test_labels_of_earlier_versions_count_with_the_defaults(run, copied):
  config, work = run

  def older(about):
    del about["rule"], about["checksums"]
    for name in ("stack", "scales", "flip"):
      del about["protocol"][name]

  _edit(copied / "targets", older)
  labeling.store_labels(config, str(work), str(copied))
  with pytest.raises(DataError, match="flip: False then, True now"):
    labeling.store_labels(config, str(work), str(copied), labeling.Labeler(flip=True))
  _edit(copied / "targets", lambda about: about.update(step=5))
  with pytest.raises(DataError, match="checkpoint: 5 then, 0 now"):
    labeling.store_labels(config, str(work), str(copied))


def test_kept_labels_are_no_new_ones(run, copied):
  (config, work), options = run, {"unlabeled": "all", "relabel": False}
  shutil.copytree(copied / "targets", copied / "targets_reliable")
  with pytest.raises(DataError, match="relabel: True then, False now"):
    labeling.store_rest(config, str(work), str(copied), labeling.LAST, **options)
  _edit(copied / "targets", lambda about: about.update(kept={"pictures": 6}))
  labeling.store_rest(config, str(work), str(copied), labeling.LAST, **options)


@pytest.mark.parametrize("scale", ["1e-9", "0", "nan", "inf", "20", "x"])
def test_a_scale_that_leaves_nothing_of_a_picture_is_refused(scale, capsys):
  with pytest.raises(SystemExit):
    label.main(["--workdir=nowhere", "--out=nowhere", "--scales", "1", scale])
  assert f"{scale!r}: write a number from 0.1 to 10.0" in capsys.readouterr().err


def test_labels_of_another_list_or_dataset_are_one_error(run, copied, tmp_path):
  config, work = run
  other = config.copy_and_resolve_references()
  other.data.unlabeled = "val"
  with pytest.raises(DataError, match="lack 1 of 1 picture"):
    labeling.store_labels(other, str(work), str(copied))
  small_city.write(tmp_path / "other", pictures=6, val=1, size=SIZE, seed=1)
  other = config.copy_and_resolve_references()
  other.data.root = str(tmp_path / "other")
  with pytest.raises(DataError, match="were made for another dataset"):
    labeling.store_labels(other, str(work), str(copied))
