"""Which rank computes what. Pure."""

from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ModelError
from engine.model.model_config import ModelConfig, read_model_config
from engine.weights.shard import Shard, ShardExchange, rows_of
from tests.parity import models


def nobody(blocks: int) -> ShardExchange:
    raise AssertionError


def shards(ranks: int) -> list[Shard]:
    return [Shard(rank, ranks, nobody) for rank in range(ranks)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return read_model_config(models.write_model("llama", tmp_path_factory.mktemp("llama")))


@given(ranks=st.integers(1, 8), times=st.integers(1, 9))
def test_even_parts_cover_everything_once(ranks: int, times: int) -> None:
    parts = [shard.split(ranks * times) for shard in shards(ranks)]
    assert [row for part in parts for row in range(part.begin, part.begin + part.size)] == list(range(ranks * times))


@given(kv_heads=st.sampled_from([1, 2, 4, 8]), ranks=st.sampled_from([1, 2, 4, 8]), group=st.integers(1, 4))
def test_every_query_head_finds_its_kv_head_on_its_rank(kv_heads: int, ranks: int, group: int) -> None:
    heads = kv_heads * group * max(ranks // kv_heads, 1)
    for shard in shards(ranks):
        queries, keys = shard.heads(heads, 1), shard.heads(kv_heads, 1)
        local_group = queries.size // keys.size
        for place in range(queries.size):
            of_the_model = (queries.begin + place) // (heads // kv_heads)
            assert keys.begin + place // local_group == of_the_model


@given(vocab=st.integers(1, 40), ranks=st.integers(1, 8))
def test_the_vocabulary_comes_together_again(vocab: int, ranks: int) -> None:
    weight = torch.arange(vocab).reshape(-1, 1) + 1
    joined = torch.cat([rows_of(weight, shard.columns(vocab)) for shard in shards(ranks)])
    assert torch.equal(joined[:vocab], weight)
    assert not joined[vocab:].any()


def test_a_rank_is_a_smaller_model(config: ModelConfig) -> None:
    mine = shards(2)[1].config(config)
    assert (mine.heads, mine.kv_heads, mine.intermediate_size, mine.hidden_size) == (2, 1, 56, 64)
    assert shards(4)[0].config(config).kv_heads == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 6, "kv_heads": 2}, "attention heads, 6"),
        ({"intermediate_size": 110}, "inner width, 110"),
        ({"heads": 12, "kv_heads": 3}, "3 KV heads"),
    ],
)
def test_what_cannot_be_split_is_said(config: ModelConfig, changes: dict[str, int], said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        shards(4)[0].config(msgspec.structs.replace(config, **changes))
    assert "tensor_parallel = 4" in caught.value.message


def test_one_tensor_that_has_another_shape_is_named(tmp_path: Path) -> None:
    from engine.model.checkpoint import Checkpoint

    with Checkpoint(models.write_model("llama", tmp_path)) as checkpoint:
        name = "model.layers.0.mlp.up_proj.weight"
        part = checkpoint.take(name, (112, 64), torch.float32, (slice(3, 5), slice(0, 64)))
        assert torch.equal(part, checkpoint.take(name, (112, 64), torch.float32)[3:5])
        with pytest.raises(ModelError, match=r"up_proj\.weight has shape \[112, 64\]"):
            checkpoint.take(name, (112, 65), torch.float32, (slice(3, 5),))
