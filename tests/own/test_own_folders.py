"""Four folders as people have them, by the commands of the README, to predictions in their ids."""

import pathlib
import shlex

import numpy as np
import pytest
from PIL import Image

import semiseg_jax
from data_prep import folder
from semiseg_jax import predict
from semiseg_jax.data.dataset import Dataset
from tests.own import made

# Kind -> its pictures, the options that the README names for it, and those of predict.
OPTIONS = {
  "defects": ("parts", "--labels {}/masks --label_suffix _mask --label_values 0 255", "source"),
  "satellite": ("tiles", "--labels {}/masks --label_colors --value_range 0 4000", "train"),
  "medical": (r"scans", r"--labels {}/masks --class_masks --group 'p\d+'", "train"),
  "photos": ("album", "--labels {}/album", "source"),
}
FEW = {"defects": {"number": 16, "labeled": 6}, "medical": {"slices": 2}}


def _prepared(tmp_path, kind):
  root, out = tmp_path / kind, tmp_path / "data"
  truth = made.MADE[kind](root, **FEW.get(kind, {}))
  pictures, options, _ = OPTIONS[kind]
  options = options.format(shlex.quote(str(root)))
  folder.main(
    [f"--images={root / pictures}", f"--classes={root / 'classes.txt'}", f"--out={out}"]
    + ["--holdout", "0.2", *shlex.split(options)]
  )
  return truth, root / pictures, out


@pytest.mark.parametrize("kind", OPTIONS)
def test_labels_are_those_that_were_drawn(tmp_path, kind):
  truth, _, out = _prepared(tmp_path, kind)
  dataset = Dataset.open(out)
  assert set(dataset.info.ids) == set(truth)
  ids = np.array(dataset.info.source_ids or range(len(dataset.info.classes)))
  labeled = 0
  for index, name in enumerate(dataset.info.ids):
    example = dataset.read(index)
    assert example.image.shape[:2] == truth[name].shape, name
    if example.label is not None:
      np.testing.assert_array_equal(ids[example.label], truth[name], err_msg=name)
      labeled += 1
  assert labeled == {"defects": 6, "satellite": 6, "medical": 6, "photos": 6}[kind]
  groups = {name.partition("_")[0] for name in dataset.info.lists["val"]}
  if kind == "medical":
    assert not groups & {name.partition("_")[0] for name in dataset.info.lists["train"]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIONS)
def test_predictions_have_the_users_names_sizes_and_ids(tmp_path, kind):
  truth, pictures, out = _prepared(tmp_path, kind)
  config = semiseg_jax.load_config(
    f"configs/own.py:root={out},weights=none,budget=laptop,method=supervised,backbone=tiny",
    "train.steps=2",
    "train.batch_labeled=2",
    "model.head=fcn",
    "data.crop=(32,32)",
    "data.workers=0",
    "eval.pictures=0",
  )
  assert config.data.mean == tuple(np.float64(Dataset.open(out).info.mean))
  result = semiseg_jax.train(config, str(tmp_path / "run"))
  assert result.complete
  where = [f"--workdir={result.workdir}", f"--images={pictures}", f"--out={tmp_path / 'labeled'}"]
  predict.main([*where, f"--ids={OPTIONS[kind][2]}"])
  written = {p.stem: _ids(p) for p in pathlib.Path(tmp_path / "labeled/labels").glob("*.png")}
  assert written.keys() == truth.keys()
  known = set(np.unique(np.concatenate([ids.ravel() for ids in truth.values()])).tolist())
  for name, ids in written.items():
    assert ids.shape == truth[name].shape and set(np.unique(ids).tolist()) <= known, name


def _ids(path):
  return np.asarray(Image.open(path))
