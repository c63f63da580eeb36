"""The PyTorch step is that of the same recipe: losses, gradients and statistics equal ours."""

import jax
import numpy as np
import pytest

from configs import cps_toy
from semiseg_jax import sharding
from semiseg_jax.benchmark import same_recipe, step
from semiseg_jax.errors import ConfigError
from semiseg_jax.training import experiment
from semiseg_jax.training.train_step import make_train_step
from tests.methods import given_masks

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.extras

from semiseg_jax.benchmark.torch.step import Step, load  # noqa: E402  (after the skip)

CLASSES = 4


def _config(**method):
  config = cps_toy.get_config()
  config.data.update(crop=(32, 40))
  config.train.update(batch_labeled=2, batch_unlabeled=3)
  config.model.deeplabv3plus.update(aspp_width=8, aspp_rates=(1, 2))
  config.optimizer.update(head_multiplier=2.0, weight_decay=0.01, learning_rate=0.05)
  config.method.update(weight_ramp_steps=0, **method)
  return config


def _ours(config):
  """Our method, its first state, a batch, what one step makes of them."""
  method = experiment.make_method(config, sharding.make_mesh(), classes=CLASSES, channels=3)
  optimizer = experiment.make_optimizer(config, method)
  state = experiment.initial_state(config, method, optimizer)
  batch, rng = step.noise(config, method, CLASSES), np.random.default_rng(3)
  for stream in batch.values():
    stream["mask"] = rng.random(stream["label"].shape) < 0.5
    stream["label"][:, :5] = 255
  run = jax.jit(make_train_step(method, optimizer, config.seed, 1), static_argnums=2)
  return method, state, batch, run(state, batch, method.phase(0))


def _moved_alike(before, after, net):
  """Each leaf of a network in PyTorch moved as ours, up to a part in 200 of its longest move."""
  for name, theirs in net.state_dict().items():
    if name in before:
      ours = after[name] - before[name]
      assert np.abs(ours).max() > 0
      np.testing.assert_allclose(
        theirs.numpy() - before[name], ours, rtol=0, atol=np.abs(ours).max() / 200, err_msg=name
      )


@pytest.mark.parametrize("method", [{}, {"cutmix": False, "supervised_loss": "ohem"}], ids=str)
def test_a_step_is_ours(monkeypatch, method):
  given_masks.use(monkeypatch)
  config = _config(**method)
  method, state, batch, (after, metrics) = _ours(config)
  theirs = Step(same_recipe.recipe_of(config, method, CLASSES), "eager", "cpu")
  name = method.members["networks"][0].stack.name
  trees = lambda ts, k: same_recipe.leaves(ts.params[name], ts.stats[name], k)
  for k, net in enumerate(theirs.nets):
    load(net, trees(state, k))
  loss = theirs(theirs.batch(batch), torch.from_numpy(batch["unlabeled"]["mask"]))
  np.testing.assert_allclose(loss.item(), metrics["loss"][0], rtol=1e-5)
  for k, net in enumerate(theirs.nets):
    _moved_alike(trees(state, k), trees(after, k), net)


def test_a_config_that_it_does_not_have_is_refused():
  config = _config()
  config.optimizer.name = "adamw"
  with pytest.raises(ConfigError, match="optimizer.name='adamw': the PyTorch step has 'sgd' alone"):
    same_recipe.recipe_of(config, None, CLASSES)
