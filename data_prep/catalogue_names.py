"""The catalogues a recipe can name, and the splits each has of its own."""

from collections.abc import Mapping
from typing import Literal

CatalogueName = Literal[
    "folder",
    "table",
    "segments",
    "ssv2",
    "kinetics",
    "ucf101",
    "hmdb51",
    "finegym",
    "diving48",
    "charades",
    "ava",
    "ucfrep",
    "quva",
    "countix",
    "davis",
    "youtube_vos",
    "image_folder",
    "cifar100",
]

_SPLITS: Mapping[CatalogueName, Mapping[str, float | str]] = {
    "folder": {"train": 0.8, "val": 0.2},
    "table": {"train": "train.csv", "val": "val.csv"},
    "segments": {"train": "train.csv", "val": "val.csv"},
    "ssv2": {
        "train": "something-something-v2-train.json",
        "val": "something-something-v2-validation.json",
    },
    "kinetics": {"train": "train_videofolder.txt", "val": "val_videofolder.txt"},
    "ucf101": {"train": "trainlist0{fold}.txt", "val": "testlist0{fold}.txt"},
    "hmdb51": {"train": "1", "val": "2"},
    "finegym": {"train": "{family}_train.txt", "val": "{family}_val.txt"},
    "diving48": {"train": "Diving48_V2_train.json", "val": "Diving48_V2_test.json"},
    "charades": {"train": "frame_lists/train.csv", "val": "frame_lists/val.csv"},
    "ava": {"train": "frame_lists/train.csv", "val": "frame_lists/val.csv"},
    "ucfrep": {"train": "train", "val": "val"},
    "quva": {"test": "annotations"},
    "countix": {
        "train": "countix_train.csv",
        "val": "countix_val.csv",
        "test": "countix_test.csv",
    },
    "davis": {"train": "ImageSets/2017/train.txt", "val": "ImageSets/2017/val.txt"},
    "youtube_vos": {"train": "train/meta.json", "val": "valid/meta.json"},
    "image_folder": {"train": "train", "val": "val"},
    "cifar100": {"train": "train", "val": "test"},
}
"""``{fold}`` stands for the option of that name, ``{family}`` for gym99 or gym288; values of hmdb51
are the marks in its lists, those of ucfrep, quva and image_folder are folders."""


_ABOUT: Mapping[CatalogueName, str] = {
    "folder": "videos, their classes' names on the folders; splits drawn by shares, or top folders",
    "table": "CSV, TSV or Parquet of path and label, VideoMAE's space separated lists as well",
    "segments": "CSV of video, start, end (seconds) and label: parts of longer videos",
    "ssv2": "Something-Something V2: videos by id, official JSON lists and labels",
    "kinetics": "Kinetics: videofolder.txt, the official CSV, or VideoMAE's lists",
    "ucf101": "UCF101: ucfTrainTestlist, any of the three folds",
    "hmdb51": "HMDB51: lists per class, any of the three folds",
    "finegym": "FineGym clips: Gym99, Gym288, and SEVERE's FX-S1 and UB-S1",
    "diving48": "Diving48 V2: official JSON lists and vocabulary",
    "charades": "Charades, many labels a video: frame lists, or the CSV of intervals",
    "ava": "AVA v2.2 movies: frame lists, boxes with actions, excluded seconds",
    "ucfrep": "UCFRep repetition counts (.mat or .txt) on UCF101's videos",
    "quva": "QUVA repetition counts (.npy)",
    "countix": "Countix: segments of Kinetics videos with repetition counts",
    "davis": "DAVIS 2016 and 2017: frames with palette masks",
    "youtube_vos": "YouTube-VOS: sparse frames with palette masks, meta.json",
    "image_folder": "pictures in folders of classes, as ImageNet-1K",
    "cifar100": "CIFAR-100 as it is distributed (python version)",
}


def about(name: CatalogueName) -> str:
    """What the catalogue reads, in a line."""
    return _ABOUT[name]


def default_splits(name: CatalogueName) -> dict[str, float | str]:
    """Split names with their shares, or their list files relative to the annotations."""
    return dict(_SPLITS[name])


def is_drawn(name: CatalogueName) -> bool:
    """Whether splits are drawn by shares, for want of lists."""
    return name == "folder"
