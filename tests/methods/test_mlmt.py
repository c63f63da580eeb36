"""MLMT against loops in numpy: both losses, lambda over the epochs, what the teacher is."""

import json
import re

import jax
import numpy as np
import pytest

from configs import mlmt_toy
from semiseg_jax import evaluate, train
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import inference
from semiseg_jax.methods import contract, mlmt
from tests import small_city, small_network
from tests.configs.files import of_file
from tests.golden_files import golden
from tests.small_network import batch, copy, forward, normalized, variables

CLASSES, SIZE, ROWS = 4, (8, 6), 3
EPOCH, EPOCHS = 2, 100  # steps of an epoch


def _config(**changes):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.model.head = "classifier"
  c.method.update({"name": "mlmt", "networks": 2, "weight": 1.7})
  c.method.weight_ramp_steps = EPOCH * EPOCHS // 2
  c.method.mlmt.update(start=10 * EPOCH, epoch=EPOCH, decay=0.6)
  c.method.update(changes)
  c.data.strong.update(order=("gray",), gray_p=1.0)
  return c


def _method(config):
  return small_network.method(config, classes=CLASSES)


def _gray(pictures):
  weights = np.array((19595, 38470, 7471))
  gray = (pictures.astype(np.int64) @ weights + 0x8000) >> 16
  return np.repeat(gray[..., None], 3, -1).astype(np.uint8)


def _batch(method):
  b = batch([stream.name for stream in method.streams], rows=ROWS, classes=CLASSES)
  label = b["labeled"]["label"]
  label[0] = 255  # no labeled pixel: which classes it has is not known
  label[1] = 255
  label[1, 2:4], label[1, 5] = 3, 1
  label[2][label[2] == 2] = 0
  return b


def _published_weight(epoch):
  return 0.0 if epoch <= 10 else min(1.0, (epoch - 10) * 2 / EPOCHS)


class Reference:
  """Network k in float64: the terms of the loss and the statistics after it."""

  def __init__(self, params, stats, b, k, on_labeled):
    self.params = {name: copy(tree, k) for name, tree in params.items()}
    self.stats = {name: copy(tree, k) for name, tree in stats.items()}
    z = self.run("networks", b["labeled"])
    strong = self.run("networks", {**b["unlabeled"], "image": _gray(b["unlabeled"]["image"])})
    if on_labeled:
      self.run("teacher", b["labeled"])
    weak = self.run("teacher", b["unlabeled"])
    terms = []
    for row, label in zip(z, b["labeled"]["label"]):
      if (label == 255).all():
        continue
      for c, logit in enumerate(row):
        p = 1 / (1 + np.exp(-logit))
        terms.append(-np.log(p) if (label == c).any() else -np.log(1 - p))
    self.supervised = np.mean(terms)
    cosines = [s @ t / np.linalg.norm(s) / np.linalg.norm(t) for s, t in zip(strong, weak)]
    self.consistency = 1 - np.mean(cosines)

  def run(self, name, stream):
    x = normalized(stream)
    logits, self.stats[name] = forward(self.params[name], self.stats[name], x, "train")
    return logits.mean((1, 2))


def test_golden_schedule_and_decay():
  g = golden("s4gan_losses")
  epochs = len(g["mlmt_w_cons"])
  config = of_file("mlmt_voc")()
  epoch = config.method.mlmt.epoch
  assert config.train.steps == epochs * epoch
  found = [mlmt.consistency_weight(config, np.int32(k * epoch)) for k in range(epochs)]
  np.testing.assert_allclose(found, g["mlmt_w_cons"], rtol=1e-6)
  decay = mlmt.nets(config)[1].decay  # of step t, the first of which is 0
  found = [decay(t - 1) for t in g["mlmt_ema_steps"]]
  np.testing.assert_allclose(found, g["mlmt_ema_decay"], rtol=1e-6)


@pytest.fixture(scope="module", params=[(), ("teacher_on_labeled",)], ids=["default", "compat"])
def traced(request):
  """The method, what it is run on, and its loss and gradient at a step."""
  method = _method(_config(compat=request.param))
  (params, stats), b = variables(method), _batch(method)
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
  key, phase = jax.random.key(0), frozenset()
  at = lambda t: run(params, stats, {}, b, key, np.int32(t), phase)
  return method, params, stats, b, at


