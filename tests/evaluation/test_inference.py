"""Networks read back from a workdir, and the scores they give."""

import dataclasses
import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax import seals, sharding
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.evaluation import described, inference, mapping, protocol
from semiseg_jax.evaluation.maps import Wanted
from semiseg_jax.models.layers import Mode
from semiseg_jax.training import experiment, initial_weights, normalization
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import small_city
from tests.small_network import upsampled

DATASET = {"name": "small_city", "classes": ["ground", "disc", "box"], "channels": 3}
SIZE = (24, 16)


def _save(workdir, scores):
  """Writes checkpoints {step: mIoU or None}, all numbers moved by 0.01 per step."""
  config = small_city.config("data")
  method = experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)
  state = experiment.initial_state(config, method, experiment.make_optimizer(config, method))
  nets = experiment.describe_nets(method, method.evaluated)
  meta = {"config": config.to_dict(), "dataset": DATASET, **nets}
  checkpoints = Checkpoints(workdir, keep=9)
  for step, miou in scores.items():
    params, stats = (
      jax.tree.map(lambda x, step=step: x + np.float32(0.01 * step), tree)
      for tree in (state.params, state.stats)
    )
    step = jnp.asarray(step, jnp.int32)
    saved = dataclasses.replace(state, step=step, params=params, stats=stats)
    checkpoints.save(saved, meta, miou)
  checkpoints.close()
  return state


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  return folder, _save(folder, {2: 0.9, 4: None, 6: 0.1})


@pytest.mark.parametrize("asked, step", [("last", 6), ("best", 2), (4, 4), ("4", 4)])
def test_last_best_or_a_number(run, asked, step):
  workdir, initial = run
  trained = inference.load_trained(workdir, asked)
  assert (trained.step, trained.n, trained.dataset) == (step, 2, DATASET)
  assert trained.config.method.networks == 2
  found = (trained.params, trained.batch_stats)
  expected = (initial.params, initial.stats)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_array_equal(a, np.asarray(b) + np.float32(0.01 * step))


def test_a_step_that_is_not_there_is_refused_with_those_that_are(run):
  with pytest.raises(CheckpointError, match=r"no step 3; there are \[2, 4, 6\]"):
    inference.load_trained(run[0], 3)


@pytest.mark.parametrize("asked", ["newest", "", "-1", "4.0"])
def test_a_word_that_is_no_step_is_refused(run, asked):
  with pytest.raises(CheckpointError, match="has no step"):
    inference.load_trained(run[0], asked)


def test_best_without_an_evaluation_is_refused(tmp_path):
  _save(tmp_path, {2: None})
  with pytest.raises(CheckpointError, match=r"was evaluated: use step 'last' or one of \[2\]"):
    inference.load_trained(tmp_path, "best")


def _other_meta(monkeypatch, change):
  read = Checkpoints.meta

  def other(self, step):
    meta = read(self, step)
    change(meta)
    return meta

  monkeypatch.setattr(Checkpoints, "meta", other)


def test_keys_and_networks_that_an_older_checkpoint_does_not_tell_are_those_of_its_time(
  run, monkeypatch
):
  def older(meta):
    del meta["nets"], meta["evaluated"], meta["config"]["model"]["remat"]
    del meta["config"]["eval"]["pictures"]

  expected = inference.load_trained(run[0])
  _other_meta(monkeypatch, older)
  found = inference.load_trained(run[0])
  assert (found.config.model.remat, found.config.eval.pictures) == ("none", 8)
  for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_network_with_keys_of_another_version_is_refused(run, monkeypatch):
  def newer(meta):
    meta["nets"]["networks"][0]["model"] |= {"newkey": 3}

  _other_meta(monkeypatch, newer)
  with pytest.raises(CheckpointError, match="made with model.newkey=3, which this version does"):
    inference.load_trained(run[0])


@pytest.mark.parametrize("part", ["dataset", "nets"])
def test_a_meta_that_lacks_a_part_is_refused(run, monkeypatch, part):
  def less(meta):
    del meta[part], meta["stacks"]

  _other_meta(monkeypatch, less)
  lacks = "dataset" if part == "dataset" else "stacks"
  with pytest.raises(CheckpointError, match=f"its meta lacks {lacks}"):
    inference.load_trained(run[0])


