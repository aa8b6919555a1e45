"""One rank of loaders of one, two and three ranks, run as a program: hashes of the clips it gives.

Arguments: address of the store, rank, global batches. Writes one line to standard output, as JSON:
for each number of ranks the global batches, each a list of epoch, position and sha256 of a clip.
"""

import hashlib
import json
import sys
from itertools import islice

from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.config import ClipConfig, LoaderConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.loader import TrainLoader
from sigma_pipeline.infra.storage import open_storage

REFS = (DatasetRef("colours", "train", "v1"), DatasetRef("copies", "train", "v1"))
CLIP = ClipConfig(clips_per_decode=2, flip_probability=0.5, frame_stride=1)
Hashed = tuple[int, int, str]


def open_loader(root_uri: str, rank: int, ranks: int) -> TrainLoader:
    storage = open_storage(root_uri)
    return TrainLoader(
        storage,
        [Index.load(storage, ref) for ref in REFS],
        ClipPlan(CLIP, num_frames=4, frame_size_px=32, seed=7),
        loader=LoaderConfig(workers=0, order_window_shards=1),
        global_batch_clips=12,
        micro_batch_clips=2 if ranks == 1 else 1,
        weights=[2, 1],
        rank=rank,
        world_size=ranks,
    )


def share(root_uri: str, rank: int, ranks: int, batches: int) -> list[list[Hashed]]:
    """What ``rank`` gives to each global batch, from the second one of the first epoch on."""
    loader = open_loader(root_uri, rank, ranks)
    return [
        [
            (batch.epoch, position, hashlib.sha256(clip.numpy().tobytes()).hexdigest())
            for batch in micro_batches
            for position, clip in zip(batch.positions.tolist(), batch.clip, strict=True)
        ]
        for micro_batches in islice(loader.micro_batches(0, 1), batches)
    ]


if __name__ == "__main__":
    place, number = int(sys.argv[2]), int(sys.argv[3])
    shares = {ranks: share(sys.argv[1], place, ranks, number) for ranks in range(place + 1, 4)}
    sys.stdout.write(json.dumps(shares))
