"""Networks of unlike architectures as one net: a method sees [N,B,H,W,C] and does not know."""

import dataclasses

import jax
import numpy as np
import pytest

from semiseg_jax import evaluate, members, predict, sharding, stacks, train
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.evaluation import inference
from semiseg_jax.methods import method as methods
from semiseg_jax.models import family, network
from semiseg_jax.training import experiment
from semiseg_jax.training.train_step import make_train_step
from tests import small_city, small_network

# Of the networks by these names: fewer blocks, narrower.
SMALLER = {
  "resnet18": {"depths": (1, 1, 1, 1)},
  "dinov2_small": {"width": 48, "depth": 4, "heads": 2, "levels": (0, 1, 2, 3)},
}
UNLIKE = ("backbone=tiny", "backbone=resnet18, output_stride=32, rate=0.5, mean=(0.5, 0.4, 0.3)")


@pytest.fixture(scope="module", autouse=True)
def _smaller_backbones():
  with pytest.MonkeyPatch.context() as patch:
    for name, changes in SMALLER.items():
      encoder = network.BACKBONES[name]().clone(**changes)
      patch.setitem(network.BACKBONES, name, lambda encoder=encoder: encoder)
    yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / "small"
  small_city.write(folder)
  return folder


def _config(root, **changes):
  changes = {"model__family": UNLIKE, "optimizer__learning_rate": 0.01, **changes}
  return small_city.config(root, "ratio=1_4,method=cps_cutmix", **changes)


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  train.train(_config(root), str(workdir))
  return workdir


@pytest.mark.slow
def test_every_member_moves_is_saved_and_read_back(root, finished):
  first, last = (inference.load_trained(finished, step) for step in (2, 4))
  assert [m.stack.network.backbone for m in last.members] == ["tiny", "resnet18"]
  assert last.n == 2 and [m.first for m in last.members] == [0, 1]
  for member in last.members:
    name = member.stack.name
    for a, b in zip(jax.tree.leaves(first.params[name]), jax.tree.leaves(last.params[name])):
      assert (np.asarray(a) != np.asarray(b)).any()


@pytest.mark.slow
def test_each_is_evaluated_and_their_mean_is_that_of_probabilities(finished):
  trained = inference.load_trained(finished)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
  valid = np.array([[0, 0, 32, 48]] * 2, np.int32)
  one, two, mean = (inference.make_forward(trained, k)(images, valid) for k in ("0", "1", "mean"))
  softmax = lambda x: np.asarray(jax.nn.softmax(x))
  np.testing.assert_allclose(mean, (softmax(one) + softmax(two)) / 2, atol=1e-6)
  member, params, stats = trained.network(1)
  x = (images / 255.0 - np.array((0.5, 0.4, 0.3))) / np.array((0.229, 0.224, 0.225))

  @jax.jit
  def resized(params, stats, x):
    alone, _ = stacks.apply(member.stack, params, stats, {"x": x}, bn="eval", grad=False)
    return members.full_size([member], [alone], {"x": (32, 48)})["x"][0]

  full = resized(params, stats, x.astype(np.float32))
  np.testing.assert_allclose(two, full, rtol=0, atol=1e-5 * np.abs(full).max())
  with pytest.raises(ConfigError, match="0 to 1"):
    inference.make_forward(trained, "2")


@pytest.mark.slow
def test_the_commands_take_it(finished, root):
  fields = evaluate.evaluate(str(finished), network="mean")
  assert 0 <= fields["miou"] <= 1
  labels = predict.load_predictor(str(finished), network="1")(np.zeros((40, 48, 3), np.uint8))
  assert labels.shape == (40, 48)


