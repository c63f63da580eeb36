"""Equation 4 of ST++ and the ranking by it, in plain Python."""


def agreement(labels, classes):
  """s of one picture, pixel by pixel."""
  last, total = labels[-1].ravel().tolist(), 0.0
  for earlier in (m.ravel().tolist() for m in labels[:-1]):
    ious = []
    for c in range(classes):
      both = sum(a == c and b == c for a, b in zip(earlier, last))
      either = sum(a == c or b == c for a, b in zip(earlier, last))
      if either:
        ious.append(both / either)
    total += sum(ious) / len(ious)
  return total / (len(labels) - 1)


def ranked(scores, share):
  """The ids of the best, by a sort that keeps the order of equal ones."""
  order = sorted(scores, key=lambda id_: -scores[id_])
  best = set(order[: max(int(share * len(order)), 1)])
  return tuple(id_ for id_ in scores if id_ in best)
