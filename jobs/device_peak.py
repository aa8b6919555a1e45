"""What GPUs reach at most, by their name: the denominator of MFU."""

import torch

_DENSE_BF16_TFLOPS = (
    # The first whose words are all in the name counts, so longer ones come first.
    # Data sheets of NVIDIA; those that state numbers with sparsity are halved.
    ("GB200", 2500.0),
    ("B200", 2250.0),
    ("GH200", 989.4),
    ("H200 NVL", 835.5),
    ("H200", 989.4),
    ("H100 NVL", 835.5),
    ("H100 PCIe", 756.0),
    ("H100", 989.4),
    ("A100", 312.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("A40", 149.7),
    ("A10", 125.0),
)


def peak_flops(device: torch.device) -> float | None:
    """Floating-point operations per second of dense bfloat16 products; None: not known."""
    if device.type != "cuda":
        return None
    return peak_flops_of(torch.cuda.get_device_name(device))


def peak_flops_of(name: str) -> float | None:
    """The same for a GPU called ``name``; a slice of one (MIG) is none that is known.

    Args:
        name: as the driver gives it, such as ``NVIDIA H100 80GB HBM3``.
    """
    words = name.replace("-", " ").split()
    if "MIG" in words:
        return None
    for known, tflops in _DENSE_BF16_TFLOPS:
        if set(known.split()) <= set(words):
            return tflops * 1e12
    return None
