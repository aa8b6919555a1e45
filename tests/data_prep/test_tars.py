"""Archives."""

import hashlib
import io
import tarfile

import pytest
import webdataset

from sigma_pipeline.data_prep.tars import TarWriter

CONTENTS = {"a.jpg": b"x" * 512, "a.json": b"{}", "b.jpg": b"", "b.json": b"y" * 9_000}


def written(contents: dict[str, bytes]) -> tuple[bytes, TarWriter]:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    for name, content in contents.items():
        member = writer.add(name, content)
        assert buffer.getvalue()[member.offset :].startswith(content)
    sha256, size = writer.finish()
    assert (sha256, size) == (hashlib.sha256(buffer.getvalue()).hexdigest(), buffer.tell())
    return buffer.getvalue(), writer


def test_the_bytes_are_those_of_webdatasets_own_writer() -> None:
    buffer = io.BytesIO()
    theirs = webdataset.TarWriter(buffer, encoder=False, mtime=0)
    for key in "ab":
        names = [name for name in CONTENTS if name.startswith(key)]
        theirs.write({"__key__": key, **{name[2:]: CONTENTS[name] for name in names}})
    theirs.close()

    assert written(CONTENTS)[0] == buffer.getvalue()


def test_tar_reads_what_was_written() -> None:
    with tarfile.open(fileobj=io.BytesIO(written(CONTENTS)[0])) as tar:
        read = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]

    assert read == CONTENTS


def test_an_archive_of_nothing_is_one_record_of_zeros() -> None:
    assert written({})[0] == bytes(tarfile.RECORDSIZE)


def test_a_name_too_long_for_the_format_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        TarWriter(io.BytesIO()).add("a" * 300, b"")
