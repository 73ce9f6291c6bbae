import pytest
import torch
from torch.nn import functional

from engine.kernels.simd import has_bfloat16_products
from engine.weights.linear import LinearFactory

CPU = torch.device("cpu")
TYPES = [torch.float32, *([torch.bfloat16] if has_bfloat16_products() else [])]


def factory(dtype: torch.dtype, threads: int = 1) -> LinearFactory:
    made = LinearFactory(CPU, dtype, threads)
    assert made.own
    made.compile()
    return made


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 2), (64, 16), (65, 34), (200, 96), (130, 33)])
@pytest.mark.parametrize("biased", [False, True])
def test_equals_the_library(dtype: torch.dtype, outputs: int, inputs: int, biased: bool) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(outputs, inputs).to(dtype), torch.randn(outputs).to(dtype) if biased else None
    linear = factory(dtype).make(weight, bias)
    for rows in (1, 2, 3, 4, 5, 6, 11, 16):
        x = torch.randn(rows, inputs).to(dtype)
        want = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
        got = linear(x)
        assert got.dtype == dtype
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(got.double(), want, atol=10 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_head_gives_float32(dtype: torch.dtype) -> None:
    weight, x = torch.randn(300, 128).to(dtype), torch.randn(3, 128).to(dtype)
    got = factory(dtype).make(weight, head=True)(x)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), x.double() @ weight.double().T, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_is_the_same_to_the_last_bit_in_any_company(dtype: torch.dtype) -> None:
    weight, x = torch.randn(1200, 400).to(dtype), torch.randn(50, 400).to(dtype)
    linear = factory(dtype).make(weight, None)
    whole = linear(x)
    for rows in (1, 2, 3, 7, 49):
        assert torch.equal(linear(x[-rows:]), whole[-rows:])
    assert torch.equal(factory(dtype, threads=2).make(weight, None)(x), whole)


def test_what_our_products_do_not_serve_goes_to_the_library() -> None:
    assert not LinearFactory(torch.device("cuda:0"), torch.bfloat16, 1).own
    assert not LinearFactory(CPU, torch.float16, 1).own