@pytest.mark.parametrize("block", ["model", "data", "eval"])
def test_a_config_without_a_block_is_refused(run, monkeypatch, block):
  _other_meta(monkeypatch, lambda meta: meta["config"].pop(block))
  with pytest.raises(CheckpointError, match=f"config cannot be read .*'{block}'"):
    inference.load_trained(run[0])


@pytest.mark.parametrize(
  "text", ["", '{"stages": ["1_tea', "[]", '{"stages": []}', '{"stages": 3}']
)
def test_stages_that_cannot_be_read_are_refused(tmp_path, text):
  (tmp_path / "stages.json").write_text(text)
  with pytest.raises(CheckpointError, match="stages.json is damaged: start the command"):
    inference.find_checkpoint(str(tmp_path), "last")


def test_a_folder_without_checkpoints_is_refused(tmp_path):
  with pytest.raises(CheckpointError, match="is --workdir the folder that a training run wrote"):
    inference.load_trained(tmp_path)
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(CheckpointError, match="holds no finished checkpoint yet"):
    inference.load_trained(tmp_path)


@pytest.fixture(scope="module")
def trained(run):
  return inference.load_trained(run[0])


@pytest.fixture(scope="module")
def pictures():
  rng = np.random.default_rng(0)
  valid = np.array([[0, 0, *SIZE], [0, 0, 15, 11]], np.int32)
  return rng.integers(0, 256, (2, *SIZE, 3), dtype=np.uint8), valid


@pytest.fixture(scope="module")
def logits(trained, pictures):
  """Of both networks at window size, each run on its own."""
  images, valid = pictures
  config, network = trained.config, trained.members[0].stack.network
  x = (images / 255 - np.array(config.data.mean)) / np.array(config.data.std)
  for row, (_, _, y1, x1) in zip(x, valid):
    row[y1:], row[:, x1:] = 0, 0

  @jax.jit
  def one(params, stats, x):
    features, _ = network.encode(params, stats, x, Mode("eval"))
    return network.decode(params, stats, features, Mode("eval"))[0]["logits"]

  found = []
  for k in range(2):
    trees = (trained.params["networks"], trained.batch_stats["networks"])
    copy = jax.tree.map(lambda leaf, k=k: leaf[k], trees)
    low = np.asarray(one(*copy, jnp.asarray(x, jnp.float32)))
    found.append(upsampled(low.astype(np.float64), SIZE))
  return np.stack(found)


@pytest.mark.parametrize("network", ["0", "1"])
def test_one_network_gives_its_logits(trained, pictures, logits, network):
  scores = inference.make_forward(trained, network)(*pictures)
  assert scores.shape == (2, *SIZE, 3) and scores.dtype == jnp.float32
  np.testing.assert_allclose(scores, logits[int(network)], rtol=1e-3, atol=1e-4)


def test_the_networks_differ(logits):
  assert np.abs(logits[0] - logits[1]).max() > 0.1


def test_mean_is_the_mean_of_the_softmax(trained, pictures, logits):
  scores = inference.make_forward(trained, "mean")(*pictures)
  e = np.exp(logits - logits.max(-1, keepdims=True))
  np.testing.assert_allclose(scores, (e / e.sum(-1, keepdims=True)).mean(0), atol=1e-4)


def test_probabilities_stand_beside_scores_that_stay_as_they_are(trained, pictures, logits):
  e = np.exp(logits - logits.max(-1, keepdims=True))
  p = e / e.sum(-1, keepdims=True)
  made = lambda network, **how: np.asarray(
    inference.make_forward(trained, network, **how)(*pictures)
  )
  alone, every = made("1"), made("1", beside="networks")
  np.testing.assert_array_equal(every[..., :3], alone)
  np.testing.assert_allclose(every[..., 3:], np.concatenate([p[0], p[1]], -1), atol=1e-4)
  own = made("1", beside="probabilities")
  np.testing.assert_array_equal(own[..., :3], alone)
  np.testing.assert_allclose(own[..., 3:], p[1], atol=1e-4)
  mean = made("mean", beside="networks")
  np.testing.assert_allclose(mean, np.concatenate([p.mean(0), p[0], p[1]], -1), atol=1e-4)


