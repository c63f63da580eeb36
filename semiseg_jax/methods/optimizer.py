"""What a network says of an optimizer of its own."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """The optimizer of one network, in place of that of `config.optimizer`.

  None stands for the default of the key of that name (`training.optimizers.Options`), never for
  what a run has there.

  Attributes:
    name: 'sgd', 'adam' or 'adamw', as in `config.optimizer`.
    learning_rate: of all its parameters, at the peak of the schedule.
    weight_decay: on all its parameters.
    momentum, nesterov: of SGD.
    betas, epsilon: of Adam and AdamW.
    schedule: 'poly', 'cosine' or 'constant'; '' = that of the run.  Its power and warm-up are those
      of the run.
  """

  name: str
  learning_rate: float
  weight_decay: float
  momentum: float | None = None
  nesterov: bool | None = None
  betas: tuple[float, float] | None = None
  epsilon: float | None = None
  schedule: str = ""