@pytest.mark.slow
def test_its_own_rate_is_that_of_its_updates(root):
  """Half the rate of the run: half the step from the same gradient."""
  halves = {}
  for rate in (1.0, 0.5):
    config = small_city.config(
      root,
      "ratio=1_4,method=cps",
      model__family=("backbone=tiny", f"backbone=tiny, rate={rate}"),
      optimizer__weight_decay=0.0,
    )
    kinds = experiment.architectures(config, classes=3, channels=3)
    (small,) = small_network.family(classes=3)
    kinds = [dataclasses.replace(kind, network=small.network) for kind in kinds]
    method = methods.assemble(config, sharding.make_mesh(), kinds)
    optimizer = experiment.make_optimizer(config, method)
    state = experiment.initial_state(config, method, optimizer)
    assert set(state.params) == {"networks", "networks_1"}
    step = jax.jit(make_train_step(method, optimizer, 0, 1), static_argnums=2)
    batch = small_network.batch([s.name for s in method.streams], rows=2, classes=3)
    new, _ = step(state, batch, method.phase(0))
    halves[rate] = jax.tree.map(
      lambda a, b: np.asarray(a, np.float64) - b, new.params, state.params
    )
  whole, half = halves[1.0], halves[0.5]
  for a, b in zip(jax.tree.leaves(whole["networks_1"]), jax.tree.leaves(half["networks_1"])):
    np.testing.assert_allclose(b, a / 2, rtol=1e-2, atol=1e-7)
  for a, b in zip(jax.tree.leaves(whole["networks"]), jax.tree.leaves(half["networks"])):
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_resnet_and_a_vit_in_one_cps(root, tmp_path):
  """Crops of 32 are no multiple of the patch of 14: the ViT sees 28, its logits are 32 again."""
  config = small_city.config(
    root,
    "ratio=1_4,method=cps",
    model__family=(
      "backbone=resnet18, output_stride=16",
      "backbone=dinov2_small, head=dpt, dpt.width=8, dpt.level_widths=(8, 8, 8, 8)",
    ),
    model__output_stride=0,
    train__steps=2,
    data__val="",
  )
  train.train(config, str(tmp_path))
  trained = inference.load_trained(tmp_path)
  assert [m.stack.network.backbone for m in trained.members] == ["resnet18", "dinov2_small"]
  names = [m.stack.network.fitted((32, 32)) for m in trained.members]
  assert names == [(32, 32), (28, 28)]


@pytest.mark.parametrize(
  "texts, words",
  [
    (("backbone=tiny", "backbon=tiny"), "'backbon=tiny'(.|\n)*write key=value"),
    (("backbone=tiny", "output_stride=many"), "output_stride=many(.|\n)*a whole number"),
    (("backbone=tiny",), "model.family has 1 network and method.networks=2"),
    (("backbone=tiny", "backbone=tiny, rate=-1"), "rate=-1(.|\n)*model.rate=-1.0: (.|\n)*above 0"),
    (("backbone=tiny", "backbone=tiny, hrnet.padding=same"), "does not read hrnet.padding"),
    (("backbone=tiny", "backbone=tinny"), "Did you mean 'tiny'"),
    (("backbone=tiny", "family=x"), "write key=value"),
    (("backbone=tiny, copies=x", "backbone=tiny"), "'copies=x'(.|\n)*a whole number above 0"),
    (("backbone=tiny, copies=0", "backbone=tiny"), "'copies=0'(.|\n)*a whole number above 0"),
    (("backbone=tiny, copies", "backbone=tiny"), "'copies'(.|\n)*a whole number above 0"),
    ((1,), "model.family=(.|\n)*texts"),
    (("backbone=tiny", "projection=none"), "BLOCK.KEY"),
    (("backbone=tiny", "deeplabv3plus.aspp_rates=3"), "such as"),
    (("backbone=tiny", "backbone=tiny, mean=(0.5,)"), "model.mean=(.|\n)*3 numbers"),
  ],
)
def test_what_cannot_be_read_is_named(root, texts, words):
  config = small_city.config(root, "ratio=1_4,method=cps", model__family=texts)
  with pytest.raises(ConfigError, match=words):
    rules.validate(config)
    experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)


def test_texts_are_changes_of_the_block_with_their_types():
  model = schema.default().model
  model.family = ("backbone=tiny, copies=2, deeplabv3plus.aspp_rates=(1, 2, 3), rate=2", "head=fcn")
  (first, two), (second, one) = family.members(model)
  assert (two, one) == (2, 1)
  assert first.backbone == "tiny" and first.deeplabv3plus.aspp_rates == (1, 2, 3)
  assert first.rate == 2.0 and second.head == "fcn" and second.backbone == model.backbone


def test_what_is_no_text_is_named():
  model = schema.default().model
  with model.ignore_type():
    model.family = ("backbone=tiny", 1)
  with pytest.raises(ConfigError, match="model.family: 1 is no text"):
    family.members(model)


@pytest.mark.slow
def test_networks_of_another_family_are_no_start(root, finished, tmp_path):
  config = small_city.config(root, "ratio=1_4,method=cps", data__val="", train__steps=1)
  config.init_from = str(finished)
  with pytest.raises(CheckpointError, match="2 architectures, this run 1"):
    train.train(config, str(tmp_path))