@pytest.mark.slow
def test_the_loss_and_the_statistics(traced):
  method, params, stats, b, at = traced
  (total, out), gradient = at(70)
  on_labeled = bool(method.config.method.compat)
  refs = [Reference(params, stats, b, k, on_labeled) for k in range(2)]
  supervised, consistency = (
    sum(getattr(r, n) for r in refs) for n in ("supervised", "consistency")
  )
  found = [out.metrics[f"supervised_{k}"][0] for k in range(2)]
  np.testing.assert_allclose(found, [r.supervised for r in refs], rtol=1e-4)
  np.testing.assert_allclose(out.metrics["consistency"][0], consistency, rtol=1e-4)
  weight = 1.7 * _published_weight(70 // EPOCH)
  assert 0.5 < weight < 1.7
  np.testing.assert_allclose(total, supervised + weight * consistency, rtol=1e-4)
  moved = jax.tree.map(lambda *x: np.stack(x), *(r.stats for r in refs))
  small_network.close(out.stats, moved, rtol=1e-4, atol=1e-5)
  assert not any(np.any(g) for g in jax.tree.leaves(gradient["teacher"]))
  assert all(np.any(g) for g in jax.tree.leaves(gradient["networks"]))


def test_lambda_changes_with_the_epochs_as_published(traced):
  *_, at = traced
  steps = (0, 20, 21, 22, 23, 24, 118, 119, 120, 150, 199)
  found = [at(t)[0][1].metrics["consistency_weight"][0] for t in steps]
  expected = [1.7 * _published_weight(t // EPOCH) for t in steps]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert expected[2] == 0 and expected[3] == expected[4] == pytest.approx(1.7 * 0.02)
  assert expected[7] < expected[8] == 1.7


def test_the_teacher_starts_with_the_backbone_and_a_head_of_its_own():
  method = _method(_config())
  for before, tree in zip(variables(method), method.start(*variables(method))):
    student, teacher = tree["networks"], tree["teacher"]
    pairs = zip(jax.tree.leaves(teacher["encoder"]), jax.tree.leaves(student["encoder"]))
    assert all((a == b).all() and a is not b for a, b in pairs)
    pairs = zip(jax.tree.leaves(teacher["decoder"]), jax.tree.leaves(before["teacher"]["decoder"]))
    assert all((a == b).all() for a, b in pairs)
    pairs = zip(jax.tree.leaves(teacher["decoder"]), jax.tree.leaves(student["decoder"]))
    assert all((a != b).any() for a, b in pairs)


def test_the_teacher_follows_from_one_half_on_and_keeps_its_statistics():
  method = _method(_config())
  params, stats = variables(method)
  for step, a in ((0, 0.5), (1, 0.6), (9, 0.6)):
    found, new, _ = method.after_update(params, stats, {}, step)
    mean = lambda t, s, a=a: a * np.float64(t) + (1 - a) * s
    expected = jax.tree.map(mean, params["teacher"], params["networks"])
    small_network.close(found["teacher"], expected, rtol=1e-5, atol=1e-7)
    small_network.close(new["teacher"], stats["teacher"], rtol=0, atol=0)
  (teacher,) = (net for net in _method(_of_decay(0.999)).nets if net.role == "average")
  found = [float(teacher.decay(t)) for t in (0, 1, 2, 5000)]
  np.testing.assert_allclose(found, [1 / 2, 2 / 3, 3 / 4, 0.999], rtol=1e-6)


def _of_decay(decay):
  c = _config()
  c.method.mlmt.decay = decay
  return c


@pytest.mark.slow
def test_a_run_is_scored_by_the_classes_of_pictures(tmp_path):
  small_city.write(tmp_path / "data")
  c = mlmt_toy.get_config("ratio=1_4")
  c.data.root, c.data.prepare, c.data.crop = str(tmp_path / "data"), "", (16, 24)
  c.data.strong.order = ("gray",)
  c.train.steps, c.train.batch_labeled, c.train.batch_unlabeled = 4, 2, 2
  c.eval.every = c.checkpoint.every = 2
  workdir = str(tmp_path / "run")
  train.train(c, workdir)
  rows = [json.loads(line) for line in open(tmp_path / "run" / "metrics.jsonl")]
  logged = {row["step"]: row["val/map"] for row in rows if "val/map" in row}
  assert logged.keys() == {2, 4} and all(0 < score <= 1 for score in logged.values())
  for step, score in logged.items():
    fields = evaluate.evaluate(workdir, step=step)
    assert fields["mean_average_precision"] == pytest.approx(score, rel=1e-6)
  best = evaluate.evaluate(workdir, step="best")["mean_average_precision"]
  assert best == pytest.approx(max(logged.values()))
  # The teacher is scored, in evaluation mode.
  assert inference.load_trained(workdir).described[0]["stack"] == "teacher"


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"supervised_loss": "ohem"}, "supervised_loss='ohem': MLMT learns the classes of whole"),
    ({"weight_start": 5}, "method.weight_start=5: MLMT has a start of its own"),
    ({"compat": ("teacher",)}, "method.name='mlmt' knows teacher_on_labeled"),
    ({"cutmix": True}, "method.cutmix=True: method.name='mlmt' does not read it"),
  ],
)
def test_impossible_options(changes, words):
  with pytest.raises(ConfigError, match=words):
    rules.validate(_config(**changes))


@pytest.mark.parametrize(
  "path, value, words",
  [
    ("model.head", "fcn", "learns classes of whole pictures; it takes classifier."),
    ("data.scales", (0.5, 1.0), "method.name='mlmt' does not read it"),
    ("eval.mode", "whole", "method.name='mlmt' does not read it"),
    ("method.mlmt.epoch", 0, "1 or more"),
  ],
)
def test_what_does_not_go_with_whole_pictures(path, value, words):
  c = _config()
  c.data.root, c.data.labeled, c.train.steps = "data", "labeled", 10
  c.data.augment = "unimatch"  # its scales, which are not read, may be of any number
  rules.validate(c)
  c.update_from_flattened_dict({path: value})
  with pytest.raises(ConfigError, match=re.escape(f"{path}={value!r}") + ".*" + words):
    rules.validate(c)


def test_a_classifier_goes_with_no_method_that_segments():
  c = schema.default()
  c.data.root, c.data.labeled, c.train.steps = "data", "labeled", 10
  c.model.head = "classifier"
  with pytest.raises(ConfigError, match="model.head='classifier': method.name='cps' learns labels"):
    rules.validate(c)
  assert contract.find("mlmt").EVALUATED == ("teacher",)
