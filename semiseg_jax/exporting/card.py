"""The card of a model: what a hub shows of it, README.md with a YAML front matter."""

import html
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from semiseg_jax.evaluation import described, result_files, told_protocol
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.exporting import licenses
from semiseg_jax.wording import counted

_SHOWN = 40  # classes in a table


def results(workdir: str, trained: Trained, network: str) -> list[dict[str, Any]]:
  """Returns the result files of what is exported; damaged ones are left out, and said.

  Args:
    workdir: of the run.
    trained: what was read of it.
    network: the exported one, 'mean', or 'all': any of them.
  """
  found = []
  folder = described.last_stage(workdir) / "evaluations"
  for file in sorted(folder.glob("*.json")):
    try:
      fields = result_files.read(file)
      how = told_protocol.completed(fields["protocol"])
      is_its = network in ("all", how["network"]) and how["stack"] == trained.config.eval.stack
      if is_its and fields["checkpoint_step"] == trained.step and "miou" in fields:
        found.append(fields)
    except (OSError, ValueError, KeyError) as error:
      print(f"NOTE {file} cannot be read ({error}): the card leaves it out")
  return found


def text(about: Mapping[str, Any], scores: list[dict[str, Any]], out: str) -> str:
  """Returns the card.

  Args:
    about: see `about.describe`.
    scores: see `results`.
    out: the folder, whose name is the model's.
  """
  name = pathlib.PurePath(os.path.abspath(out)).name
  parts = (
    f"# {plain(name)}",
    _what(about),
    "## How to load it\n\n" + _loading(name),
    "## Scores\n\n" + (_scores(scores) or _NO_SCORES),
    "## Data\n\n" + _data(about),
    "## Licenses\n\n" + _licenses(about),
    "## How it was made\n\n" + _making(about),
  )
  return _front(about, scores, name) + "\n\n".join(parts) + "\n"


def plain(value: object) -> str:
  """Returns a text as one line that neither Markdown nor HTML reads as more than letters."""
  line = html.escape(re.sub(r"\s+", " ", str(value)), quote=False)
  return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", line)


_NO_SCORES = (
  "This step was not evaluated: `python -m semiseg_jax.evaluate` beside the run, then this export "
  "again, fills this in."
)


def _front(about: Mapping[str, Any], scores: list[dict[str, Any]], name: str) -> str:
  """YAML that hubs read; the license is left to who publishes the weights."""
  method = about["config"].get("method", {}).get("name", "")
  fields: dict[str, Any] = {
    "library_name": "semiseg_jax",
    "pipeline_tag": "image-segmentation",
    "license": "other",
    "license_name": "to-be-chosen",
    "tags": ["semantic-segmentation", "semi-supervised", "jax", *[method] * bool(method)],
    "model_name": name,
  }
  if scores:
    task = {"type": "image-segmentation"}
    fields["model-index"] = [
      {"name": name, "results": [{"task": task, **_indexed(score)} for score in scores]}
    ]
  return "---\n" + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True) + "---\n\n"


def _indexed(score: Mapping[str, Any]) -> dict[str, Any]:
  data, split = score["dataset"]["name"], score["split"]["name"]
  metrics = [{"type": "mean_iou", "name": "mIoU", "value": round(score["miou"], 6)}]
  return {"dataset": {"type": data, "name": data, "split": split}, "metrics": metrics}


def _what(about: Mapping[str, Any]) -> str:
  trained, data = about["trained"], about["dataset"]
  labeled = (data.get("splits") or {}).get("labeled") or {}
  method = about["config"].get("method", {}).get("name", "supervised")
  images = f", {counted(labeled['ids'], 'labeled picture')}" if "ids" in labeled else ""
  network = f"network {plain(trained['network'])}"
  network += f" of {plain(trained['stack'])}" if trained["stack"] else ""
  return (
    f"Semantic segmentation into {counted(len(data['classes']), 'class', 'classes')}: "
    f"{plain(trained['names'])}, "
    f"trained by {plain(method)} on {plain(data['name'])}{images}; step {trained['step']}, "
    f"{network}."
  )


def _loading(name: str) -> str:
  folder = json.dumps(name)
  return (
    "Where semiseg_jax is installed, in three lines:\n\n"
    "```python\nimport semiseg_jax\n"
    f"predictor = semiseg_jax.load_predictor({folder})\n"
    'labels = predictor("photo.jpg")  # uint8 [H,W]; .predict has probabilities\n```'
  )


def _scores(scores: list[dict[str, Any]]) -> str:
  if not scores:
    return ""
  rows = [
    f"| {plain(s['split']['name'])} ({counted(s['pictures'], 'picture')}) of "
    f"{plain(s['dataset']['name'])} "
    f"| {100 * s['miou']:.2f} | {100 * s['pixel_accuracy']:.2f} | {_protocol(s['protocol'])} "
    f"| {str(s['split'].get('sha256', ''))[:12]} |"
    for s in scores
  ]
  head = "| list | mIoU | pixel accuracy | protocol | SHA-256 of the list |\n|---|---|---|---|---|"
  return "\n".join((head, *rows)) + "\n\n" + _per_class(scores[0])


def _protocol(protocol: Mapping[str, Any]) -> str:
  return plain(", ".join(f"{k} {v}" for k, v in protocol.items() if v not in (None, "", False)))


def _per_class(score: Mapping[str, Any]) -> str:
  shown = list(score["iou"].items())
  rows = [f"| {plain(c)} | {'' if v is None else f'{100 * v:.2f}'} |" for c, v in shown[:_SHOWN]]
  more = f"\n\n{len(shown) - _SHOWN} more in config.json." if len(shown) > _SHOWN else ""
  return "\n".join(("| class | IoU (first row above) |\n|---|---|", *rows)) + more


def _data(about: Mapping[str, Any]) -> str:
  data, how = about["dataset"], about["normalization"]
  lists = [
    f"* {plain(use)}: {plain(split.get('name', ''))}, {split.get('ids', '?')} pictures"
    for use, split in (data.get("splits") or {}).items()
  ]
  classes = ", ".join(map(plain, data["classes"]))
  return (
    f"{plain(data['name'])} (fingerprint {plain(data['fingerprint'])[:16]}).\n\n"
    + "\n".join(lists)
    + f"\n\nClasses, in the order of the ids: {classes}.\n\n"
    f"Pictures of {data['channels']} channels, (uint8 / 255 - mean) / std with mean {how['mean']} "
    f"and std {how['std']}. Who publishes this should say whose the pictures are, and whom they "
    "may show."
  )


def _licenses(about: Mapping[str, Any]) -> str:
  lines = [
    "`license: other` above is a placeholder: weights are published under the terms that their "
    "publisher chooses, within those of what they began from and of the pictures:"
  ]
  lines += [f"* {note}" for note in licenses.notes(about["trained"]["models"])]
  if about["trained"]["init_from"]:
    lines.append("* The run began from the networks of another run: see what those began from.")
  return "\n\n".join((lines[0], "\n".join(lines[1:])))


def _making(about: Mapping[str, Any]) -> str:
  versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
  return (
    f"Exported on {about['made']} from the run {plain(about['trained']['run'])}; "
    f"config.json has its whole config. Versions: {plain(versions)}."
  )
