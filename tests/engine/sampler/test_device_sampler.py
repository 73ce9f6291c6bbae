import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sampler.device_sampler import Pick, RandomDraws, choose, pick_plain
from engine.sampler.noise import stream_key
from engine.sampler.sampler import sample
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import SampleRow
from tests.engine.sampler.reference_noise import gumbel_noise

try:
    from engine.forward.triton_kernels import pick_fused
except ImportError:
    pick_fused = None
no_triton = pytest.mark.skipif(pick_fused is None, reason='Triton is not installed: pip install "penstock[gpu]"')
PICKS = pytest.mark.parametrize("pick", [pick_plain, pytest.param(pick_fused, marks=no_triton)])

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def row(index: int, seed: int = 0, position: int = 1, **params) -> SampleRow:
    return SampleRow(index, SamplingParams(max_tokens=1, **params), seed, position, (0,), [])


@PICKS
@settings(deadline=None, max_examples=50)
@given(
    st.data(),
    st.integers(0, 2**32),
    st.lists(
        st.fixed_dictionaries(
            {
                "temperature": st.sampled_from([0.0, 0.3, 1.0, 2.5]),
                "top_k": st.sampled_from([0, 1, 5, 40, 500]),
                "top_p": st.sampled_from([0.01, 0.5, 0.9, 1.0]),
                "min_p": st.sampled_from([0.0, 0.1]),
            }
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_it_chooses_what_the_host_would(pick: Pick, data: st.DataObject, seed: int, params: list[dict]) -> None:
    vocab = data.draw(st.sampled_from([2, 64, 301, 2060]))
    logits = np.random.default_rng(seed).normal(size=(len(params), vocab)).astype(np.float32) * 3
    seeds = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=len(params), max_size=len(params)))
    rows = [row(index, seeds[index], 7 * index, **each) for index, each in enumerate(params)]
    want = sample(logits.copy(), rows)
    got = choose(torch.from_numpy(logits).to(DEVICE), rows, pick)
    assert got.token_ids.tolist() == want.token_ids
    assert got.margins.tolist() == pytest.approx(want.margins, abs=1e-6)


@PICKS
@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_spoils_its_own_rows_margin(pick: Pick, wrong: float) -> None:
    logits = torch.randn(3, 50)
    logits[1, 17] = wrong
    margins = choose(logits.to(DEVICE), [row(index) for index in range(3)], pick).margins.tolist()
    assert [math.isnan(margin) for margin in margins] == [False, True, False]


@PICKS
def test_noise_is_the_hosts(pick: Pick) -> None:
    """With equal logits the draw is the argmax of the noise."""
    noise = np.empty(3000)
    keys = []
    best = []
    for seed, position in [(0, 0), (2**64 - 1, 5), (12345678901234567890, 2**40)]:
        gumbel_noise(np.uint64(seed), np.uint64(position), noise)
        best.append(int(noise.argmax()))
        keys.append(stream_key(np.uint64(seed), np.uint64(position)))
    key = torch.from_numpy(np.array(keys, np.uint64).view(np.int64))
    draws = RandomDraws(torch.ones(3, dtype=torch.float64), torch.full((3,), -torch.inf), key)
    chosen = pick(torch.zeros(3, 3000, device=DEVICE), RandomDraws(*(each.to(DEVICE) for each in draws)))
    assert chosen.token_ids.tolist() == best
    assert chosen.margins.tolist() == [0, 0, 0]
