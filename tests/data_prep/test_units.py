"""Assigning videos to shards."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.units import assign_units


def videos(*sizes: int) -> list[Item]:
    files = [SourceFile(f"/{n}.mp4", f"{n}.mp4", size) for n, size in enumerate(sizes)]
    return [Item(file.name, "video", (file,), "train") for file in files]


@settings(deadline=None)
@given(
    st.lists(st.integers(min_value=0, max_value=50), max_size=60),
    st.integers(min_value=1, max_value=8),
    st.integers(min_value=1, max_value=100),
)
def test_units_are_the_videos_in_order_within_both_limits(
    sizes: list[int], samples: int, size: int
) -> None:
    units = assign_units(videos(*sizes), samples_per_shard=samples, bytes_per_shard=size)

    assert [video for unit in units for video in unit] == videos(*sizes)
    assert all(1 <= len(unit) <= samples for unit in units)
    assert all(len(unit) == 1 or sum(item.source_bytes for item in unit) <= size for unit in units)


def test_a_unit_is_filled_before_the_next_begins() -> None:
    units = assign_units(videos(4, 4, 4, 9), samples_per_shard=8, bytes_per_shard=10)

    assert [len(unit) for unit in units] == [2, 1, 1]


def test_sidecars_count_as_bytes() -> None:
    mask = SourceFile("/0.png", "0.png", 5)
    video = Item(
        "0.mp4", "video", (SourceFile("/0.mp4", "0.mp4", 2),), "train", sidecars=(mask, mask)
    )

    assert video.source_bytes == 12
