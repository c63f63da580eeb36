"""Evaluation inside a training run: the run's own val list, after so many steps."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from semiseg_jax import checkpoints, inference
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.splits import IdList
from semiseg_jax.evaluation import confusion, pictures, protocol, report, run
from semiseg_jax.methods.contract import Method
from semiseg_jax.train_state import TrainState
from semiseg_jax.writers import MetricWriter


@dataclasses.dataclass(frozen=True)
class Scored:
  """miou: a fraction.  report: a table for people."""

  miou: float
  report: str


def make_evaluate(
  config: ConfigDict,
  method: Method,
  dataset: Dataset,
  val: IdList | None,
  workdir: str,
  writer: MetricWriter,
) -> Callable[[TrainState, int], Scored]:
  """Returns evaluate(state, step) -> mIoU; writes scalars, a result file and a picture sheet."""
  stack, info = method.stacks[method.evaluated], dataset.info
  how = protocol.from_config(config.eval)
  scores = inference.make_scores(config, stack, how.network)

  def evaluate(state: TrainState, step: int) -> float:
    params, stats = state.params[stack.name], state.state["batch_stats"][stack.name]
    segmenter = how.segmenter(
      lambda images, valid: scores(params, stats, images, valid),
      len(info.classes),
      devices=stack.mesh.size,
    )
    result = run.evaluate_ids(
      segmenter, dataset, val.ids, pictures=config.eval.pictures, title=f"evaluate step {step}"
    )
    found = confusion.scores(result.confusion)
    rows = {"val/miou": found["miou"], "val/pixel_accuracy": found["pixel_accuracy"]}
    rows |= {f"val/iou/{c}": float(x) for c, x in zip(info.classes, found["iou"]) if x == x}
    writer.write_scalars(step, rows)
    if result.shown:
      sheet = pictures.sheet(result.shown, info.classes, info.colors)
      writer.write_images(step, {"val/image_truth_prediction": sheet})
    writer.flush()
    places: dict[str, str] = {}
    if jax.process_index() == 0:
      fields = report.describe(
        result,
        protocol=how,
        split=val,
        dataset=vars(info),
        trained_on=vars(info),
        step=step,
        config=config.to_dict(),
        versions=checkpoints.versions(),
      )
      places["result"] = report.write_result(workdir, fields, how)
      if result.shown:
        places["pictures"] = str(pathlib.Path(places["result"]).with_suffix(".png"))
        pictures.write_png(places["pictures"], sheet)
    title = f"{val.name} of {info.name}, step {step}, {how.name}"
    table = report.format_report(result, info.classes, title=title, places=places)
    return Scored(float(found["miou"]), table)

  return evaluate
