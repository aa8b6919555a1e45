"""What a file is, by its first bytes, and whether its container was cut short.

libav opens a great many things that are no videos (text as an animation, pictures as a film of one
frame, archives that happen to contain a video), so content is looked at before it gets there.
"""

from typing import Literal, NamedTuple

Kind = Literal["video", "image", "audio", "archive", "text", "other", "unknown"]


class Content(NamedTuple):
    """What the bytes are, and the spoken name of the format."""

    kind: Kind
    name: str


class _Magic(NamedTuple):
    offset: int
    magic: bytes
    content: Content


# Looked up in this order: the specific before the general.
_MAGIC = (
    *(
        _Magic(8, brand, Content("image", "HEIF/AVIF picture"))
        for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")
    ),
    *(
        _Magic(4, box, Content("video", "MP4/QuickTime"))
        for box in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"pnot")
    ),
    _Magic(8, b"AVI ", Content("video", "AVI")),
    _Magic(8, b"WEBP", Content("image", "WebP picture")),
    _Magic(8, b"WAVE", Content("audio", "WAV audio")),
    _Magic(0, b"\x1a\x45\xdf\xa3", Content("video", "Matroska/WebM")),
    _Magic(0, b"GIF8", Content("video", "GIF")),
    _Magic(0, b"FLV\x01", Content("video", "Flash video")),
    _Magic(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Content("video", "ASF/WMV")),
    _Magic(0, b"OggS", Content("video", "Ogg")),
    _Magic(0, b"\0\0\x01\xba", Content("video", "MPEG program stream")),
    _Magic(0, b"\0\0\x01\xb3", Content("video", "MPEG video")),
    _Magic(0, b".RMF", Content("video", "RealMedia")),
    _Magic(0, b"\x06\x0e\x2b\x34", Content("video", "MXF")),
    _Magic(0, b"DKIF", Content("video", "IVF")),
    _Magic(0, b"\x89PNG\r\n", Content("image", "PNG picture")),
    _Magic(0, b"\xff\xd8\xff", Content("image", "JPEG picture")),
    _Magic(0, b"II*\0", Content("image", "TIFF picture")),
    _Magic(0, b"MM\0*", Content("image", "TIFF picture")),
    _Magic(0, b"8BPS", Content("image", "Photoshop picture")),
    _Magic(0, b"ID3", Content("audio", "MP3 audio")),
    _Magic(0, b"fLaC", Content("audio", "FLAC audio")),
    _Magic(257, b"ustar", Content("archive", "tar archive")),
    _Magic(0, b"PK\x03\x04", Content("archive", "zip archive")),
    _Magic(0, b"\x1f\x8b\x08", Content("archive", "gzip file")),
    _Magic(0, b"BZh", Content("archive", "bzip2 file")),
    _Magic(0, b"\xfd7zXZ\0", Content("archive", "xz file")),
    _Magic(0, b"\x28\xb5\x2f\xfd", Content("archive", "zstd file")),
    _Magic(0, b"7z\xbc\xaf\x27\x1c", Content("archive", "7z archive")),
    _Magic(0, b"Rar!\x1a\x07", Content("archive", "rar archive")),
    _Magic(0, b"\0\x05\x16\x07", Content("other", "AppleDouble resource fork")),
    _Magic(0, b"\x93NUMPY", Content("other", "NumPy array")),
    _Magic(0, b"%PDF-", Content("other", "PDF document")),
    _Magic(0, b"\x7fELF", Content("other", "program")),
)
# Packets of 188 bytes begin with 0x47; those of m2ts files have 4 bytes before it.
_TRANSPORT_STREAM = ((0, 188), (4, 192))


def describe(data: bytes) -> Content:
    """The format of a file by its content alone."""
    for offset, magic, content in _MAGIC:
        if data.startswith(magic, offset):
            return content
    for first, length in _TRANSPORT_STREAM:
        if data[first : first + 5 * length : length] == b"\x47" * 5:
            return Content("video", "MPEG transport stream")
    if _is_text(data[:4096]):
        return Content("text", "text")
    return Content("unknown", "unknown data")


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "replace")
    odd = sum(not (c.isprintable() or c in "\t\n\r\f\x1b\ufeff") for c in text)
    # The end of ``head`` may cut one character in two.
    broken = text.count("\ufffd")
    return bool(head) and odd == 0 and broken <= 1


def missing_bytes(data: bytes) -> int:
    """How many bytes, at least, the container's own sizes promise beyond the end of the file.

    libav reads a file that was cut short to where it ends and reports nothing, so half a download
    would pass for a shorter video. AVI, GIF, MP4 and Matroska say how long their parts are.
    """
    name = describe(data).name
    if name == "MP4/QuickTime":
        return _missing_of_boxes(data)
    if name == "AVI":
        return _missing_of_chunks(data)
    if name == "Matroska/WebM":
        return _missing_of_segment(data)
    if name == "GIF":
        return _missing_of_blocks(data)
    return 0


def _missing_of_boxes(data: bytes) -> int:
    """Top-level boxes of ISO 14496-12, section 4.2: size, type, perhaps a 64-bit size."""
    start = 0
    while start + 8 <= len(data):
        size = int.from_bytes(data[start : start + 4], "big")
        if size == 1:
            size = int.from_bytes(data[start + 8 : start + 16], "big")
        if size < 8 or not data[start + 4 : start + 8].isalnum():
            return 0  # the last box runs to the end, or something other than boxes follows
        start += size
    return max(0, start - len(data))


def _missing_of_chunks(data: bytes) -> int:
    """Chunks of an AVI file. Each list's own size counts; RIFF's is often wrong in the wild."""
    start = 12
    while start + 8 <= len(data):
        if data[start : start + 4] == b"RIFF":  # a further part of a large file (OpenDML)
            start += 12
            continue
        if not data[start : start + 4].strip().isalnum():
            return 0
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        start += 8 + size + size % 2
    return max(0, start - len(data) - 1)  # the padding of the last chunk may be left out


def _missing_of_segment(data: bytes) -> int:
    """The segment of a Matroska file (RFC 8794); a live recording does not know its size."""
    try:
        start, size = _element(data, 0, id_length=4)
        start, size = _element(data, start + size, id_length=4)
    except IndexError:
        return 0
    is_unknown = (size + 1) & size == 0 and size >= 127
    return 0 if is_unknown else max(0, start + size - len(data))


def _element(data: bytes, start: int, id_length: int) -> tuple[int, int]:
    """Start of the content and size of the element at ``start``."""
    first = data[start + id_length]
    length = 9 - first.bit_length()
    end = start + id_length + length
    return end, int.from_bytes(data[start + id_length : end], "big") & ((1 << 7 * length) - 1)


def _missing_of_blocks(data: bytes) -> int:
    """Blocks of a GIF (GIF89a, sections 15 to 27); the trailer may be left out."""
    start = 13 + _color_table_size(data, 10)
    while start < len(data) and (block := data[start]) in (0x21, 0x2C):
        if block == 0x2C:  # an image: descriptor, perhaps a color table, code size
            start += 11 + _color_table_size(data, start + 9)
        else:
            start += 2
        while start < len(data) and data[start]:
            start += 1 + data[start]
        start += 1
    return max(0, start - len(data))


def _color_table_size(data: bytes, flags_at: int) -> int:
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
