"""Which videos go into which shard: decided by names and sizes, before anything is opened.

So a video that turns out unusable leaves a gap and never moves another one.
"""

from collections.abc import Iterable

from sigma_pipeline.data_prep.items import Item


def assign_units(
    videos: Iterable[Item], *, samples_per_shard: int, bytes_per_shard: int
) -> list[tuple[Item, ...]]:
    """``videos``, in their order, cut into the contents of one shard after another.

    A shard ends before it has more than ``samples_per_shard`` videos or, by the sizes of the
    sources with their sidecars, more than ``bytes_per_shard`` bytes; a single larger video has
    one of its own.
    """
    units: list[tuple[Item, ...]] = []
    unit: list[Item] = []
    unit_bytes = 0
    for video in videos:
        size = video.source_bytes
        if unit and (len(unit) == samples_per_shard or unit_bytes + size > bytes_per_shard):
            units.append(tuple(unit))
            unit, unit_bytes = [], 0
        unit.append(video)
        unit_bytes += size
    return [*units, tuple(unit)] if unit else units
