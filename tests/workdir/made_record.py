"""A tracker that keeps what it is told in memory; see `trackers.Record`."""

PACKAGES, MEND = "made", "Mend it."
RECORDS = {}  # id -> {"opened": times, "rows": [(step, numbers)], "images": [...], "complete": ...}
FAILS = {}  # 'open', or the name of a call -> what it raises


def errors():
  return (ConnectionError,)


def open_record(place):
  if "open" in FAILS:
    raise FAILS["open"]
  saved = dict(place.saved) or {"id": f"r{len(RECORDS)}"}
  new = {"opened": 0, "rows": [], "images": [], "texts": [], "complete": None}
  about = RECORDS.setdefault(saved["id"], new)
  about["opened"] += 1
  about.update(name=place.name, config=dict(place.config))
  return MadeRecord(saved, about)


class MadeRecord:
  where = "in memory"
  delay = 0.0

  def __init__(self, saved, about):
    self.saved, self._about = saved, about

  def _take(self, what, call, value):
    if call in FAILS:
      raise FAILS[call]
    self._about[what] = value if what == "complete" else [*self._about[what], value]

  def write_scalars(self, step, scalars):
    self._take("rows", "write_scalars", (step, dict(scalars)))

  def write_images(self, step, images):
    shapes = {name: picture.shape for name, picture in images.items()}
    self._take("images", "write_images", (step, shapes))

  def write_texts(self, step, texts):
    self._take("texts", "write_texts", (step, dict(texts)))

  def close(self, complete):
    self._take("complete", "close", complete)
