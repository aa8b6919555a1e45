"""What a dataset's source holds, read as its catalogue says."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from sigma_pipeline.data_prep.catalogues.ava import list_ava
from sigma_pipeline.data_prep.catalogues.charades import list_charades
from sigma_pipeline.data_prep.catalogues.cifar100 import list_cifar100
from sigma_pipeline.data_prep.catalogues.countix import list_countix
from sigma_pipeline.data_prep.catalogues.davis import list_davis
from sigma_pipeline.data_prep.catalogues.diving48 import list_diving48
from sigma_pipeline.data_prep.catalogues.finegym import list_finegym
from sigma_pipeline.data_prep.catalogues.folder import list_folder
from sigma_pipeline.data_prep.catalogues.hmdb51 import list_hmdb51
from sigma_pipeline.data_prep.catalogues.image_folder import list_image_folder
from sigma_pipeline.data_prep.catalogues.kinetics import list_kinetics
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.quva import list_quva
from sigma_pipeline.data_prep.catalogues.segments import list_segments
from sigma_pipeline.data_prep.catalogues.ssv2 import list_ssv2
from sigma_pipeline.data_prep.catalogues.table import list_table
from sigma_pipeline.data_prep.catalogues.ucf101 import list_ucf101
from sigma_pipeline.data_prep.catalogues.ucfrep import list_ucfrep
from sigma_pipeline.data_prep.catalogues.youtube_vos import list_youtube_vos
from sigma_pipeline.data_prep.config import DatasetConfig

__all__ = ["CATALOGUES", "Listing", "list_items", "options_of"]

ListSource = Callable[[DatasetConfig, Sequence[Path]], Listing]

CATALOGUES: Mapping[str, ListSource] = {
    "folder": list_folder,
    "table": list_table,
    "segments": list_segments,
    "ssv2": list_ssv2,
    "kinetics": list_kinetics,
    "ucf101": list_ucf101,
    "hmdb51": list_hmdb51,
    "finegym": list_finegym,
    "diving48": list_diving48,
    "charades": list_charades,
    "ava": list_ava,
    "ucfrep": list_ucfrep,
    "quva": list_quva,
    "countix": list_countix,
    "davis": list_davis,
    "youtube_vos": list_youtube_vos,
    "image_folder": list_image_folder,
    "cifar100": list_cifar100,
}
"""By the name that a recipe uses."""


def list_items(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the folders ``roots``, which stand for the sources of ``dataset``.

    Raises:
        MissingInputError: a folder or a list is not there, or nothing is in it.
        ConfigError: a source is of the wrong kind, or a list says what cannot be (file and line).
    """
    return CATALOGUES[dataset.catalogue](dataset, roots)


def options_of(list_source: ListSource) -> type[BaseModel] | None:
    """What a catalogue lets one choose, declared as ``<Name>Options`` beside it."""
    declared = [
        member
        for name, member in vars(sys.modules[list_source.__module__]).items()
        if name.endswith("Options") and name != "NoOptions" and issubclass(member, BaseModel)
    ]
    return declared[0] if declared else None
