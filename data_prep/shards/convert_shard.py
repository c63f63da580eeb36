"""One shard of a preparation, made from its items."""

from data_prep.shards.convert_plan import Item, Job, Part
from data_prep.shards.workers import Progress
from semiseg_jax.data.writing.shards import Encoded, ShardWriter
from semiseg_jax.errors import DataError


def make_shard(job: Job, part: Part, progress: Progress) -> list[str]:
  """Writes a part's shard, or returns what is wrong with its items.

  Once something is wrong with any part, only looks for what else is.

  Raises:
    DiskError: the shard cannot be written.
  """
  problems: list[str] = []
  writer = ShardWriter(job.path(part), job.key)
  try:
    for item in part.items:
      if progress.stopped:
        break
      encoded = _encode(job, item, problems)
      if problems:
        progress.set_wrong()
      if not progress.wrong:
        writer.append(encoded)
      progress.count()
    if not (progress.wrong or progress.stopped):
      writer.close()
  finally:
    writer.discard()
  return problems


def _encode(job: Job, item: Item, problems: list[str]) -> Encoded | None:
  try:
    loaded = job.load(item)
    return job.encoder.encode(item.id, loaded.image, loaded.label, loaded.valid, loaded.facts)
  except DataError as error:
    problems += str(error).splitlines()
  except OSError as error:
    problems.append(f"picture {item.id!r} cannot be read ({error}); mend its source or remove it")
  return None