def test_maps_that_a_run_does_not_have():
  one = types.SimpleNamespace(n=1, names="tiny", dataset={"classes": ["a", "b"]})
  how = protocol.Protocol("whole", None, None, 1, "0")
  with pytest.raises(ConfigError, match=r"disagreement: this run has one network \(tiny\)"):
    mapping.segmenter(one, how, Wanted(disagreement=True))
  with pytest.raises(ConfigError, match="--topk 3: the run has 2 classes"):
    mapping.segmenter(one, how, Wanted(top=3))


def test_logits_of_several_networks_are_averaged_on_request(trained, pictures, logits):
  scores = inference.make_forward(trained, "0,1", summed="logits")(*pictures)
  np.testing.assert_allclose(scores, logits.mean(0), rtol=1e-3, atol=1e-4)


def test_pictures_are_resized_to_multiples_and_logits_back(trained, pictures):
  images, valid = pictures
  images, valid = images[:1], valid[:1]
  found = inference.make_forward(trained, "1", multiple=10)(images, valid)
  config = trained.config
  x = (images / 255 - np.array(config.data.mean)) / np.array(config.data.std)
  small = upsampled(x, (20, 20))  # 24 -> 20, 16 -> 20
  network = trained.members[0].stack.network
  copy = jax.tree.map(
    lambda leaf: leaf[1], (trained.params["networks"], trained.batch_stats["networks"])
  )

  @jax.jit
  def low(x):
    features, _ = network.encode(*copy, x, Mode("eval"))
    return network.decode(*copy, features, Mode("eval"))[0]["logits"]

  expected = upsampled(np.asarray(low(jnp.asarray(small, jnp.float32)), np.float64), (20, 20))
  np.testing.assert_allclose(found, upsampled(expected, SIZE), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("network", ["2", "-1", "average", ""])
def test_no_such_network(trained, network):
  with pytest.raises(ConfigError, match="0 to 1, or 'mean'"):
    inference.make_forward(trained, network)


def test_a_stack_of_one_has_network_0_only(trained):
  single, _, _ = trained.network(1)
  with pytest.raises(ConfigError, match="0 to 0, or 'mean'"):
    inference.make_scores(trained.config, [single], "1")


# What was damaged after it was written.


@pytest.fixture
def damaged(run, tmp_path):
  """A copy of the run, in the description of whose last step one value is another."""
  folder = shutil.copytree(run[0], tmp_path / "damaged")
  file = folder / "checkpoints" / "6" / "meta" / "metadata"
  text = file.read_text()
  assert text.count("0.485") == 1
  file.write_text(text.replace("0.485", "0.585"))  # the mean of red
  return folder


READERS = {
  "predict, evaluate, export, labels, gate, teachers": inference.load_trained,
  "best": lambda folder: inference.load_trained(folder, "best"),
  "origin of labels": lambda folder: inference.find_checkpoint(folder, "last"),
  "normalization of init_from": lambda folder: normalization.choose(
    small_city.config("data", init_from=str(folder)), types.SimpleNamespace(statistics=None)
  ),
  "init_from": lambda folder: initial_weights.start_from(
    str(folder), types.SimpleNamespace(members={"networks": _members()}), None
  ),
}


def _members():
  config = small_city.config("data")
  return experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3).members[
    "networks"
  ]


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_takes_a_description_that_was_not_written(damaged, reader):
  said = "is not known: step 6" if reader == "best" else "6 is damaged: .*Step 4 is whole: take"
  with pytest.raises(CheckpointError, match=said):
    READERS[reader](damaged)
  assert inference.load_trained(damaged, 4).step == 4


@pytest.mark.parametrize("text", ["1_teacher", "2_studenu"])
def test_stages_that_were_not_written_are_refused(tmp_path, text):
  named = json.dumps(seals.sealed({"stages": ["1_teacher", "2_student"]}))
  (tmp_path / "stages.json").write_text(named)
  assert described.last_stage(tmp_path) == tmp_path / "2_student"
  (tmp_path / "stages.json").write_text(named.replace("2_student", text))
  with pytest.raises(CheckpointError, match="stages.json is damaged: start the command"):
    described.last_stage(tmp_path)
