"""How many branches of DeepLabv2's head made the logits that its weights were trained with.

The code of AdvSemiSeg, and of s4GAN and CutMix-Seg after it, returns after two of the four.
"""

import copy
import pathlib
import re
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

RETURNED = 2
_LAW = 0.01  # standard deviation of the branches' initial weights
_BRANCH = re.compile(r"(.*layer5\.conv2d_list)\.(\d+)\.weight")


def fitted(
  config: ConfigDict, state: Mapping[str, np.ndarray], source: str
) -> tuple[ConfigDict, list[str]]:
  """Sets `model.deeplabv2.summed` where the source shows it.

  It does where later branches still have their initial weights, or where the file has one of the
  names that AdvSemiSeg published.  Another choice of the config is left alone.

  Returns:
    The config, a copy where it changes, and what to say.
  """
  head = config.model.deeplabv2
  if config.model.head != "deeplabv2" or head.summed or len(head.rates) <= RETURNED:
    return config, []
  why = "its other branches were never trained" if _only_two_trained(state) else ""
  if re.search(r"advse(g|mi)", pathlib.Path(source).name.lower()):
    why = why or "AdvSemiSeg's code, of which the file's name tells, returns after two"
  if not why:
    return config, [
      f"NOTE: the head sums all {len(head.rates)} branches; the tensors do not tell how many it "
      f"should. Weights of AdvSemiSeg, s4GAN or CutMix-Seg, whose code returns after two, need "
      f"--config.model.deeplabv2.summed={RETURNED}."
    ]
  config = copy.deepcopy(config)
  config.model.deeplabv2.summed = RETURNED
  return config, [
    f"NOTE: the head sums two branches (model.deeplabv2.summed={RETURNED}): {why}. All of them: "
    f"--config.model.deeplabv2.summed={len(head.rates)}"
  ]


def _only_two_trained(state: Mapping[str, np.ndarray]) -> bool:
  fresh = {
    int(match[2]): _is_fresh(array)
    for name, array in state.items()
    if (match := _BRANCH.fullmatch(name))
  }
  later = [is_fresh for branch, is_fresh in fresh.items() if branch >= RETURNED]
  return bool(later) and all(later) and not any(fresh.get(i, True) for i in range(RETURNED))


def _is_fresh(kernel: np.ndarray) -> bool:
  """Whether all numbers can be draws of the initial law, within six standard errors."""
  z = np.asarray(kernel, np.float64).ravel() / _LAW
  error = 1 / np.sqrt(z.size)
  within = np.mean(np.abs(z) < 1)  # 0.6827 of a normal law
  return (
    abs(z.mean()) < 6 * error and abs(z.std() - 1) < 5 * error and abs(within - 0.6827) < 3 * error
  )
