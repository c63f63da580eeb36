"""Building a run: backbones that do not fit are refused, values of the config are at fault."""

import hashlib
import json

import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax import sharding, train
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.models.network import backbone_shapes
from semiseg_jax.training import experiment
from tests import small_city


def _weights(folder, edit=lambda arrays: None):
  """Writes numbers for `tiny` on three channels as `data_prep.pretrained` would."""
  folder.mkdir()
  params, stats = backbone_shapes("tiny", 3)
  shapes = traverse_util.flatten_dict({"params": params, "batch_stats": stats}, sep="/")
  rng = np.random.default_rng(0)
  arrays = {path: rng.random(leaf.shape, np.float32) for path, leaf in shapes.items()}
  edit(arrays)
  np.savez(folder / "params.npz", **arrays)
  sha256 = hashlib.sha256((folder / "params.npz").read_bytes()).hexdigest()
  (folder / "metadata.json").write_text(json.dumps({"backbone": "tiny", "params_sha256": sha256}))
  return arrays


def _start(folder, channels=3):
  config = small_city.config("data", model__pretrained=str(folder))
  method = experiment.make_method(config, sharding.make_mesh(), classes=3, channels=channels)
  state = experiment.initial_state(config, method, experiment.make_optimizer(config, method))
  return state.params["networks"], state.stats["networks"]


def test_every_copy_gets_the_backbone_and_its_own_decoder(tmp_path):
  arrays = _weights(tmp_path / "w")
  params, stats = _start(tmp_path / "w")
  for kind, tree in (("params", params), ("batch_stats", stats)):
    for path, leaf in traverse_util.flatten_dict(tree["encoder"], sep="/").items():
      for copy in np.asarray(leaf):
        np.testing.assert_array_equal(copy, arrays[f"{kind}/{path}"])
  a, b = np.asarray(params["decoder"]["classifier"]["kernel"])
  assert not np.array_equal(a, b)


@pytest.mark.parametrize("channels", [1, 5])
def test_a_gray_picture_of_any_channels_gives_the_response_of_three(tmp_path, channels, caplog):
  arrays = _weights(tmp_path / "w")
  (first,) = (p for p, a in arrays.items() if p.startswith("params/") and a.shape[-2:-1] == (3,))
  params, _ = _start(tmp_path / "w", channels)
  flat = traverse_util.flatten_dict(params["encoder"], sep="/")
  kernels = np.asarray(flat[first.removeprefix("params/")])
  assert kernels.shape[3] == channels
  for kernel in kernels:  # the sum over channels is the response to equal ones
    np.testing.assert_allclose(kernel.sum(axis=2), arrays[first].sum(axis=2), rtol=1e-5)
  assert f"takes 3 channels, the pictures have {channels}" in caplog.text


def test_kernels_of_another_size_are_refused(tmp_path):
  first = "params/stem/conv/kernel"
  _weights(tmp_path / "w", lambda a: a.update({first: np.zeros((5, 5, 3, 8), np.float32)}))
  with pytest.raises(ConfigError) as error:
    _start(tmp_path / "w", 4)
  for said in ("model.pretrained=", "stem/conv/kernel", "(5, 5, 3, 8)", 'pretrained=""'):
    assert said in str(error.value)


def test_weights_with_a_parameter_too_few_or_too_many_are_refused(tmp_path):
  gone = []
  _weights(tmp_path / "few", lambda arrays: gone.append(arrays.popitem()[0]))
  with pytest.raises(ConfigError, match="model.pretrained.* absent there") as error:
    _start(tmp_path / "few")
  assert gone[0].partition("/")[2] in str(error.value)
  _weights(tmp_path / "many", lambda a: a.update({"params/extra/bias": np.zeros(2, np.float32)}))
  with pytest.raises(ConfigError, match=r"extra/bias has the shape \(2,\) there and absent"):
    _start(tmp_path / "many")


@pytest.mark.parametrize(
  "key, value, said",
  [
    ("method__name", "cpss", "cps, fixmatch, gct, mean_teacher"),
    ("model__backbone", "resnet5", "resnet50_v1s"),
    ("model__output_stride", 7, "model.output_stride"),
  ],
)
def test_what_cannot_be_built_is_a_fault_of_the_config(key, value, said):
  config = small_city.config("data", **{key: value})
  with pytest.raises(ConfigError, match=said):
    experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)


def test_a_rule_of_the_method_is_broken_before_anything_is_built():
  with pytest.raises(ConfigError, match="at least 2 networks"):
    train.build(small_city.config("data", method__networks=1))


def test_a_bug_in_a_method_stays_one(monkeypatch):
  def nets(c):
    raise TypeError("a bug")

  monkeypatch.setattr("semiseg_jax.methods.cps.nets", nets)
  with pytest.raises(TypeError, match="a bug"):
    experiment.make_method(small_city.config("data"), sharding.make_mesh(), classes=3, channels=3)


def test_a_view_that_the_augmentation_lacks_is_a_wrong_config(monkeypatch):
  streams = lambda c: [contract.labeled(c), contract.unlabeled(c, view="pair")]
  monkeypatch.setattr("semiseg_jax.methods.cps.streams", streams)
  config = small_city.config("data", "method=cps")
  make = lambda: experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)
  with pytest.raises(ConfigError, match="data.augment='cps' knows no pairs"):
    make()
  config.data.augment = "cac"
  assert [stream.view for stream in make().streams] == ["single", "pair"]
