"""The networks of a run as a segmenter that makes maps of pictures."""

from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import inference, maps
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.maps import Wanted
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.windows import Segmenter


def segmenter(
  trained: Trained, how: Protocol, wanted: Wanted, *, probabilities: bool = False
) -> Segmenter:
  """A segmenter that gives `Maps` of each picture.

  Args:
    trained: the networks.
    how: they are run; also with a gate.
    wanted: the maps.
    probabilities: labels of one network are of its mean probabilities where windows overlap, as
      stored labels are; otherwise of its mean logits.  Those of several are of their probabilities.

  Raises:
    ConfigError: the disagreement of a single network, more classes than there are.
  """
  classes = len(trained.dataset["classes"])
  if wanted.disagreement and trained.n < 2:
    raise ConfigError(
      f"disagreement: this run has one network ({trained.names}), and it takes two or more; leave "
      "it out of --write, or give a run of several (cps, method.networks=3)"
    )
  if not 0 <= wanted.top <= classes:
    raise ConfigError(f"--topk {wanted.top}: the run has {classes} classes; give 1 to {classes}")
  views = (tuple(how.scales), how.flip) != ((1.0,), False)
  beside = wanted.beside(probabilities or views or how.network == "mean")
  sets = {"": 0, "probabilities": 1, "networks": trained.n}[beside]
  own = tuple(range(trained.n)) if how.network == "mean" else (int(how.network),)
  forward = inference.make_forward(
    trained,
    how.network,
    scales=how.scales,
    flip=how.flip,
    probabilities=probabilities,
    beside=beside,
  )
  return how.segmenter(
    forward,
    (1 + sets) * classes,
    grid=inference.grid(trained.config, trained.members),
    devices=trained.mesh.size,
    classify=maps.classify(wanted, classes, own if beside == "networks" else (0,)),
  )
