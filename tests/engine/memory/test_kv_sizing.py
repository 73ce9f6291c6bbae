"""KV pools of engines that share a memory: first as pure functions, then with real model directories."""

from hypothesis import given
from hypothesis import strategies as st

from engine.memory.kv_sizing import KvDemand, kv_sizes

DEMANDS = st.dictionaries(
    st.sampled_from("abcde"),
    st.builds(
        KvDemand,
        weight_bytes=st.integers(0, 10**6),
        token_bytes=st.integers(1, 100),
        block_size=st.integers(1, 32),
        max_tokens=st.integers(1, 10**4),
        stated_bytes=st.sampled_from([0, 0, 1, 5000]),
        adapter_bytes=st.sampled_from([0, 7000]),
    ),
    min_size=1,
)


@given(free=st.integers(0, 10**7), demands=DEMANDS)
def test_nobody_has_more_than_is_of_use_and_all_together_no_more_than_there_is(free, demands):
    sizes = kv_sizes(free, 0.5, demands)
    asking = {name: demand for name, demand in demands.items() if not demand.stated_bytes}
    assert all(sizes[name] == demand.stated_bytes for name, demand in demands.items() if demand.stated_bytes)
    assert all(0 <= sizes[name] <= demand.max_bytes for name, demand in asking.items())
    taken = sum(demand.weight_bytes + demand.stated_bytes + demand.adapter_bytes for demand in demands.values())
    given_out = sum(sizes[name] for name in asking)
    room = max(int((free - taken) * 0.5), 0)
    assert given_out <= room
    # Fair: an engine with less than it could use has at least as much as any other, up to rounding.
    for name, demand in asking.items():
        if sizes[name] < demand.max_bytes:
            assert sizes[name] + len(asking) >= max(sizes[other] for other in asking)
            assert given_out >= room - len(asking)


def test_who_needs_little_leaves_the_rest_to_the_others():
    small = KvDemand(weight_bytes=100, token_bytes=1, block_size=10, max_tokens=90)
    large = KvDemand(weight_bytes=900, token_bytes=10, block_size=10, max_tokens=10_000)
    assert kv_sizes(3000, 0.5, {"large": large, "small": small}) == {"small": 100, "large": 900}
