"""With tensorflow present the metrics go through clu's own writers, and to the JSON lines too."""

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semiseg_jax.workdir import writers

pytestmark = pytest.mark.extras
pytest.importorskip("tensorflow", reason="tensorflow is not installed (optional)")


def test_clu_writes_scalars_and_pictures(tmp_path):
  writer = writers.create_writer(str(tmp_path), resume_step=0)
  assert any(type(part).__module__.startswith("clu.") for part in writer._writers)
  writer.write_hparams({"seed": 0})
  writer.write_scalars(3, {"loss": 0.25})
  writer.write_images(3, {"sheet": np.zeros((4, 6, 3), np.uint8)})
  writer.flush()
  writer.close()
  events = EventAccumulator(str(tmp_path)).Reload()
  assert {"loss", "sheet"} <= set(events.Tags()["tensors"])
  assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] == 0.25
