import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import traverse_util

from data_prep import pretrained
from data_prep.pretrained import convert, prepare
from semiseg_jax.errors import WeightsError
from semiseg_jax.models.backbones import mobilenet_v2
from semiseg_jax.models.backbones.dinov2 import DinoV2
from semiseg_jax.models.network import BACKBONES, backbone_shapes, build_network
from semiseg_jax.models.pretrained import PARAMS_FILE, load_backbone
from semiseg_jax.models.torch import torch_names
from tests.golden_files import golden_tensor
from tests.model_config import model_config

BACKBONE = "mobilenet_v2"


@pytest.fixture(scope="module")
def state():
  """A state dict as in the wild: half-precision kernels, counters, and a layer we do not have."""
  shapes = dict(zip(("params", "batch_stats"), backbone_shapes(BACKBONE, 3)))
  state = {}
  for path, leaf in traverse_util.flatten_dict(shapes).items():
    name = torch_names.torch_name(mobilenet_v2.TORCH_NAMES, path[1:])
    state[name] = golden_tensor(name, torch_names.torch_shape(leaf.shape))
    if state[name].ndim == 4:
      state[name] = state[name].astype(np.float16)
  state["features.0.1.num_batches_tracked"] = np.array(7)
  state["classifier.1.weight"] = np.zeros((10, 1280), np.float32)
  return state


def _save(path, state):
  np.savez(path, **state)
  return str(path)


@pytest.mark.slow
def test_what_is_prepared_is_what_is_loaded(state, tmp_path):
  out = tmp_path / "deep" / "weights"
  metadata, _ = prepare(_save(tmp_path / "source.npz", state), BACKBONE, str(out))
  assert metadata["unused"] == ["classifier.1.weight", "features.0.1.num_batches_tracked"]
  assert metadata["tensors"] == len(state) - 2 and metadata["source"] == "source.npz"
  params, batch_stats = load_backbone(out, BACKBONE)
  kernel = params["block3"]["expand"]["conv"]["kernel"]
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(
    kernel, state["features.3.conv.0.0.weight"].astype(np.float32).transpose(2, 3, 1, 0)
  )
  np.testing.assert_array_equal(batch_stats["stem"]["bn"]["var"], state["features.0.1.running_var"])
  assert sorted(path.name for path in out.iterdir()) == ["metadata.json", "params.npz"]
  # It fits into a network that was drawn.
  network = build_network(
    model_config(BACKBONE),
    num_classes=3,
    in_channels=3,
  )
  for loaded, drawn in zip((params, batch_stats), network.init((0,))):
    jax.tree.map(
      lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)),
      loaded,
      drawn["encoder"],
    )


def test_preparing_again_replaces(state, tmp_path):
  prepare(_save(tmp_path / "a.npz", state), BACKBONE, str(tmp_path / "out"))
  other = {**state, "features.0.1.bias": np.full(32, 5, np.float32)}
  prepare(_save(tmp_path / "b.npz", other), BACKBONE, str(tmp_path / "out"))
  params, _ = load_backbone(tmp_path / "out", BACKBONE)
  np.testing.assert_array_equal(params["stem"]["bn"]["bias"], 5)


def test_missing_tensors_are_all_named(state):
  gone = ("features.5.conv.3.running_mean", "features.17.conv.2.weight")
  with pytest.raises(WeightsError, match="lacks 2 of the") as error:
    convert({name: value for name, value in state.items() if name not in gone}, BACKBONE)
  assert all(name in str(error.value) for name in gone)


def test_numbers_of_no_trained_network_are_named_and_nothing_is_written(state, tmp_path):
  name = "features.5.conv.3.running_var"
  source = _save(tmp_path / "a.npz", state | {name: -state[name]})
  with pytest.raises(WeightsError, match=f"variances below 0: {name}"):
    prepare(source, BACKBONE, str(tmp_path / "out"))
  assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_other_shapes_stop_with_all_of_them(state):
  other = {
    **state,
    "features.0.0.weight": np.zeros((32, 1, 3, 3), np.float32),
    "features.17.conv.3.bias": np.zeros(7, np.float32),
  }
  with pytest.raises(WeightsError) as error:
    convert(other, BACKBONE)
  for text in (
    "features.0.0.weight: the source has shape (32, 1, 3, 3), mobilenet_v2 needs (32, 3, 3, 3)",
    "features.17.conv.3.bias: the source has shape (7,), mobilenet_v2 needs (320,)",
  ):
    assert text in str(error.value)


