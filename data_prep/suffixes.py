"""What the end of a file's name claims: a video, certainly something else, or nothing known."""

from pathlib import PurePosixPath

from sigma_pipeline.data_prep.verdicts import Reason


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VIDEO_SUFFIXES = _words(
    ".3g2 .3gp .asf .avi .divx .f4v .flv .gif .ivf .m1v .m2ts .m2v .m4v .mkv .mov .mp4 .mpe .mpeg"
    " .mpg .mts .mxf .ogv .qt .rm .rmvb .ts .vob .webm .wmv"
)
PICTURE_SUFFIXES = _words(
    ".avif .bmp .exr .heic .heif .ico .jpeg .jpg .pgm .png .ppm .psd .svg .tif .tiff .webp"
)
_SOUNDS = _words(".aac .aiff .flac .m4a .mid .mp3 .oga .opus .wav .wma")
_OTHERS = _words(
    ".7z .arrow .ass .bz2 .c .cfg .cpp .css .csv .db .dll .doc .docx .exe .feather .gz .h .h5"
    " .hdf5 .htm .html .ini .ipynb .jar .js .json .jsonl .lbl .lmdb .log .mat .md .md5 .mdb .npy"
    " .npz .parquet .pdf .pickle .pkl .ppt .pptx .pt .pth .py .rar .rst .safetensors .sh .sha1"
    " .sha256 .sqlite .srt .tar .tex .tfrecord .tgz .toml .torrent .tsv .txt .url .vtt .xls .xlsx"
    " .xml .xz .yaml .yml .zip .zst"
)
_OTHER_NAMES = _words(".ds_store thumbs.db desktop.ini .gitignore .gitkeep")
# Verdicts that say nothing against a video: a file that never claimed to be one is just no video.
_NOT_VIDEOS: frozenset[Reason] = frozenset(
    {"empty_file", "not_a_video", "still_image", "no_video_stream"}
)


def suffix_of(name: str) -> str:
    """The end of a file's name in lower case, with its dot; empty where there is none."""
    last = name[name.rfind("/") + 1 :]  # a tenth of the time that a PurePosixPath takes
    dot = last.rfind(".")
    return last[dot:].lower() if 0 < dot < len(last) - 1 else ""


def claims_other(name: str) -> tuple[Reason, str] | None:
    """The verdict on a file whose name says that it is no video, which is then not opened."""
    suffix = suffix_of(name)
    if suffix in PICTURE_SUFFIXES:
        return "still_image", f"a {suffix} file is a picture"
    if suffix in _SOUNDS:
        return "no_video_stream", f"a {suffix} file is sound"
    if suffix in _OTHERS:
        return "not_a_video", f"a {suffix} file is no video"
    if PurePosixPath(name).name.lower() in _OTHER_NAMES:
        return "not_a_video", "kept by a file browser or by git"
    return None


def is_counted(name: str, reason: Reason) -> bool:
    """Whether a rejected file counts towards the fraction that may be rejected.

    It does if its name claims a video. A file of unknown suffix does if it was one inside. What
    macOS leaves beside each file on foreign disks (``._name``) does not.
    """
    if suffix_of(name) not in VIDEO_SUFFIXES:
        return reason not in _NOT_VIDEOS
    return not (PurePosixPath(name).name.startswith("._") and reason == "not_a_video")
