"""Markers and listings on S3, through faults; addresses.

Faults come from a proxy in front of moto and, marked slow, of a real server. What a store promises
without faults is in ``test_storage``, which runs against both too.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.storage import Storage, open_storage
from tests.infra.fault_proxy import EVER, PASSING_FAULTS, Fault, FaultProxy


@pytest.mark.parametrize("faults", PASSING_FAULTS)
def test_a_put_if_absent_that_was_done_before_is_still_ours(
    proxy: FaultProxy, s3_storage: Storage, faults: list[Fault]
) -> None:
    proxy.strike(faults, "PUT", "marker")

    assert s3_storage.write_if_absent("marker", b"ours")
    assert not s3_storage.write_if_absent("marker", b"ours")


def test_a_put_if_absent_that_comes_second_is_not_ours_though_its_answer_got_lost(
    proxy: FaultProxy, s3_storage: Storage
) -> None:
    s3_storage.write_if_absent("marker", b"theirs")
    proxy.faults.append(Fault("lost", "PUT", "marker", times=2))

    assert not s3_storage.write_if_absent("marker", b"ours")
    assert s3_storage.read("marker") == b"theirs"


@pytest.mark.parametrize("proxy", ["moto"], indirect=True)  # Ceph checks the signed header
def test_a_server_that_overwrites_is_refused_before_a_marker_is_put(
    proxy: FaultProxy, s3_storage: Storage
) -> None:
    proxy.faults.append(Fault("unconditional", "PUT", times=EVER))

    with pytest.raises(StageError, match="use one that honours it"):
        s3_storage.write_if_absent("marker", b"")
    assert not s3_storage.exists("marker")


def test_a_server_is_asked_once_whether_it_overwrites(
    proxy: FaultProxy, s3_storage: Storage
) -> None:
    for number in range(3):
        s3_storage.write_if_absent(f"marker-{number}", b"")

    assert proxy.count("PUT", "probe") == 2


@pytest.mark.parametrize("faults", [*PASSING_FAULTS, [Fault("cut", "ANY")]])
def test_a_listing_goes_through_faults(
    proxy: FaultProxy, s3_storage: Storage, faults: list[Fault]
) -> None:
    s3_storage.write("folder/object", b"")
    proxy.strike(faults, "GET", "list-type")

    assert s3_storage.list("folder") == ["folder/object"]


@pytest.mark.parametrize("proxy", [pytest.param("real", marks=pytest.mark.slow)], indirect=True)
def test_a_listing_goes_on_after_the_first_thousand_keys(s3_storage: Storage) -> None:
    keys = [f"parts/{number:06d}.json" for number in range(1001)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: s3_storage.write(key, b""), keys))

    assert s3_storage.list("parts") == keys


@pytest.mark.parametrize("root_uri", ["s3://", "s3:///prefix", "s3://bucket/a/../b", "s3://b/p?q"])
def test_a_malformed_address_is_a_configuration_error(root_uri: str) -> None:
    with pytest.raises(ConfigError, match="root_uri"):
        open_storage(root_uri)


def test_a_trailing_slash_does_not_change_where_objects_lie() -> None:
    assert open_storage("s3://bucket/prefix/").uri("key") == "s3://bucket/prefix/key"
    assert open_storage("s3://bucket/").uri("key") == "s3://bucket/key"
