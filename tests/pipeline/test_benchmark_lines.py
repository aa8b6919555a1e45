"""How benchmarks and their scores are laid out for reading."""

from sigma_pipeline.jobs.benchmark_list import ListedBenchmark, SplitState
from sigma_pipeline.jobs.davis_score import ScoredSequence
from sigma_pipeline.jobs.uvos_score import ScoredClip
from sigma_pipeline.pipeline.benchmark_lines import davis_blocks, list_blocks, uvos_blocks
from tests.jobs.object_scores import scored


def listed(name: str, needs: tuple[str, ...], *splits: SplitState) -> ListedBenchmark:
    return ListedBenchmark(
        name=name, version=2, cost="cheap", summary="Says much", needs=needs, splits=splits
    )


def test_the_list_says_what_is_needed_what_is_there_and_each_reason_once() -> None:
    not_sharded = SplitState("clips", "train", "not sharded", "make it with: run")
    lacking = SplitState("clips", "val", "lacking", "split 'val' has no object masks")
    ready = SplitState("clips", "val", "ready")

    blocks = list_blocks(
        [
            listed("knn", ("training split", "labels"), not_sharded, ready),
            listed("uvos", ("object masks",), not_sharded, lacking),
        ]
    )

    assert blocks == [
        [
            "benchmark  version  cost   needs",
            "knn              2  cheap  training split, labels  Says much",
            "uvos             2  cheap  object masks            Says much",
        ],
        [
            "benchmark  clips/train  clips/val",
            "knn        not sharded  ready",
            "uvos       not sharded  lacking",
        ],
        ["not sharded: make it with: run", "lacking: split 'val' has no object masks"],
    ]


def test_binary_annotations_are_named() -> None:
    objects = [scored(1, 0.5, 0.25)]

    remarks, means, table = davis_blocks(
        {"bear": ScoredSequence(objects, True), "cows": ScoredSequence(objects, False)}, ["First."]
    )

    assert remarks[0] == "First."
    assert remarks[1].endswith("255 is the object: bear.")
    assert means[1].split() == [
        "0.3750",
        "0.5000",
        "0.0000",
        "0.0000",
        "0.2500",
        "0.0000",
        "0.0000",
    ]
    assert table[1:] == ["bear_1    0.5000  0.2500", "cows_1    0.5000  0.2500"]


def test_clips_weigh_alike_and_resized_ones_are_named() -> None:
    def clip(miou: float, frames: int, resized_to: tuple[int, int] | None) -> ScoredClip:
        return ScoredClip(
            miou, frames, objects=2, clusters=3, is_binary=False, resized_to=resized_to
        )

    remarks, mean, table = uvos_blocks({"bear": clip(0.5, 4, None), "cows": clip(0.9, 1, (8, 8))})

    assert remarks == [
        "Annotations were brought to the size of the cluster maps by nearest neighbour: cows."
    ]
    assert mean[1].split() == ["0.7000", "2"]
    assert table[2].split() == ["cows", "0.9000", "1", "2", "3"]
