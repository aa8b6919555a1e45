"""Are the shards of a split what their receipts say they are, and do their samples decode."""

import hashlib
import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from io import BytesIO

from PIL import Image

from sigma_pipeline.data_prep.decode import survey
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.manifest import Manifest, read_manifest
from sigma_pipeline.data_prep.receipts import RootHash, read_receipt, read_receipts
from sigma_pipeline.data_prep.rows import SampleRow
from sigma_pipeline.data_prep.verdicts import Rejected
from sigma_pipeline.infra.errors import PipelineError, StageError
from sigma_pipeline.infra.storage import Storage

log = logging.getLogger(__name__)

_CHUNK_BYTES = 32 << 20
_PICTURES = ["JPEG", "PNG"]


@dataclass(frozen=True)
class Fault:
    """Something of a split that is not as it was made."""

    shard: int | None
    """None: the index as a whole."""
    what: str
    """A sentence."""
    is_rebuildable: bool = True
    """The receipt is there, so that the source can make the same bytes again."""


def check_split(
    storage: Storage,
    ref: DatasetRef,
    *,
    decode: bool,
    workers: int,
    progress: Callable[[], None] = lambda: None,
) -> list[Fault]:
    """All that is wrong with a complete split.

    Args:
        storage: where it lies.
        ref: the split.
        decode: also decode every sample to its end.
        workers: processes.
        progress: called after each shard.

    Raises:
        MissingInputError: the split is not complete.
        StageError: the store cannot be read, or decoding brought a process down.
    """
    index = Index.load(storage, ref)  # also says when the split is not there
    manifest = read_manifest(storage, ref)
    assert manifest is not None
    check = partial(check_shard, storage, ref, decode=decode)
    faults = []
    for fault in _in_processes(check, range(manifest["shards"]), workers):
        progress()
        faults += [fault] if fault else []
    return faults or _check_index(storage, ref, index, manifest)


def check_shard(storage: Storage, ref: DatasetRef, number: int, *, decode: bool) -> Fault | None:
    """The first thing that is wrong with a shard.

    Raises:
        StageError: the store cannot be read.
    """
    try:
        receipt = read_receipt(storage, ref, number)
    except FileNotFoundError:
        return Fault(number, "its receipt is gone", is_rebuildable=False)
    if receipt.tar is None:
        return None
    key = f"{ref.prefix}/{receipt.tar}"
    try:
        found = _sha256(storage, key)
    except FileNotFoundError:
        return Fault(number, f"{receipt.tar} is gone")
    if found != receipt.shard.sha256:
        return Fault(number, f"{receipt.tar} has other bytes than when it was made")
    for row in receipt.rows if decode else ():
        if problem := _undecodable(storage, key, row):
            return Fault(number, f"sample {row.key} in {receipt.tar}: {problem}", False)
    return None


def _check_index(
    storage: Storage, ref: DatasetRef, index: Index, manifest: Manifest
) -> list[Fault]:
    """Whether manifest and index say what the receipts say, all of which are there."""
    root = RootHash()
    is_same = True
    noted = iter(index.rows)
    for receipt in read_receipts(storage, ref, manifest["shards"]):
        root.add(receipt)
        is_same = is_same and all(row == next(noted, None) for row in receipt.rows)
    if root.hexdigest() != manifest["root_hash"]:
        return [Fault(None, "the receipts are not those of the manifest", is_rebuildable=False)]
    if not is_same:
        return [Fault(None, "index.parquet has other rows than the receipts")]
    return []


def _sha256(storage: Storage, key: str) -> str:
    digest = hashlib.sha256()
    start = 0
    while chunk := storage.read(key, start, _CHUNK_BYTES):
        digest.update(chunk)
        start += len(chunk)
    return digest.hexdigest()


def _undecodable(storage: Storage, key: str, row: SampleRow) -> str | None:
    """Why a sample cannot be read as its row says; None where it can."""
    try:
        if row.media == "video":
            return _check_video(storage.read(key, row.media_offset, row.media_size), row)
        pictures = [member for member in row.members if member.name.endswith(row.suffix)]
        for member in pictures:
            data = storage.read(key, member.offset, member.size)
            with Image.open(BytesIO(data), formats=_PICTURES) as image:
                image.load()
    except Rejected as verdict:
        return verdict.detail
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"a picture cannot be decoded: {error}"
    return None


def _check_video(data: bytes, row: SampleRow) -> str | None:
    if hashlib.sha256(data).hexdigest() != row.sha256:
        return "its bytes are not those that were probed"
    frames = len(survey(data).pts)
    if frames < row.first_frame + row.frames:
        return f"{frames} frames decode, the index says {row.first_frame + row.frames}"
    return None


def _in_processes(
    check: Callable[[int], Fault | None], numbers: Sequence[int], workers: int
) -> Iterator[Fault | None]:
    """``check`` of each number, in order; in this process where more are of no use."""
    if min(workers, len(numbers)) < 2:
        yield from map(check, numbers)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(numbers)), context) as pool:
        futures = [pool.submit(check, number) for number in numbers]
        try:
            for number, future in zip(numbers, futures, strict=True):
                try:
                    yield future.result()
                except BrokenProcessPool as error:
                    raise StageError(
                        f"a process ended while it checked shard {number} or one after it: killed, "
                        "out of memory, or a crash of the decoder; see which one with workers=1"
                    ) from error
        except PipelineError:
            pool.shutdown(cancel_futures=True)
            raise