def test_the_backbone_of_a_whole_network_that_has_a_teacher(state, tmp_path):
  both = {f"model.module.backbone.{name}": array for name, array in state.items()}
  teacher = {name.replace("model.", "model_ema.", 1): array + 1 for name, array in both.items()}
  source = _save(tmp_path / "latest.npz", both | teacher)
  with pytest.raises(WeightsError, match="mobilenet_v2 is in the source 2 time"):
    prepare(source, BACKBONE, str(tmp_path / "out"))
  metadata, lines = prepare(source, BACKBONE, str(tmp_path / "out"), ["model_ema"])
  assert metadata["prefix"] == "model_ema.module.backbone."
  assert lines[1] == "Recognized: names as they are, under 'model_ema.module.backbone.'"
  assert f"  others: model.* ({len(both) - 1} tensors)" in lines
  _, batch_stats = load_backbone(tmp_path / "out", BACKBONE)
  mean = state["features.0.1.running_mean"] + 1
  np.testing.assert_array_equal(batch_stats["stem"]["bn"]["mean"], mean)


def test_a_transformer_has_no_statistics(tmp_path, monkeypatch):
  tiny = lambda: DinoV2(width=4, depth=1, heads=2, levels=(0, 0, 0, 0))
  monkeypatch.setitem(BACKBONES, "dinov2_small", tiny)
  shapes = traverse_util.flatten_dict(backbone_shapes("dinov2_small", 3)[0])
  rules = torch_names.backbone_rules("dinov2_small")
  names = {path: torch_names.torch_name(rules, path) for path in shapes}
  state = {
    f"teacher.backbone.{names[path]}": golden_tensor(
      names[path], torch_names.torch_shape(leaf.shape)
    )
    for path, leaf in shapes.items()
  }
  head = {"teacher.dino_head.mlp.0.weight": np.zeros((2, 2), np.float32)}
  _, lines = prepare(_save(tmp_path / "x.npz", state | head), "dinov2_small", str(tmp_path / "out"))
  assert "  others: teacher.dino_head.mlp.0.weight" in lines
  params, batch_stats = load_backbone(tmp_path / "out", "dinov2_small")
  assert batch_stats == {}
  qkv = state["teacher.backbone.blocks.0.attn.qkv.weight"]
  np.testing.assert_array_equal(params["block0"]["attn"]["qkv"]["kernel"], qkv.T)
  assert params["cls_token"].shape == (1, 1, 4)
  # A table of another grid is refused with both shapes: it is not resampled here.
  state["teacher.backbone.pos_embed"] = np.zeros((1, 257, 4), np.float32)
  with pytest.raises(WeightsError, match=r"pos_embed: .* \(1, 257, 4\).* \(1, 1370, 4\)"):
    convert(state, "dinov2_small")


def test_a_folder_of_another_backbone_is_refused(state, tmp_path):
  prepare(_save(tmp_path / "a.npz", state), BACKBONE, str(tmp_path / "out"))
  with pytest.raises(WeightsError, match="weights of 'mobilenet_v2', but .* 'resnet50_v1s'"):
    load_backbone(tmp_path / "out", "resnet50_v1s")


def test_an_absent_folder_says_how_to_make_it(tmp_path):
  with pytest.raises(
    WeightsError, match=r"python -m data_prep.pretrained --source \S+.pth --backbone resnet50_v1s"
  ):
    load_backbone(tmp_path / "nowhere", "resnet50_v1s")


def test_a_damaged_file_is_refused(state, tmp_path):
  prepare(_save(tmp_path / "a.npz", state), BACKBONE, str(tmp_path / "out"))
  file = tmp_path / "out" / PARAMS_FILE
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)
  with pytest.raises(WeightsError, match="not the file that metadata.json was written with"):
    load_backbone(tmp_path / "out", BACKBONE)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"backbone": "resnet18"}', "3"])
def test_damaged_metadata_is_named(state, tmp_path, text):
  prepare(_save(tmp_path / "a.npz", state), BACKBONE, str(tmp_path / "out"))
  (tmp_path / "out" / "metadata.json").write_text(text)
  with pytest.raises(WeightsError, match="metadata.json is damaged .*data_prep.pretrained"):
    load_backbone(tmp_path / "out", BACKBONE)


def test_a_folder_that_cannot_be_written_is_one_line(state, tmp_path):
  (tmp_path / "file").touch()
  given = {"source": _save(tmp_path / "a.npz", state), "backbone": BACKBONE}
  given["out"] = tmp_path / "file"
  with pytest.raises(SystemExit, match="error: .*file: File exists; correct the path"):
    pretrained.main([f"--{k}={v}" for k, v in given.items()])


@pytest.mark.slow
def test_command_line(state, tmp_path):
  source = _save(tmp_path / "source.npz", state)
  command = [sys.executable, "-m", "data_prep.pretrained", "--source", source, "--backbone"]
  done = subprocess.run(
    [*command, BACKBONE, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=True
  )
  assert "Recognized: names as they are" in done.stdout
  assert (
    "Not used (2):\n  classification head: classifier.1.weight\n  1 counter of batches"
    in done.stdout
  )
  assert json.loads((tmp_path / "out" / "metadata.json").read_text())["backbone"] == BACKBONE
  done = subprocess.run(
    [*command, "resnet50_v1s", "--out", str(tmp_path / "other")], capture_output=True, text=True
  )
  assert done.returncode == 1 and "lacks" in done.stderr and "Traceback" not in done.stderr
  assert not (tmp_path / "other").exists()
