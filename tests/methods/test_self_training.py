"""The student's loss against loops in numpy, and the stages as the config asks for them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cps_toy
from semiseg_jax import train
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import labeling
from semiseg_jax.methods import contract
from semiseg_jax.ops.cutout import draw_cutout
from semiseg_jax.ops.keys import example_keys
from tests import small_network
from tests.small_network import MEAN, STD, batch, copy, forward, normalized, upsampled, variables

CLASSES, SIZE, ROWS, KEY = 4, (8, 6), 4, jax.random.key(0)
# Title -> keys of `method`, keys of its own block.
CASES = {
  "plain": ({"networks": 2}, {}),
  "threshold": ({"networks": 2}, {"threshold": 0.4}),
  "groups": ({"loss_group": 2}, {"threshold": 0.35}),
  "mixed": ({"networks": 2}, {"mixed": True, "threshold": 0.4}),
  "cutout": ({}, {"cutout_p": 0.5, "mixed": True}),
}


def _config(changes, options):
  c = schema.default()
  c.data.mean, c.data.std = tuple(MEAN), tuple(STD)
  c.method.update({"name": "self_training", "networks": 1, "weight": 1.7, **changes})
  c.method.self_training.update({"strong": False, **options})
  return c


def _batch():
  b = batch(("labeled", "unlabeled"), size=SIZE, rows=ROWS, classes=CLASSES)
  b["labeled"]["label"][0, :3] = 255
  rng = np.random.default_rng(3)
  b["unlabeled"]["target"] = rng.integers(0, CLASSES, (ROWS, *SIZE), np.uint8)
  b["unlabeled"]["target"][1, 2:] = 255
  b["unlabeled"]["confidence"] = rng.integers(0, 256, (ROWS, *SIZE), np.uint8)
  b["unlabeled"]["confidence"][:, 3] = 89  # what is stored of 0.35
  return b


def _picked(p, y):
  """-log p of the labels [B,H,W], and where there are any."""
  used = y != 255
  chosen = np.take_along_axis(p, np.where(used, y, 0)[..., None], -1)[..., 0]
  return np.where(used, -np.log(chosen), 0), used


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def _expected(c, params, stats, b, box, noise):
  """The loss, its unlabeled term and the statistics of each network."""
  o, lam = c.method.self_training, c.method.weight
  y_hat = b["unlabeled"]["target"].copy()
  y_hat[b["unlabeled"]["confidence"] < np.rint(255 * o.threshold)] = 255
  y_hat[box] = 255
  x_u = normalized(b["unlabeled"])
  x_u[box] = ((np.floor(255 * noise) / 255 - MEAN) / STD)[box]
  x_l, group = normalized(b["labeled"]), c.method.loss_group or ROWS
  total, pseudo, moved = 0.0, 0.0, []
  for k in range(c.method.networks):
    net = copy(params["networks"], k), copy(stats["networks"], k)
    if o.mixed:
      both, after = forward(*net, np.concatenate([x_l, x_u]), "train")
      logits = np.split(both, 2)
    else:
      first, after = forward(*net, x_l, "train")
      second, after = forward(net[0], after, x_u, "train")
      logits = first, second
    moved.append(after)
    p = [_softmax(upsampled(z, SIZE)) for z in logits]
    pairs = [_picked(p[0], b["labeled"]["label"]), _picked(p[1], y_hat)]
    cut = lambda x: [x[i : i + group].sum() for i in range(0, ROWS, group)]
    (sum_l, n_l), (sum_u, n_u) = ([np.array(cut(x), float) for x in pair] for pair in pairs)
    L_u = (sum_u / n_u).mean()
    pseudo += L_u
    if o.mixed:
      total += ((sum_l + lam * sum_u) / (n_l + n_u)).mean()
    else:
      total += (sum_l / n_l).mean() + lam * L_u
  return total, pseudo, jax.tree.map(lambda *leaves: np.stack(leaves), *moved)


@pytest.mark.parametrize("case", CASES)
def test_the_loss(case):
  c, b = _config(*CASES[case]), _batch()
  method = small_network.method(c, classes=CLASSES)
  params, stats = variables(method)

  @jax.jit
  def run(params):
    keys = example_keys(KEY, "unlabeled/cutout", jnp.arange(ROWS))
    p = c.method.self_training.cutout_p
    drawn = draw_cutout(keys, size=SIZE, channels=3, probability=p)
    return method.loss(params, stats, {}, b, KEY, 0, frozenset()), drawn

  (total, out), (box, noise) = jax.device_get(run(params))
  if case == "cutout":
    assert 0 < box.any((1, 2)).sum() < ROWS, "choose another key: some boxes, not all"
  expected = _expected(c, params, stats, b, box, noise)
  np.testing.assert_allclose(total, expected[0], rtol=1e-4)
  np.testing.assert_allclose(out.metrics["pseudo_supervised"][0], expected[1], rtol=1e-4)
  small_network.close(out.stats["networks"], expected[2], rtol=1e-4, atol=1e-5)


def _stages(val="val", compat=(), **options):
  c = _config({"compat": compat}, options)
  c.data.root, c.data.labeled, c.data.val, c.train.steps = "data", "labeled", val, 100
  rules.validate(c)
  return contract.stages(c)


def test_stages_of_st():
  teacher, student = _stages(steps=(30,), teacher_batch=16)
  assert (teacher.name, student.name) == ("1_teacher", "2_student")
  changes = {"method.name": "supervised", "train.steps": 30, "train.batch_labeled": 16}
  assert changes.items() <= teacher.changes.items()
  assert student.changes == {"data.targets": "{workdir}/targets"} and student.then is None
  assert teacher.then.func is labeling.store_labels


def test_the_published_choice_of_a_checkpoint():
  teacher, _ = _stages(compat=("best_on_validation",))
  assert teacher.then.keywords["labeler"].step == "best"


def test_stages_of_st_plus_plus():
  teacher, first, last = _stages(ranked=True, checkpoints=4, reliable=0.3, scales=(0.5, 1.0))
  assert teacher.changes["checkpoint.spaced"] == 4 and teacher.changes["train.steps"] == 100
  labeler = labeling.Labeler("last", (0.5, 1.0), False)
  assert teacher.then.keywords == {"labeler": labeler, "checkpoints": 4, "share": 0.3}
  assert first.changes == {
    "data.targets": "{workdir}/targets_reliable",
    "data.unlabeled": "stored",
    "train.steps": 100,
  }
  assert first.then.keywords == {"labeler": labeler, "unlabeled": "rest", "relabel": False}
  assert last.changes == {"data.targets": "{workdir}/targets"}


@pytest.mark.parametrize(
  "options, said",
  [
    ({"steps": (5, 5)}, "steps=.5, 5.: 1, of all stages but the last"),
    ({"steps": (5,), "ranked": True}, "steps=.5,.: 2, of all stages but the last"),
    ({"ranked": True, "checkpoints": 1}, "checkpoints=1"),
    ({"ranked": True, "reliable": 1.0}, "reliable=1.0"),
    ({"checkpoints": 5}, "method.self_training.ranked=False does not read it"),
    ({"scales": ()}, "scales=.*: one or more"),
    ({"scales": (1e-9,)}, "scales=.*: numbers, each 0.1 or more, each at most 10.0"),
    ({"scales": (1.0, 11.0)}, "scales=.*: numbers, each 0.1 or more, each at most 10.0"),
    ({"compat": ("best_on_validation",), "val": ""}, "the best score takes a list, data.val"),
  ],
)
def test_options_that_cannot_be(options, said):
  with pytest.raises(ConfigError, match=said):
    _stages(**options)


GIVEN = "data.targets='labels'"


@pytest.mark.parametrize(
  "options, compat, said",
  [
    ({"ranked": True}, (), f"ranked=True: {GIVEN} gives the labels.*; set it to False, or"),
    ({}, ("best_on_validation",), f"method.compat=.*: {GIVEN} gives the labels.*; set it to"),
    ({"scales": (0.5, 1.0)}, (), rf"scales=.0.5, 1.0.: {GIVEN} does not read.*leave it at .1.0,."),
    ({"flip": True}, (), f"flip=True: {GIVEN} does not read it; leave it at False"),
    ({"steps": (5,)}, (), f"steps=.5,.: {GIVEN} does not read it; leave it at .."),
    ({"teacher_batch": 2}, (), f"teacher_batch=2: {GIVEN} does not read it; leave it at 0"),
    ({"relabel": True}, (), "relabel=True: method.self_training.ranked=False does not read it"),
  ],
)
def test_given_labels_take_no_keys_of_the_stages_before(options, compat, said):
  c = _config({"compat": compat}, options)
  c.data.root, c.data.labeled, c.data.val, c.train.steps = "data", "labeled", "val", 100
  c.data.targets = "labels"
  (line,) = rules.faults(c)
  assert re.search(said, line)


def test_a_student_that_is_a_stage_keeps_them():
  c = _config({"compat": ("best_on_validation",)}, {"ranked": True, "flip": True})
  c.data.root, c.data.labeled, c.data.val, c.train.steps = "data", "labeled", "val", 100
  for config in train.stage_configs(c, "runs/st")[1:]:
    assert config.data.targets and config.method.self_training.flip
    assert config.method.self_training.ranked and config.method.compat
    assert rules.faults(config, stage=True) == []


def test_the_row_of_st_plus_plus_does_not_train_on_given_labels():
  c = cps_toy.get_config("method=st_plus_plus")
  c.data.targets = "labels"
  with pytest.raises(ConfigError, match=f"ranked=True: {GIVEN} gives the labels"):
    train.train(c, "unused")
