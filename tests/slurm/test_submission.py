"""What SLURM says to a submission, as the user hears it."""

import os
from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.submit_array import submitted_array

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def test_a_partition_that_is_not_there_is_named(tmp_path: Path) -> None:
    parameters = {"slurm_partition": "nowhere"}

    with (
        pytest.raises(StageError, match=r"(?s)not take the job:.*nvalid partition.*sinfo shows"),
        submitted_array([os.getpid], LaunchConfig(cluster="slurm"), tmp_path, parameters),
    ):
        pytest.fail("not reached")
