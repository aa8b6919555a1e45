"""What a catalogue lists: things of a source that may become samples, known by name alone."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from sigma_pipeline.data_prep.source_tree import SourceFile

Media = Literal["video", "frames", "image"]
"""One file with a video; a folder of pictures, one per frame; a single picture."""


class Segment(NamedTuple):
    """A part of a video, in seconds from its first frame; the end is left out."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Item:
    """One video, folder of frames or image, with what is known of it and stands beside it.

    Annotations are taken from lists or from sidecars, not from both.
    """

    name: str
    """Path relative to the source; unique in a dataset. Those of segments end in
    ``#<start>-<end>``. The key of the sample follows from it."""
    media: Media
    files: tuple[SourceFile, ...]
    """The video; the frames in their order; the image."""
    split: str
    class_name: str | None = None
    label: int | None = None
    """Place of the class in ``Listing.classes``."""
    labels: tuple[int, ...] = ()
    """All classes that apply, ascending, where more than one can."""
    segment: Segment | None = None
    """Just this part of the video is the sample."""
    annotation: str | None = None
    """What the lists say besides the class, as JSON text in canonical form."""
    group: str | None = None
    """What samples of one origin have in common: performer, scene, source video. Equal names are
    one group, whatever the class."""
    sidecars: tuple[SourceFile, ...] = ()
    """``<stem>.json`` of a folder catalogue, and masks ``<frame>.png``, in the order of names. The
    number is that of the frame in a video; among ``frames``, the mask bears a frame's own stem."""
    listed_at: str | None = None
    """``trainlist01.txt:17``: where an annotation names it."""

    @property
    def source_bytes(self) -> int:
        """Size of all its files."""
        return sum(file.size for file in (*self.files, *self.sidecars))
