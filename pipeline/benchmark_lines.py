"""What is printed of benchmarks: the list, and the scores of results that were made elsewhere."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sigma_pipeline.pipeline.table import aligned

if TYPE_CHECKING:  # they bring numpy and more, which help has no use for
    from sigma_pipeline.jobs.ava_score import ScoredDetections
    from sigma_pipeline.jobs.benchmark_list import ListedBenchmark
    from sigma_pipeline.jobs.davis_score import ScoredSequence
    from sigma_pipeline.jobs.uvos_score import ScoredClip

Block = Sequence[str]
"""Lines that stand together."""
_CLIP_COLUMNS = ("Sequence", "mIoU", "Frames", "Objects", "Clusters")


def list_blocks(listed: "Sequence[ListedBenchmark]") -> list[Block]:
    """The benchmarks; then whether the recipe's splits have what they need, and what they lack."""
    about = [["benchmark", "version", "cost", "needs", ""]]
    for found in listed:
        needs = ", ".join(found.needs)
        about.append([found.name, str(found.version), found.cost, needs, found.summary])
    splits = [f"{at.dataset}/{at.split}" for at in listed[0].splits]
    states = [["benchmark", *splits]]
    states += [[found.name, *(at.state for at in found.splits)] for found in listed]
    reasons = dict.fromkeys(
        f"{at.state}: {at.reason}" for found in listed for at in found.splits if at.reason
    )
    left = range(len(states[0]))
    return [aligned(about, left=(0, 2, 3, 4)), aligned(states, left=left), list(reasons)]


def davis_blocks(
    scored: "Mapping[str, ScoredSequence]", remarks: Sequence[str] = ()
) -> list[Block]:
    """``remarks`` and what else is to be said, the means over all objects, and J and F of each."""
    from sigma_pipeline.jobs.vos_results import OBJECT_COLUMNS, global_rows, object_rows

    scores = {name: sequence.objects for name, sequence in scored.items()}
    binary = [name for name, sequence in scored.items() if sequence.is_binary]
    return [
        [*remarks, *_binary_remarks(binary)],
        aligned(global_rows(scores), left=()),
        aligned([OBJECT_COLUMNS, *object_rows(scores)]),
    ]


def uvos_blocks(clips: "Mapping[str, ScoredClip]", remarks: Sequence[str] = ()) -> list[Block]:
    """``remarks`` and what else is to be said, the mean over clips, and mIoU of each."""
    binary = [name for name, clip in clips.items() if clip.is_binary]
    resized = [name for name, clip in clips.items() if clip.resized_to is not None]
    mean = sum(clip.miou for clip in clips.values()) / len(clips)
    return [
        [*remarks, *_binary_remarks(binary), *_size_remarks(resized)],
        aligned([["mIoU", "Clips"], [f"{mean:.4f}", str(len(clips))]], left=()),
        aligned([_CLIP_COLUMNS, *(_clip_row(name, clip) for name, clip in clips.items())]),
    ]


def ava_blocks(scored: "ScoredDetections") -> list[Block]:
    """What else is to be said, the mean over actions, and AP of each."""
    numbers = (len(scored.precisions), scored.frames, scored.boxes, scored.detections)
    return [
        _ava_remarks(scored),
        aligned(
            [
                ["mAP", "Actions", "Frames", "Boxes", "Detections"],
                [f"{scored.mean:.4f}", *map(str, numbers)],
            ],
            left=(),
        ),
        aligned([["Action", "AP"], *([n, f"{ap:.4f}"] for n, ap in scored.precisions.items())]),
    ]


def _ava_remarks(scored: "ScoredDetections") -> list[str]:
    remarks = []
    if scored.absent:
        remarks.append(f"Not in the truth, and left out: {', '.join(scored.absent)}.")
    if scored.elsewhere:
        remarks.append(
            f"{scored.elsewhere} of {scored.detections} detections are in movies that the truth "
            "does not have; each counts as a mistake."
        )
    return remarks


def _clip_row(name: str, clip: "ScoredClip") -> list[str]:
    numbers = (clip.frames, clip.objects, clip.clusters)
    return [name, f"{clip.miou:.4f}", *map(str, numbers)]


def _binary_remarks(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [
        f"Annotated as in DAVIS 2016, with 0 and 255 alone; 255 is the object: {', '.join(names)}."
    ]


def _size_remarks(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [
        "Annotations were brought to the size of the cluster maps by nearest neighbour: "
        f"{', '.join(names)}."
    ]
