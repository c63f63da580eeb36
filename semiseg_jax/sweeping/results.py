"""What a complete run left: the evaluation of its last step, and what it may be compared with."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from semiseg_jax import train
from semiseg_jax.config import schema
from semiseg_jax.data import options as data
from semiseg_jax.errors import CheckpointError, UserError
from semiseg_jax.evaluation import described, image_labels, protocol, result_files, told_protocol
from semiseg_jax.methods import contract
from semiseg_jax.options import flat

_MEASURED = {"data.mean": data.IMAGENET_MEAN, "data.std": data.IMAGENET_STD}


def fields_of(file: pathlib.Path) -> dict[str, Any]:
  """Returns the fields of a result file; none of one that is absent or damaged."""
  try:
    return result_files.read(file)
  except (FileNotFoundError, ValueError):
    return {}


def final(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any] | None:
  """Returns the fields of the last evaluation of a run, by its own protocol.

  Args:
    config: of the whole run.
    workdir: its folder.

  Returns:
    The fields; None where the run is not complete, or is one of another config.
  """
  last = train.stage_configs(config, str(workdir))[-1]
  classifies = getattr(contract.find(last.method.name), "CLASSIFIES", False)
  how = image_labels.seen(last) if classifies else protocol.from_config(last.eval)
  how = told_protocol.completed(how.as_dict())
  try:
    folder = described.last_stage(workdir)
  except CheckpointError:  # the run mends it
    return None
  for file in sorted((folder / "evaluations").glob("*.json")):
    fields = fields_of(file)
    if not {"checkpoint_step", "protocol", "config", score_name(fields)} <= fields.keys():
      continue
    told = told_protocol.completed(fields["protocol"])
    ended = fields["checkpoint_step"] == last.train.steps and told == how
    if ended and is_same(fields["config"], last):
      return fields
  return None


def score_name(fields: Mapping[str, Any]) -> str:
  """Returns the field that counts: 'miou', or that of classifiers of pictures."""
  return "mean_average_precision" if "mean_average_precision" in fields else "miou"


def is_same(saved: Mapping[str, Any], config: ConfigDict) -> bool:
  """Whether a saved config is that of the same run."""
  try:
    return not differences(saved, config)
  except UserError:  # of another version
    return False


def differences(saved: Mapping[str, Any], config: ConfigDict) -> dict[str, tuple[Any, Any]]:
  """Returns key -> (value then, value now) of the keys that make two configs different runs.

  Args:
    saved: nested, plain values; of any version.
    config: of today.

  Raises:
    ConfigError: keys that this version does not know.
  """
  old = {k: schema.plain(v) for k, v in flat(schema.complete(saved)).items()}
  now = {k: schema.plain(v) for k, v in flat(json.loads(config.to_json())).items()}
  ignored = set(schema.free())
  if now["data.normalization"] == "auto":  # a run keeps what it measured in place of the defaults
    ignored |= {key for key, usual in _MEASURED.items() if now[key] == usual}
  return {k: (old[k], now[k]) for k in now if k not in ignored and old[k] != now[k]}


class Ground(NamedTuple):
  """What results must have in common to be ranked; two of other grounds are two tables.

  Attributes:
    score: the field that counts.
    protocol: how pictures were segmented, JSON; which network did it is said beside the score.
    dataset: fingerprint of the evaluated one.
    evaluated: SHA-256 of the list.
    labeled: SHA-256 of the list of labeled pictures that was learned from.
  """

  score: str
  protocol: str
  dataset: str
  evaluated: str
  labeled: str


def ground(fields: Mapping[str, Any]) -> Ground:
  """Returns what a result stands on."""
  how = told_protocol.without_network(fields["protocol"])
  return Ground(
    score_name(fields),
    json.dumps(how, sort_keys=True),
    fields["dataset"]["fingerprint"],
    fields["split"]["sha256"],
    labeled(fields).get("sha256", ""),
  )


def labeled(fields: Mapping[str, Any]) -> Mapping[str, Any]:
  """Returns name, count and hash of the labeled pictures that a result was learned from."""
  return fields["trained_on"].get("splits", {}).get("labeled", {})


def network(fields: Mapping[str, Any]) -> str:
  """Returns which network was scored: 'network 0', 'teacher 0', 'mean of networks'."""
  how = fields["protocol"]
  what, which = how.get("stack") or "network", str(how.get("network", ""))
  return f"mean of {what}s" if which == "mean" else f"{what} {which}".strip()
