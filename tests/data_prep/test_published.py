"""Whole networks from PyTorch into a workdir and back: the identity, for every family."""

import json

import jax
import numpy as np
import pytest
from absl import logging
from flax import traverse_util

from configs import cps_toy
from data_prep import published
from semiseg_jax import export, predict, seals
from semiseg_jax.errors import ConfigError, WeightsError
from semiseg_jax.evaluation import inference
from semiseg_jax.models import network as networks
from semiseg_jax.models.backbones.dinov2 import DinoV2
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import state_dicts, torch_names
from semiseg_jax.models.torch.files import read_state_dict, write_state_dict
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import small_city
from tests.golden_files import golden_path, golden_tensor
from tests.model_config import model_config

pytestmark = pytest.mark.slow

# A small backbone of each family, every head and every variant of names.
PAIRS = [
  ("resnet18", "deeplabv3plus", {"variant": "torchsemiseg"}),
  ("resnet18", "deeplabv3plus", {"variant": "cac"}),
  ("resnet18", "deeplabv3plus", {"variant": "unimatch"}),
  ("resnet18", "deeplabv2", {}),
  ("resnet18", "classifier", {}),
  ("resnet18", "pspnet", {}),
  ("mobilenet_v2", "deeplabv3plus", {}),
  ("efficientnet_lite0", "deeplabv3plus", {}),
  ("hrnet_w18", "fcn", {}),
  ("hrnet_w18", "ocr", {}),
  ("dinov2_small", "dpt", {}),
]


@pytest.fixture(autouse=True)
def verbosity():
  """The command lines quieten absl for their whole process, which here is that of all tests."""
  before = logging.get_verbosity()
  yield
  logging.set_verbosity(before)


def _state(network, prefix="", seed=""):
  """Golden tensors under the published names, counters included."""
  leaves = {p: x for tree in network.shapes() for p, x in traverse_util.flatten_dict(tree).items()}
  names = torch_names.network_names(network)
  state = {
    names[path]: golden_tensor(seed + names[path], torch_names.torch_shape(leaf.shape))
    for path, leaf in leaves.items()
  }
  assert len(state) == len(leaves)
  means = [name for name in state if name.endswith("running_mean")]
  state |= {n.replace("running_mean", "num_batches_tracked"): np.array(0) for n in means}
  return {prefix + name: array for name, array in state.items()}


def _assert_same(found, expected):
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
    np.testing.assert_array_equal(found[name], array)


def test_every_head_is_tested():
  assert {head for _, head, _ in PAIRS} == set(networks.HEADS)


@pytest.mark.parametrize("backbone, head, options", PAIRS)
def test_every_family_there_and_back(backbone, head, options):
  config = model_config(backbone, head, **{head: options})
  network = build_network(config, num_classes=4, in_channels=3)
  state = _state(network)
  params, stats, (match,) = published.convert(state, network, 1)
  assert match.prefix == ""
  shapes = network.shapes()
  for tree, expected in zip((params, stats), shapes):
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape[1:], b.shape), tree, expected)
  first = jax.tree.map(lambda leaf: leaf[0], (params, stats))
  _assert_same(state_dicts.to_state_dict(network, *first), state)


def test_exported_names_are_all_of_the_published_file():
  expected = json.loads(golden_path("cps_trajectory.params.json").read_text())
  network = build_network(
    model_config(), num_classes=expected["branch1.classifier.bias"][0], in_channels=3
  )
  params, stats = jax.tree.map(
    lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), network.shapes()
  )
  found = [
    (name, array.shape)
    for branch in ("branch1.", "branch2.")
    for name, array in state_dicts.to_state_dict(network, params, stats, branch).items()
  ]
  assert dict(found) == {name: tuple(shape) for name, shape in expected.items()}


def test_blocks_are_exported_in_the_order_of_their_numbers():
  network = build_network(model_config("mobilenet_v2"), num_classes=2, in_channels=3)
  trees = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), network.shapes())
  names = list(state_dicts.to_state_dict(network, *trees))
  blocks = [int(name.split(".")[2]) for name in names if name.startswith("backbone.features.")]
  assert blocks == sorted(blocks) and set(blocks) == set(range(18))


@pytest.fixture(scope="module")
def city(tmp_path_factory):
  root = tmp_path_factory.mktemp("data") / "city"
  small_city.write(root)
  return root


def _config(root, arg="ratio=1_4", **changes):
  c = small_city.config(root, arg, **changes)
  c.model = cps_toy.get_config().model
  c.model.backbone, c.model.output_stride = "mobilenet_v2", 0
  return c


