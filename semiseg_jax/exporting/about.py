"""What an exported network says of itself."""

import datetime
import json
from typing import Any

from semiseg_jax.evaluation import inference
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.workdir import checkpoints


def describe(
  trained: Trained, *, network: str, command: str, run: str, day: datetime.date
) -> dict[str, Any]:
  """Returns plain JSON values: networks, data, reading, protocol, versions, how to make it anew.

  Args:
    trained: the networks.
    network: the one that is exported, or 'mean'.
    command: that made it, and makes it anew.
    run: name of the folder it was read from.
    day: of the export.
  """
  data, grid = trained.config.data, inference.grid(trained.config, trained.members)
  return {
    "made": day.isoformat(),
    "command": command,
    "versions": checkpoints.versions(),
    "trained": {
      "run": run,
      "step": trained.step,
      "network": network,
      "stack": trained.config.eval.stack,
      "names": trained.names,
      "models": [
        {key: str(one["model"].get(key) or "") for key in ("backbone", "head", "pretrained")}
        for one in trained.described
      ],
      "init_from": str(trained.config.get("init_from") or ""),
      "checksums": trained.checksums,
    },
    "dataset": trained.dataset,
    "normalization": {"mean": list(data.mean), "std": list(data.std), "of": "uint8 / 255"},
    "grid": {"crop": list(grid.crop), "stride": grid.stride},
    "eval": json.loads(trained.config.eval.to_json_best_effort()),
    "config": json.loads(trained.config.to_json_best_effort()),
  }
