"""Folders for hubs: what is read back of them, what is refused, and what their card says."""

import dataclasses
import datetime
import json

import jax
import numpy as np
import pytest
import yaml

from semiseg_jax import predict, seals
from semiseg_jax.errors import CheckpointError, ConfigError, WeightsError
from semiseg_jax.evaluation import protocol
from semiseg_jax.exporting import about, card, hub, licenses, predicting
from tests.exporting.tiny_networks import CLASSES, trained

DAY = datetime.date(2026, 5, 4)
SCORE = {
  "checkpoint_step": 7,
  "miou": 0.25,
  "pixel_accuracy": 0.5,
  "pictures": 12,
  "iou": dict(zip(CLASSES, (0.25, 0.25, None))),
  "protocol": {"mode": "whole", "network": "0", "stack": "", "whole": "padded"},
  "split": {"name": "val", "ids": 12, "sha256": "b" * 64},
  "dataset": {"name": "small_city", "fingerprint": "f" * 64},
}


def _about(network="0"):
  return about.describe(trained(), network=network, command="semiseg export", run="r", day=DAY)


@pytest.fixture
def folder(tmp_path):
  hub.write(tmp_path, trained(), [0, 1], _about("all"), "# card\n")
  return tmp_path


def _same(found, expected):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.asarray(a).view(np.uint8), np.asarray(b).view(np.uint8))


def test_networks_come_back_bit_by_bit(folder):
  networks = trained()
  assert hub.is_folder(folder) and not hub.is_folder(folder.parent)
  found = predicting.load_trained(str(folder), "last", networks.mesh, None)
  _same((found.params, found.batch_stats), (networks.params, networks.batch_stats))
  assert (found.step, found.n, found.dataset) == (7, 2, networks.dataset)
  assert tuple(found.config.data.mean) == (0.4, 0.5, 0.6)


def test_one_network_of_several_is_its_only_one(tmp_path):
  networks = trained()
  hub.write(tmp_path, networks, [1], _about("1"), "")
  found = hub.load_trained(tmp_path, 7, networks.mesh)
  _same(found.params, jax.tree.map(lambda x: x[1:], networks.params))
  assert found.n == 1 and protocol.from_config(found.config.eval).network == "0"


def test_another_step_or_stack_is_refused(folder):
  with pytest.raises(ConfigError, match="networks of step 7 and no step 'best'"):
    hub.load_trained(folder, "best", trained().mesh)
  with pytest.raises(ConfigError, match="no stack 'teacher'"):
    hub.load_trained(folder, "last", trained().mesh, "teacher")


def _refused(folder, said):
  with pytest.raises(WeightsError, match=said):
    hub.load_trained(folder, "last", trained().mesh)


def test_damage_is_named(folder):
  weights, description = folder / hub.WEIGHTS, folder / hub.DESCRIPTION
  data, text = weights.read_bytes(), description.read_text()
  for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b""):
    weights.write_bytes(damaged)
    _refused(folder, "is damaged: model.safetensors is not the file")
  weights.write_bytes(data)
  description.write_text(text.replace('"ground"', '"Ground"', 1))
  _refused(folder, "config.json is damaged .its seal")
  description.write_text(text[:99])
  _refused(folder, "config.json cannot be read")
  description.write_text('{"model_type": "segformer"}')
  _refused(folder, "networks of another program")
  description.unlink()
  _refused(folder, "config.json cannot be read")


def test_missing_weights_are_named_and_runs_remain_runs(folder):
  (folder / hub.WEIGHTS).unlink()
  with pytest.raises(WeightsError, match="weights are missing: there is no model.safetensors"):
    predict.load_predictor(str(folder))
  (folder / hub.DESCRIPTION).write_text('{"method": "cps"}')  # as the folder of a run has it
  with pytest.raises(CheckpointError, match="No checkpoints under"):
    predict.load_predictor(str(folder))


def test_weights_of_another_network_are_named(folder):
  says = json.loads((folder / hub.DESCRIPTION).read_text())
  says["nets"]["networks"][0]["copies"] = 1
  (folder / hub.DESCRIPTION).write_text(json.dumps(seals.sealed(says)))
  _refused(folder, "no network here has 1/batch_stats/")
  says["nets"]["networks"][0]["copies"] = 3
  (folder / hub.DESCRIPTION).write_text(json.dumps(seals.sealed(says)))
  _refused(folder, "2/params/.* is absent; it should be float32")


def test_the_card_is_yaml_and_escapes_what_others_named():
  odd = dataclasses.replace(trained(), dataset={**trained().dataset, "name": "a: [b](c)\n---\n# d"})
  said = about.describe(odd, network="0", command="c", run="*r*", day=DAY)
  text = card.text(said, [SCORE], "out/my net: #1/")
  front, _, rest = text.removeprefix("---\n").partition("\n---\n")
  fields = yaml.safe_load(front)
  assert (fields["library_name"], fields["pipeline_tag"]) == ("semiseg_jax", "image-segmentation")
  assert fields["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.25
  assert fields["license"] == "other" and "`license: other` above is a placeholder" in rest
  assert "&lt;b&gt;disc&lt;/b&gt;" in rest and "<b>" not in rest and "box \\| lid" in rest
  assert "a: \\[b\\]\\(c\\) \\-\\-\\- \\# d" in rest and "\n# d" not in rest
  assert 'load_predictor("my net: #1")' in rest
  assert "| val (12 pictures) of small\\_city | 25.00 | 50.00 |" in rest
  assert "30 labeled pictures; step 7, network 0." in rest


def test_scores_are_those_of_the_exported_network_and_step(tmp_path, capsys):
  scores = tmp_path / "evaluations"
  scores.mkdir()
  others = {
    "step": {"checkpoint_step": 6},
    "net": {"protocol": SCORE["protocol"] | {"network": "1"}},
  }
  for name, changes in {"its": {}, **others}.items():
    (scores / f"{name}.json").write_text(json.dumps(SCORE | changes))
  (scores / "cut.json").write_text('{"miou": 0.')
  assert [s["protocol"]["network"] for s in card.results(str(tmp_path), trained(), "0")] == ["0"]
  assert len(card.results(str(tmp_path), trained(), "all")) == 2
  assert "NOTE" in capsys.readouterr().out


def test_licenses_of_what_a_network_began_from():
  model = {"backbone": "dinov3_small", "pretrained": "data/weights/dinov3"}
  (meta, scratch, gluon) = licenses.notes(
    [model, {"backbone": "tiny", "pretrained": ""}, {"backbone": "resnet50_v1s", "pretrained": "w"}]
  )
  assert "Meta's own license, the DINOv3 License" in meta and "data/" not in meta
  assert "from scratch" in scratch and "Gluon" in gluon and "ImageNet" in gluon
