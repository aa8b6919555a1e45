"""Products: the same numbers as PyTorch's own, whichever library makes them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.model import products
from sigma_pipeline.model.products import Linear, linear, product


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_SMALLEST_WORK", 0)


def strided(rows: int, columns: int) -> Tensor:
    """Rows that lie apart in memory."""
    return torch.randn(rows, 3 * columns)[:, columns : 2 * columns]


@pytest.mark.parametrize("left", [torch.randn(40, 30), torch.randn(30, 40).T, strided(40, 30)])
@pytest.mark.parametrize("right", [torch.randn(20, 30), torch.randn(30, 20).T, strided(20, 30)])
def test_a_product_is_exact_to_float32_however_its_factors_lie(left: Tensor, right: Tensor) -> None:
    exact = left.double() @ right.double().T

    torch.testing.assert_close(product(left, right).double(), exact, rtol=1e-5, atol=2e-5)


def test_a_linear_layer_has_the_output_and_the_gradients_of_pytorchs() -> None:
    torch.manual_seed(0)
    inputs, weight, bias = torch.randn(4, 7, 30), torch.randn(20, 30), torch.randn(20)
    tensors = [tensor.requires_grad_() for tensor in (inputs, weight, bias)]

    own = linear(*tensors)
    gradients = torch.autograd.grad(own.square().sum(), tensors)

    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = F.linear(*exact)
    wanted = torch.autograd.grad(expected.square().sum(), exact)
    torch.testing.assert_close(own.double(), expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_after_gelu_has_the_output_and_the_gradients_of_both(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensors = [
        torch.randn(*shape, dtype=dtype).requires_grad_() for shape in ((4, 7, 30), (20, 30), (20,))
    ]

    own = linear(*tensors, after_gelu=True)
    gradients = torch.autograd.grad(own.square().sum(), tensors)

    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = F.linear(F.gelu(exact[0]), *exact[1:])
    wanted = torch.autograd.grad(expected.square().sum(), exact)
    torch.testing.assert_close(own.double(), expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


def test_a_layer_after_gelu_computes_in_the_precision_of_autocast() -> None:
    torch.manual_seed(0)
    inputs, weight, bias = torch.randn(7, 30), torch.randn(20, 30), torch.randn(20)
    own, theirs = weight.clone().requires_grad_(), weight.clone().requires_grad_()

    with torch.autocast("cpu", torch.bfloat16):
        mixed = linear(inputs, own, bias, after_gelu=True)
        expected = F.linear(F.gelu(inputs.bfloat16()), theirs, bias)
    mixed.float().sum().backward()
    expected.float().sum().backward()

    assert mixed.dtype is torch.bfloat16
    torch.testing.assert_close(mixed, expected)
    assert own.grad is not None
    assert own.grad.dtype is torch.float32
    torch.testing.assert_close(own.grad, theirs.grad, rtol=0.02, atol=0.02)


def test_autocast_leaves_float64_alone_after_gelu_too() -> None:
    inputs, weight = torch.randn(7, 30).double(), torch.randn(20, 30).double()

    with torch.autocast("cpu", torch.bfloat16):
        mixed = linear(inputs, weight, after_gelu=True)

    torch.testing.assert_close(mixed, F.linear(F.gelu(inputs), weight))


def test_of_gelu_nothing_is_kept_but_its_input() -> None:
    inputs, weight = torch.randn(7, 30, requires_grad=True), torch.randn(20, 30)
    saved: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, note):
        linear(inputs, weight, after_gelu=True)

    assert {tensor.data_ptr() for tensor in saved} <= {inputs.data_ptr(), weight.data_ptr()}


def test_gradients_that_nobody_asks_for_are_not_computed() -> None:
    inputs, weight = torch.randn(7, 30), torch.randn(20, 30, requires_grad=True)

    linear(inputs, weight).sum().backward()

    assert inputs.grad is None
    torch.testing.assert_close(weight.grad, inputs.sum(dim=0).expand(20, -1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_pytorchs_own(dtype: torch.dtype) -> None:
    inputs, weight = torch.randn(7, 30).to(dtype), torch.randn(20, 30).to(dtype)

    assert torch.equal(linear(inputs, weight), F.linear(inputs, weight))


def test_autocast_is_obeyed() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(7, 30), torch.randn(20, 30)).dtype is torch.bfloat16


def test_a_layer_has_the_parameters_of_pytorchs() -> None:
    torch.manual_seed(0)
    own = Linear(30, 20)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(30, 20)

    assert own.state_dict().keys() == theirs.state_dict().keys()
    torch.testing.assert_close(own(torch.ones(5, 30)), theirs(torch.ones(5, 30)))
