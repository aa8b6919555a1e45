"""From one item to the members of one sample, whatever its media."""

from sigma_pipeline.data_prep.frame_samples import prepare_frames
from sigma_pipeline.data_prep.image_samples import prepare_image
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.video_samples import prepare_video

_PREPARE_MEDIA = {"video": prepare_video, "frames": prepare_frames, "image": prepare_image}


def prepare(item: Item, settings: SampleSettings) -> Sample:
    """Reads, checks and, where asked for, re-encodes one item.

    Raises:
        Rejected: it cannot become a sample, and why.
        StageError: it is not what was listed any more.
    """
    return _PREPARE_MEDIA[item.media](item, settings)
