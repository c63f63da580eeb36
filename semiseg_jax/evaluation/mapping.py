"""The networks of a run as a segmenter that makes maps of pictures."""

from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import inference, maps
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.maps import Wanted
from semiseg_jax.evaluation.protocol import Protocol, networks_of
from semiseg_jax.evaluation.windows import Segmenter
from semiseg_jax.wording import counted


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
    raise ConfigError(
      f"--topk {wanted.top}: the run has {counted(classes, 'class', 'classes')}; give 1 to "
      f"{classes}"
    )
  beside = wanted.beside(probabilities or how.adds == "probabilities")
  sets = {"": 0, "probabilities": 1, "networks": trained.n}[beside]
  own = networks_of(how.network, trained.n) if beside == "networks" else (0,)
  seen = how.views(probabilities=probabilities)
  return how.segmenter(
    inference.make_forward(trained, how.network, **seen, beside=beside),
    (1 + sets) * classes,
    grid=inference.grid(trained.config, trained.members),
    devices=trained.mesh.size,
    confidence=probabilities,  # for a gate: the scores are no logits
    classify=maps.classify(wanted, classes, own),
  )
