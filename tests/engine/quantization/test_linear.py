import pytest
import torch

from engine.kernels.quantized_simd import has_quantized_products
from engine.quantization.scheme import INT8, Quantized, Scheme, dequantize, quantize
from engine.weights.linear import LinearFactory

CPU = torch.device("cpu")
SCHEMES = [INT8, Scheme(4, 16), Scheme(4, 32), Scheme(4)]
OURS = pytest.mark.skipif(not has_quantized_products(), reason="this processor has not the instructions")
ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 37)


def factory(dtype: torch.dtype, threads: int = 1) -> LinearFactory:
    made = LinearFactory(CPU, dtype, threads)
    made.compile()
    return made


def every_value(bits: int, outputs: int, inputs: int) -> Quantized:
    """Integers over the whole range, including the minimum."""
    top = 2 ** (bits - 1)
    values = torch.randint(-top, top, (outputs, inputs)).to(torch.int8)
    values[0, 0], values[-1, -1] = -top, top - 1
    return Quantized(values, torch.randn(outputs, 1 if bits == 8 else inputs // 16), 8 if bits == 8 else 4)


@OURS
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 16), (64, 32), (65, 48), (200, 96)])
@pytest.mark.parametrize("biased", [False, True])
def test_equals_what_the_integers_stand_for(bits: int, outputs: int, inputs: int, biased: bool) -> None:
    torch.manual_seed(0)
    quantized, bias = every_value(bits, outputs, inputs), torch.randn(outputs).bfloat16() if biased else None
    linear, head = (
        factory(torch.bfloat16).make(quantized, bias),
        factory(torch.bfloat16).make(quantized, head=True),
    )
    for rows in ROWS:
        x = torch.randn(rows, inputs).bfloat16()
        bare = x.double() @ dequantize(quantized).double().T
        want = bare if bias is None else bare + bias.double()
        size = float(bare.abs().max()) + 1
        assert linear(x).dtype == torch.bfloat16
        torch.testing.assert_close(linear(x).double(), want, atol=2e-6 * size, rtol=2**-8)
        assert head(x).dtype == torch.float32
        torch.testing.assert_close(head(x).double(), bare, atol=2e-6 * size, rtol=1e-5)


@OURS
@pytest.mark.parametrize("bits", [4, 8])
def test_single_weights_are_exact(bits: int) -> None:
    """One input at a time: every integer of the range, at every position of a panel, gives the exact result."""
    quantized = every_value(bits, 64 * 5, 32)
    quantized = quantized._replace(scales=torch.ones_like(quantized.scales))
    head = factory(torch.bfloat16).make(quantized, head=True)
    for x in (torch.eye(32).bfloat16(), torch.eye(32)[5:7].bfloat16()):
        assert torch.equal(head(x), x.float() @ quantized.values.float().T)


@OURS
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_row_is_the_same_to_the_last_bit_in_any_company(scheme: Scheme) -> None:
    weight, x = torch.randn(1200, 416), torch.randn(50, 416).bfloat16()
    quantized = quantize(weight, scheme)
    linear = factory(torch.bfloat16).make(quantized, None)
    whole = linear(x)
    for rows in (*ROWS, 49):
        assert torch.equal(linear(x[-rows:]), whole[-rows:])
    assert torch.equal(factory(torch.bfloat16, threads=2).make(quantized, None)(x), whole)


@OURS
def test_matrices_of_one_model_share_their_scratch() -> None:
    made = factory(torch.bfloat16)
    narrow, wide = every_value(8, 64, 32), every_value(4, 64, 512)
    first, second = made.make(narrow, head=True), made.make(wide, head=True)
    x, y = torch.randn(20, 32).bfloat16(), torch.randn(20, 512).bfloat16()
    alone = first(x), second(y)
    assert torch.equal(first(x), alone[0])
    assert torch.equal(second(y), alone[1])


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_float32_computes_with_what_the_integers_stand_for(scheme: Scheme) -> None:
    made = factory(torch.float32)
    quantized, bias, x = quantize(torch.randn(70, 96), scheme), torch.randn(70), torch.randn(5, 96)
    assert torch.equal(made.make(quantized, bias)(x), made.make(dequantize(quantized), bias)(x))
    assert torch.equal(made.make(quantized, head=True)(x), made.make(dequantize(quantized), head=True)(x))


def test_without_the_instructions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.weights.linear.has_quantized_products", lambda: False)
    made = LinearFactory(CPU, torch.bfloat16, 1)
    if made.own:
        made.compile()
    quantized, x = every_value(8, 70, 32), torch.randn(5, 32).bfloat16()
    want = x.float() @ dequantize(quantized).T
    torch.testing.assert_close(made.make(quantized, None)(x).float(), want, atol=2.0, rtol=2e-2)