def _network(config):
  return build_network(config.model, num_classes=3, in_channels=3)


@pytest.fixture(scope="module")
def cps(city, tmp_path_factory):
  """A workdir made from two networks under branch1. and branch2. of a wrapped checkpoint."""
  folder = tmp_path_factory.mktemp("published")
  config = _config(city)
  state = {}
  for branch in ("branch1.", "branch2."):
    state |= _state(_network(config), f"model.module.{branch}", seed=branch)
  source = folder / "epoch-34.npz"
  write_state_dict(source, state | {"optimizer.momentum": np.zeros(3, np.float32)})
  lines = published.prepare(str(source), config, str(folder / "work"))
  return folder / "work", state, lines


def test_the_workdir_holds_both_networks_and_says_where_they_come_from(cps, city):
  workdir, state, lines = cps
  trained = inference.load_trained(workdir)
  assert (trained.n, trained.step) == (2, 4)  # the last step: nothing is left to train
  for k in range(2):
    kernel = trained.params["networks"]["encoder"]["stem"]["conv"]["kernel"][k]
    name = f"model.module.branch{k + 1}.backbone.features.0.0.weight"
    np.testing.assert_array_equal(kernel, state[name].transpose(2, 3, 1, 0))
  assert lines[0] == "network 0: names as they are, under 'model.module.branch1.'"
  assert "  others: optimizer.momentum" in lines
  saved = Checkpoints(workdir, read_only=True)
  meta = saved.meta(4)
  saved.close()
  assert meta["published"]["prefixes"] == ["model.module.branch1.", "model.module.branch2."]
  assert meta["config"]["name"].endswith("published epoch-34.npz")
  assert json.loads((workdir / "config.json").read_text()) == seals.sealed(meta["config"])


@pytest.mark.parametrize(
  "suffix", [".npz", ".safetensors", pytest.param(".pth", marks=pytest.mark.extras)]
)
def test_export_gives_the_source_back(cps, tmp_path, suffix):
  if suffix == ".pth":
    pytest.importorskip("torch")
  workdir, state, _ = cps
  out = tmp_path / f"model{suffix}"
  export.main([f"--workdir={workdir}", f"--out={out}", "--network=all", "--check=no"])
  _assert_same(
    {f"model.module.{name}": array for name, array in read_state_dict(out).items()}, state
  )


def test_one_network_is_exported_without_a_prefix(cps, tmp_path, capsys):
  workdir, state, _ = cps
  out = tmp_path / "m.npz"
  export.main([f"--workdir={workdir}", f"--out={out}", "--network=1", "--check=no"])
  prefix = "model.module.branch2."
  expected = {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}
  _assert_same(read_state_dict(tmp_path / "m.npz"), expected)
  assert f"network 1 of step 4: {len(expected)} tensors -> " in capsys.readouterr().out


def test_predict_uses_the_published_network(cps):
  image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
  label = predict.load_predictor(str(cps[0]), mode="whole")(image)
  assert label.shape == (40, 48) and label.max() < 3


def test_transformers_have_no_statistics_and_go_there_and_back(city, tmp_path, monkeypatch):
  tiny = lambda: DinoV2(width=8, depth=4, heads=2, levels=(0, 1, 2, 3))
  monkeypatch.setitem(networks.BACKBONES, "dinov2_small", tiny)
  config = _config(city, "ratio=1_4,method=supervised")
  config.model.backbone, config.model.head = "dinov2_small", "dpt"
  config.data.crop = (28, 28)
  config.model.deeplabv3plus = model_config().deeplabv3plus
  config.model.dpt.update(width=4, level_widths=(4, 4, 4, 4))
  state = _state(_network(config))
  write_state_dict(tmp_path / "m.safetensors", state)
  published.prepare(str(tmp_path / "m.safetensors"), config, str(tmp_path / "work"))
  export.export(str(tmp_path / "work"), str(tmp_path / "back.npz"), checked=False)
  _assert_same(read_state_dict(tmp_path / "back.npz"), state)
  # Without the tensor that nothing reads, as timm publishes it.
  del state["backbone.mask_token"]
  params, _, (match,) = published.convert(state, _network(config), 1)
  assert match.absent == ("backbone.mask_token",)
  assert not params["encoder"]["mask_token"].any()


