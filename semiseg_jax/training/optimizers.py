"""SGD, Adam and AdamW as PyTorch runs them, over the stacked parameters of all trained networks.

One optimizer over a stack equals one per network: nothing here mixes parameters with each other.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import optax

from semiseg_jax import segments
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods.optimizer import Optimizer
from semiseg_jax.options import defaults, key
from semiseg_jax.training import rate_factors
from semiseg_jax.training.rate_factors import Factors, Layers
from semiseg_jax.wording import counted

Tree = Any
TITLES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
SCHEDULES = ("poly", "cosine", "constant")
_ADAMS = {"name": ("adam", "adamw")}


@dataclasses.dataclass(frozen=True)
class Options:
  """The config block `optimizer`: of the trained networks that have no optimizer of their own."""

  name: str = key(
    "sgd",
    "rule of the updates, as PyTorch's of that name; 'adam' has the weight decay in the gradient, "
    "'adamw' beside it",
    one_of=tuple(TITLES),
  )
  learning_rate: float = key(0.0025, "at the peak of the schedule, on mean losses", at_least=0)
  schedule: str = key(
    "poly", "of the learning rate, down to 0 at the last step but for 'constant'", one_of=SCHEDULES
  )
  final: float = key(
    0.0,
    "share of the rate that 'cosine' ends with",
    at_least=0,
    at_most=1,
    when={"schedule": ("cosine",)},
  )
  power: float = key(0.9, "of (1 - t / steps)", at_least=0, when={"schedule": ("poly",)})
  warmup_steps: int = key(
    0, "in which the rate rises linearly; the schedule spans the steps after them", at_least=0
  )
  continuation: str = key(
    "",
    "how the rate goes on where train.steps is raised on a complete run: 'restart' = its schedule "
    "again, 'cosine' down from optimizer.continuation_share of the peak, 'constant' at it",
    one_of=("", *segments.KINDS),
    free=True,
  )
  continuation_share: float = key(
    0.1,
    "share of the peak",
    above=0,
    at_most=1,
    when={"continuation": ("cosine", "constant")},
    free=True,
  )
  continued: tuple[str, ...] = key(
    (),
    "END=KIND*SHARE of every time that train.steps was raised; the program writes it",
  )
  momentum: float = key(
    0.9, "of SGD, without dampening", at_least=0, below=1, when={"name": ("sgd",)}
  )
  nesterov: bool = key(False, "SGD looks ahead along its momentum", when={"name": ("sgd",)})
  betas: tuple[float, float] = key(
    (0.9, 0.999),
    "of the averages of gradients and of their squares",
    at_least=0,
    below=1,
    length=(2,),
    when=_ADAMS,
  )
  epsilon: float = key(1e-8, "added to the root of the squares", above=0, when=_ADAMS)
  weight_decay: float = key(4e-4, "pulls parameters to 0; in AdamW times the rate", at_least=0)
  decayed: str = key(
    "kernels",
    "which parameters have weight decay; 'all': scales and biases too",
    one_of=("kernels", "all"),
  )
  head_multiplier: float = key(
    1.0, "learning rate of all but the backbone, relative to its", above=0
  )
  multipliers: tuple[str, ...] = key(
    (),
    "BEGINNING=FACTOR on the learning rate, by beginnings of 'part/unit/...', the longest wins, in "
    "place of head_multiplier: 'decoder=10', 'encoder/layer4=0.5', 'encoder/block1/=0'",
  )
  layer_decay: float = key(
    1.0,
    "layer k of the encoder, counted from the output, has the rate times this to the power of k",
    above=0,
    at_most=1,
  )
  frozen_norms: bool = key(False, "scales and biases of normalizations never move")


def poly(base: float, power: float, steps: int, t: Any) -> Any:
  """Returns base * (1 - t / steps) ** power, the learning rate of update t = 0 .. steps - 1.

  Works on Python numbers and numpy arrays (float64).
  """
  return base * (1 - t / steps) ** power


def rate(options: Options, steps: int, t: int) -> float:
  """Returns the learning rate of update t = 0 .. steps - 1, before any factor."""
  parts = segments.of(options.continued, steps)
  part = next((s for s in parts if t < s.stop), parts[-1])
  base, again = options.learning_rate * part.share, part.kind == segments.RESTART
  kind, warmup = (options.schedule, options.warmup_steps) if again else (part.kind, 0)
  t, steps = t - part.start, part.stop - part.start
  if t < warmup:
    return base * (t + 1) / warmup
  t, steps = t - warmup, steps - warmup
  if kind == "poly":
    return poly(base, options.power, steps, t)
  if kind == "constant":
    return base
  share = 0.5 * (1 + math.cos(math.pi * t / steps))
  return base * ((1 - options.final) * share + options.final)


def schedule(options: Options, base: float, kind: str, steps: int) -> optax.Schedule:
  """Returns update t -> rate on the device: `rate` in float32, with another peak and kind.

  Poly has the bits of `poly` computed in float32.

  Raises:
    ConfigError: a warm-up that outlasts the run or a segment of it.
  """
  parts = segments.of(options.continued, steps)
  courses = []
  for part in parts:
    again, length = part.kind == segments.RESTART, part.stop - part.start
    course = (kind, options.warmup_steps) if again else (part.kind, 0)
    courses.append(_course(options, part.share * base, *course, length))
  return optax.join_schedules(courses, [s.start for s in parts[1:]]) if parts[1:] else courses[0]


def _course(options: Options, base: float, kind: str, warmup: int, steps: int) -> optax.Schedule:
  """One segment, t from 0 at its first update."""
  if warmup and warmup >= steps:
    raise ConfigError(
      f"optimizer.warmup_steps={warmup}: fewer than the train.steps={steps} of the run."
    )
  after = {
    "poly": lambda left: optax.polynomial_schedule(base, 0.0, options.power, left),
    "cosine": lambda left: optax.cosine_decay_schedule(base, left, options.final),
    "constant": lambda left: optax.constant_schedule(base),
  }[kind](steps - warmup)
  if warmup:
    rise = optax.linear_schedule(0.0, base, warmup)
    after = optax.join_schedules([lambda t: rise(t + 1), after], [warmup])
  return after


def decay_mask(params: Tree, decayed: str) -> Tree:
  """Returns booleans shaped as `params`: the leaves that weight decay acts on.

  Decided by path, never by rank (a stack adds an axis).

  Args:
    params: nested dicts.
    decayed: 'kernels' (of convolutions and matrices; no norms, no biases) or 'all'.
  """
  return rate_factors.by_path(params, lambda path: decayed == "all" or path[-1] == "kernel")


def build(
  options: Options,
  steps: int,
  *,
  idle: frozenset[str] = frozenset(),
  own: Mapping[str, Optimizer] | None = None,
  rates: Mapping[str, float] | None = None,
  layers: Mapping[str, Layers] | None = None,
) -> optax.GradientTransformation:
  """Returns the optimizer of {stack: parameters}; t counts from 0 at the first update.

  With g the gradient, f the factor of a leaf (`Factors`) and w the weight decay, 0 where a leaf has
  none, theta <- theta - f lr(t) u, where

    SGD    v <- momentum v + g + w theta;  u = v, with Nesterov momentum v + g + w theta
    Adam   u = m' / (sqrt(v') + epsilon), m' and v' the corrected averages of g + w theta and of
           its square
    AdamW  u = m' / (sqrt(v') + epsilon) + w theta, the averages of g alone

  The tree of its state is a part of checkpoints; tests write it out.

  Args:
    options: the block `optimizer`.
    steps: of the run.
    idle: names of modules that the networks hold and do not use; they do not move.
    own: stack -> the optimizer that it has instead.
    rates: stack -> factor on its learning rate, 1 where it is absent.
    layers: stack -> layers of its encoder (`rate_factors.layers_of`); read under layer decay only.

  Raises:
    ConfigError: a multiplier that cannot be read, or a warm-up that outlasts the run; from `init`:
      a multiplier that fits no parameter.
  """
  own, rates = _complete(own), rates or {}
  if options.layer_decay != 1 and layers is None:
    raise ValueError("Layer decay needs the layers of the encoders.")
  factors = Factors(
    head=options.head_multiplier,
    parts=rate_factors.parse(options.multipliers),
    layer_decay=options.layer_decay,
    layers=layers or {},
    stacks=rates,
    frozen_norms=options.frozen_norms,
    idle=idle,
  )
  usual = _usual(options, factors, steps)
  transforms = {name: _own(options, o, rates.get(name, 1.0), steps) for name, o in own.items()}
  both = _per_stack(transforms, usual) if transforms else usual

  def init(params: Tree) -> Tree:
    factors.check({name: tree for name, tree in params.items() if name not in own})
    return both.init(params)

  return optax.GradientTransformation(init, both.update)


def _complete(own: Mapping[str, Optimizer] | None) -> dict[str, Optimizer]:
  """What they leave open is the default of its key in `Options`."""
  usual = defaults(Options)
  absent = lambda o: {k: usual[k] for k, value in vars(o).items() if value is None}
  return {name: dataclasses.replace(o, **absent(o)) for name, o in (own or {}).items()}


def _usual(options: Options, factors: Factors, steps: int) -> optax.GradientTransformation:
  """The optimizer of the stacks that have none of their own."""
  return optax.chain(
    *_rule(options, lambda params: decay_mask(params, options.decayed)),
    optax.stateless(lambda u, params: jax.tree.map(lambda u, f: u * f, u, factors.of(u))),
    _descent(options, options.learning_rate, options.schedule, steps),
  )


def _rule(o: Options | Optimizer, mask: Any) -> list[optax.GradientTransformation]:
  decay = optax.add_decayed_weights(o.weight_decay, mask=mask)
  if o.name == "sgd":
    return [decay, optax.trace(decay=o.momentum, nesterov=o.nesterov)]
  adam = optax.scale_by_adam(*o.betas, eps=o.epsilon)
  return {"adam": [decay, adam], "adamw": [adam, decay]}[o.name]


def _descent(options: Options, base: float, kind: str, steps: int) -> optax.GradientTransformation:
  return optax.scale_by_learning_rate(schedule(options, base, kind, steps))


def _own(options: Options, o: Optimizer, factor: float, steps: int) -> optax.GradientTransformation:
  rule = _rule(o, None)
  if not o.weight_decay:  # its place in the state is left out, as in checkpoints of AdvSemiSeg
    rule.pop(1 if o.name == "adamw" else 0)
  kind = o.schedule or options.schedule
  return optax.chain(*rule, _descent(options, factor * o.learning_rate, kind, steps))


def _per_stack(
  transforms: Mapping[str, optax.GradientTransformation], usual: optax.GradientTransformation
) -> optax.GradientTransformation:
  """Gives each stack its own state.

  `optax.partition` holds the same numbers in another tree, which checkpoints do not have.
  """

  def init(params: Tree) -> Tree:
    return {name: transforms.get(name, usual).init({name: p}) for name, p in params.items()}

  def update(grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
    moved = {
      name: transforms.get(name, usual).update({name: g}, state[name], {name: params[name]})
      for name, g in grads.items()
    }
    updates = {name: update[name] for name, (update, _) in moved.items()}
    return updates, {name: state for name, (_, state) in moved.items()}

  return optax.GradientTransformation(init, update)


def describe(
  options: Options,
  own: Mapping[str, Optimizer] | None = None,
  rates: Mapping[str, float] | None = None,
) -> str:
  """Returns one line that says what runs; the arguments are those of `build`."""
  on = "all parameters" if options.decayed == "all" else "kernels"
  parts = [_described(options, options, options.schedule, on)]
  if options.head_multiplier != 1:
    parts.append(f"all but the encoder x{options.head_multiplier:g}")
  factors = {**rate_factors.parse(options.multipliers), **(rates or {})}
  parts += [f"{what} x{factor:g}" for what, factor in factors.items()]
  if options.layer_decay != 1:
    parts.append(f"layer decay {options.layer_decay:g}")
  if options.frozen_norms:
    parts.append("scales and biases of normalizations frozen")
  for name, o in _complete(own).items():
    kind = o.schedule or options.schedule
    parts.append(f"{name} by {_described(options, o, kind, 'all parameters')}")
  return "; ".join(parts)


def _described(options: Options, o: Options | Optimizer, kind: str, on: str) -> str:
  if o.name == "sgd":
    memory = f"{'Nesterov ' if o.nesterov else ''}momentum {o.momentum:g}"
  else:
    memory = f"betas {o.betas[0]:g} and {o.betas[1]:g}, epsilon {o.epsilon:g}"
  decay = f"weight decay {o.weight_decay:g} on {on}" if o.weight_decay else "no weight decay"
  course = f"{kind} {options.power:g}" if kind == "poly" else kind
  course += f" {'at' if kind == 'constant' else 'from'} {o.learning_rate:g}"
  if kind == "cosine" and options.final:
    course += f" to {options.final * o.learning_rate:g}"
  if options.warmup_steps:
    course += f" after {counted(options.warmup_steps, 'step')} of warm-up"
  course += "".join(f", then {item}" for item in options.continued)
  return f"{TITLES[o.name]}, {memory}, {decay}, {course}"


def norms(params: Tree, updates: Tree) -> dict[str, jax.Array]:
  """Returns the lengths of all parameters and of all updates, as vectors, for the log."""
  return {"l2_params": optax.tree.norm(params), "l2_updates": optax.tree.norm(updates)}
