"""From one picture, a file of its own or a row of a packed one, to the members of one sample."""

import hashlib
from pathlib import Path, PurePosixPath

from sigma_pipeline.data_prep.cifar import picture_png
from sigma_pipeline.data_prep.description import describe
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import sample_key
from sigma_pipeline.data_prep.pictures import check_picture
from sigma_pipeline.data_prep.probe import Probe
from sigma_pipeline.data_prep.restricted_pickle import RefusedPickleError
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.source_bytes import read_source
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected


def prepare_image(item: Item, settings: SampleSettings) -> Sample:
    """Reads and checks the picture of ``item``, and keeps its bytes; packed ones become PNG.

    Its one member beside ``json`` is ``jpg`` or ``png``, by its content. Neither the orientation
    that a camera noted nor ``settings.transcode`` is applied: benchmarks take pictures as stored.

    Raises:
        Rejected: it is damaged, too large, or neither JPEG nor PNG.
        StageError: the file is not the one any more that was listed.
    """
    (file,) = item.files
    if file.size > settings.limits.file_gib * (1 << 30):
        limit = f"the limit is {settings.limits.file_gib} GiB"
        raise Rejected("too_large", f"the picture has {file.size} bytes, {limit}")
    data = read_source(file) if file.row is None else _read_row(file, file.row)
    name = PurePosixPath(file.name).name
    suffix, width, height = check_picture(name, data, settings.limits.megapixels)
    probe = Probe(
        frames=1,
        fps=0.0,
        width=width,
        height=height,
        rotation=0,
        keyframes=(0,),
        keyframe_pts=(0,),
        codec="png" if suffix == ".png" else "mjpeg",
        container="",
    )
    return Sample(
        item=item,
        key=sample_key(item.name),
        suffix=suffix,
        sha256=hashlib.sha256(data).hexdigest(),
        probe=probe,
        annotation=item.annotation,
        members=((suffix[1:], data), ("json", describe(item, probe, item.annotation))),
    )


def _read_row(file: SourceFile, row: int) -> bytes:
    try:
        return picture_png(Path(file.path), row)
    except (RefusedPickleError, OSError) as error:
        raise Rejected("unreadable", str(error)) from error