@pytest.mark.filterwarnings("ignore:the load_module")  # of ml_collections
def test_command_line(city, tmp_path, capsys):
  config = _config(city, "ratio=1_4,method=supervised")
  write_state_dict(tmp_path / "m.npz", _state(_network(config), "module."))
  small = config.model.deeplabv3plus
  arguments = [
    f"--source={tmp_path / 'm.npz'}",
    "--config=configs/cps_toy.py:ratio=1_4,method=supervised",
    f"--dataset={city}",
    f"--out={tmp_path / 'work'}",
    "--config.model.backbone=mobilenet_v2",
    "--config.model.output_stride=0",
    *(f"--config.model.deeplabv3plus.{key}={value}" for key, value in small.items()),
  ]
  published.main(arguments)
  assert "under 'module.'" in capsys.readouterr().out
  assert inference.load_trained(tmp_path / "work").n == 1
  with pytest.raises(SystemExit, match="error: --out .* holds checkpoints already"):
    published.main(arguments)
  with pytest.raises(SystemExit, match="error: --config.model.nonsense is no key"):
    published.main([*arguments, "--config.model.nonsense=1"])
  with pytest.raises(SystemExit, match="error: --nonsense is no option"):
    published.main([*arguments, "--nonsense=1"])
  with pytest.raises(SystemExit, match="error: give --config=FILE.py, .*, and not word"):
    published.main([*arguments, "word"])
  with pytest.raises(SystemExit, match="error: give --config=FILE.py"):
    published.main([arguments[0], arguments[3]])
  with pytest.raises(SystemExit, match="error: .* does not exist"):
    published.main(["--source=no.npz", *arguments[1:3], f"--out={tmp_path / 'other'}"])
  assert not (tmp_path / "other").exists()


def test_a_file_of_advsemiseg_gets_the_two_branches_of_its_code(city, tmp_path):
  config = _config(city, "ratio=1_4,method=supervised")
  config.model.backbone, config.model.head = "resnet18", "deeplabv2"
  config.model.deeplabv3plus = model_config().deeplabv3plus
  source = tmp_path / "AdvSegVOC0.125.npz"
  write_state_dict(source, _state(_network(config)))
  lines = published.prepare(str(source), config, str(tmp_path / "work"))
  assert any("model.deeplabv2.summed=2" in line for line in lines)
  written = json.loads((tmp_path / "work" / "config.json").read_text())
  assert written["model"]["deeplabv2"]["summed"] == 2 and config.model.deeplabv2.summed == 0


def test_what_does_not_fit_leaves_no_workdir(city, tmp_path):
  config = _config(city)
  state = _state(_network(config), "module.")
  write_state_dict(tmp_path / "m.npz", state)
  with pytest.raises(WeightsError, match="in the source 1 time.*; 2 wanted"):
    published.prepare(str(tmp_path / "m.npz"), config, str(tmp_path / "work"))
  one = _config(city, "ratio=1_4,method=supervised")
  broken = state | {"module.classifier.bias": np.full(3, np.nan, np.float32)}
  write_state_dict(tmp_path / "m.npz", broken)
  with pytest.raises(WeightsError, match="NaN or infinity: module.classifier.bias"):
    published.prepare(str(tmp_path / "m.npz"), one, str(tmp_path / "work"))
  state["module.classifier.bias"] = np.zeros(21, np.float32)
  write_state_dict(tmp_path / "m.npz", state)
  with pytest.raises(WeightsError, match=r"classifier.bias: the source has shape \(21,\)"):
    published.prepare(str(tmp_path / "m.npz"), one, str(tmp_path / "work"))
  one.model.backbone = "tiny"
  with pytest.raises(WeightsError, match="Tiny has no PyTorch counterpart"):
    published.prepare(str(tmp_path / "m.npz"), one, str(tmp_path / "work"))
  one.train.steps = 0
  with pytest.raises(ConfigError, match="train.steps"):
    published.prepare(str(tmp_path / "m.npz"), one, str(tmp_path / "work"))
  assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--network=2"], "export: --network='2': 0 to 1, or 'all'"),
    (["--network=mean"], "export: --network='mean'"),
    (["--step=best"], "export: No checkpoint .* was evaluated"),
    (["--out=x.h5"], "export: --out x.h5 ends in '.h5'"),
  ],
)
def test_exports_that_cannot_be(cps, tmp_path, arguments, message):
  usual = [f"--workdir={cps[0]}", f"--out={tmp_path / 'x.npz'}"]
  with pytest.raises(SystemExit, match=message):
    export.main([*usual, *arguments])
  assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(cps, tmp_path):
  workdir, *_ = cps
  (tmp_path / "file").touch()
  with pytest.raises(SystemExit, match="export: .*file"):
    export.main([f"--workdir={workdir}", f"--out={tmp_path / 'file' / 'x.npz'}"])
