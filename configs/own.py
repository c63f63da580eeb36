"""Pictures of your own: any method, any backbone, any list of labeled pictures.

    python -m data_prep.folder --images photos --labels masks --classes classes.txt \\
        --holdout 0.1 --out data/mine
    python -m semiseg_jax.main --config=configs/own.py:root=data/mine --workdir=runs/mine

With `root` the recipe is derived from the data set and from this machine: backbone, crop, padding,
normalization, batch, steps, rate, evaluation, weight and rise of the unlabeled loss.  The start of
the run prints each with its reason, and soon after it how long the run takes and what less would
save.  --config.KEY=VALUE goes before what is derived; a run that is started again keeps what was
derived at its first start.

`weights`: 'auto' reads data/weights/BACKBONE, and says where its weights are published if they are
not there; 'none' trains from scratch; else a folder that `data_prep.pretrained` wrote.

`ratio=labeled` takes all pictures that have a label; the others take lists that
`python -m data_prep.splits --dataset data/mine --of labeled --rule random --ratio 8 --add` makes.
Any other list: --config.data.labeled=NAME or a text file.

Without `root` the recipe is one for all: the schedule of CPS on PASCAL VOC at half its length, the
data set from --config.data.root, weights from data/weights/BACKBONE
(--config.model.pretrained="" trains from scratch).

Arguments: root=FOLDER, budget=auto|laptop|gpu, weights=auto|none|FOLDER,
method=cps_cutmix|supervised|unimatch or any other of configs/methods.py,
backbone=resnet50_v1s|mobilenet_v2|dinov2_small or another, ratio=labeled|1_16|1_8|1_4|1_2,
add=no|pixel_contrast|pixel_contrast_memory: on top of the method.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import fitted, methods, networks, presets
from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.models import network
from semiseg_jax.options import flat
from semiseg_jax.training import derived


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    root=presets.Text(""),
    budget=presets.Text("auto", ("auto", *fitted.LIMITS)),
    weights=presets.Text("auto"),
    method=methods.argument(),
    add=presets.ADDED,
    backbone=presets.Choice("resnet50_v1s", tuple(network.BACKBONES)),
    ratio=presets.Choice("labeled", ("labeled", *presets.RATIOS)),
  )
  given = presets.given(arg)
  if a.root:
    return _fitted(a, named="backbone" in given)
  if given & {"budget", "weights"}:
    raise ConfigError("arguments budget and weights go with root=FOLDER, the data set.")
  return _fixed(a)


def _lists(a: Any) -> ConfigDict:
  c = schema.default()
  c.data.root = a.root or "data/mine"
  c.data.labeled = a.ratio if a.ratio == "labeled" else presets.ratio_list(a.ratio)
  return c


def _fixed(a: Any) -> ConfigDict:
  c = _lists(a)
  c.name = f"{a.method}_own_{a.ratio}_{a.backbone}"

  c.optimizer.learning_rate = 0.0025
  c.optimizer.weight_decay = 4e-4

  c.train.steps = 20_000

  c.eval.every = 2000
  c.eval.mode = "whole"

  networks.fit(c, a.backbone)
  methods.choose(c, a.method, methods.Task(), a.add)
  return c


def _fitted(a: Any, named: bool) -> ConfigDict:
  c = _lists(a)
  facts = fitted.read(c)
  made = fitted.fit(
    c,
    facts,
    method=a.method,
    added=a.add,
    backbone=a.backbone if named else "",
    weights=a.weights,
    budget=a.budget,
  )
  c.name = f"{a.method}_{facts.name}_{a.ratio}_{c.model.backbone}"
  made.insert(0, derived.Derived("name", c.name, "method, data set, labeled list and backbone"))
  c.derived = tuple(map(derived.text, made + _following(c, a, made)))
  return c


def _following(c: ConfigDict, a: Any, made: list[derived.Derived]) -> list[derived.Derived]:
  """The keys that are other than those of the fixed recipe because of what was derived."""
  usual, values = flat(_fixed(a).to_dict()), flat(c.to_dict())
  known = {one.key for one in made} | {"name", "data.root", "derived"}
  return [
    derived.Derived(key, value, "follows from the others")
    for key, value in values.items()
    if value != usual[key] and key not in known
  ]
