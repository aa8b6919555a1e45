"""Peaks of GPUs by the names that drivers give them."""

import pytest
import torch

from sigma_pipeline.jobs.device_peak import peak_flops, peak_flops_of


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L4", 121.0),
    ],
)
def test_a_gpu_is_known_by_its_name(name: str, tflops: float) -> None:
    assert peak_flops_of(name) == tflops * 1e12


@pytest.mark.parametrize("name", ["NVIDIA GeForce GTX 1080", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"])
def test_of_others_nothing_is_said(name: str) -> None:
    assert peak_flops_of(name) is None
    assert peak_flops(torch.device("cpu")) is None
