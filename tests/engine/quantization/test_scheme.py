import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.quantization.scheme import INT8, Quantized, Scheme, dequantize, fault, join, quantize, scheme_of

SCHEMES = [INT8, Scheme(4, 16), Scheme(4, 32), Scheme(4)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@given(seed=st.integers(0, 2**32), outputs=st.integers(1, 5), groups=st.integers(1, 3), size=st.floats(1e-4, 1e3))
def test_no_weight_is_further_off_than_a_step(
    scheme: Scheme, seed: int, outputs: int, groups: int, size: float
) -> None:
    weight = torch.randn(outputs, 32 * groups, generator=torch.Generator().manual_seed(seed)) * size
    made = quantize(weight, scheme)
    top = 2 ** (scheme.bits - 1)
    assert made.values.dtype == torch.int8
    assert int(made.values.max()) < top
    assert int(made.values.min()) >= -top
    assert torch.equal(made.scales, made.scales.bfloat16().float())
    grouped = weight.view(outputs, -1, made.group)
    error = (dequantize(made).view_as(grouped) - grouped).abs().amax(-1)
    # Without search the error is at most half a step plus the rounding of the scale; a searched scale may clip.
    assert torch.all(error <= (0.51 * 1.3 if scheme.bits == 8 else 3.0) * made.scales.abs())
    plain = grouped.abs().amax(-1) / (top - 1)
    assert torch.all((dequantize(made).view_as(grouped) - grouped).square().mean(-1) <= (0.52 * plain) ** 2)


def test_a_matrix_on_the_grid_stays_what_it_is() -> None:
    values = torch.tensor([[-8, 7, 0, 3], [7, -8, 1, -1]], dtype=torch.int8)
    weight = dequantize(Quantized(values, torch.tensor([[0.5], [-0.25]]), 4))
    assert torch.equal(dequantize(quantize(weight, Scheme(4))), weight)
    whole = torch.tensor([[-127.0, 64, 0, 1], [0.0, 0, 0, 0]])
    assert torch.equal(dequantize(quantize(whole, INT8)), whole)


def test_the_same_weight_gives_the_same_result_and_parts_do_not_matter() -> None:
    weight = torch.randn(9000, 32)
    whole = quantize(weight, Scheme(4, 16))
    again = join([quantize(weight[:5], Scheme(4, 16)), quantize(weight[5:], Scheme(4, 16))])
    assert torch.equal(whole.values, again.values)
    assert torch.equal(whole.scales, again.scales)


def test_a_searched_scale_is_better_than_a_plain_one() -> None:
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    grouped = weight.view(64, 4, 64)
    plain = grouped.abs().amax(-1, keepdim=True) / 7
    rounded = (grouped / plain).round().clamp(-8, 7) * plain
    searched = dequantize(quantize(weight, Scheme(4, 64))).view_as(grouped)
    assert (searched - grouped).square().mean() < 0.75 * (rounded - grouped).square().mean()


@pytest.mark.parametrize(
    ("scheme", "inputs", "why"),
    [
        (INT8, 64, None),
        (INT8, 33, "33 inputs are no multiple of 2"),
        (Scheme(4, 32), 96, None),
        (Scheme(4, 64), 96, "96 inputs are no multiple of 64"),
        (Scheme(4, 33), 99, "a group of 33 inputs is not an even number"),
        (Scheme(4, 0), 99, "a group of 0 inputs is not an even number"),
    ],
)
def test_what_does_not_fit(scheme: Scheme, inputs: int, why: str | None) -> None:
    found = fault(scheme, inputs)
    assert found is None if why is None else why in str(found)


def test_names_of_schemes() -> None:
    assert scheme_of("int8", None) == INT8
    assert scheme_of("int4", None) == Scheme(4, 64)
    assert str(scheme_of("int4", 32)) == "int4 in groups of 32"
