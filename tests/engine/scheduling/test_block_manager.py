import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.errors import EngineError
from engine.scheduling.block_chain import chain_next, chain_root
from engine.scheduling.block_manager import BlockManager
from engine.scheduling.host_blocks import Move


class BlockManagerMachine(RuleBasedStateMachine):
    """Sequences over two different block contents, so that prefixes often coincide."""

    @initialize(total=st.integers(2, 12), host=st.sampled_from([0, 1, 3, 20]))
    def start(self, total, host):
        self.manager = BlockManager(total, host)
        self.host: dict[int, bytes] = {}
        self.total = total
        self.owners: list[dict] = []
        self.parents: dict[bytes, bytes] = {}
        self.contents: dict[int, bytes] = {}

    @rule(chain=st.lists(st.integers(0, 1), min_size=1, max_size=5), salt=st.sampled_from([b"", b"x"]))
    def enter(self, chain, salt):
        names = [chain_root([("salt", salt)])]
        for part in chain:
            names.append(chain_next(names[-1], [part] * 4))
            self.parents[names[-1]] = names[-2]
        names.pop(0)
        found = self.manager.match(names)
        kept = self.manager.host.count(names[len(found) :])
        needed = len(names) - len(found)
        if needed + self.manager.idle_among(found) > self.manager.available:
            return
        assert [self.contents[block] for block in found] == names[: len(found)], "a hit must have the same content"
        self.manager.hold(found)
        brought = self.manager.bring_back(names[len(found) : len(found) + kept])
        fresh = self.manager.allocate(needed - kept)
        for move in self.manager.host.moves():
            if move.out:
                self.host[move.slot] = self.contents.pop(move.block)
            else:
                self.contents[move.block] = self.host[move.slot]
        found += brought
        assert [self.contents[block] for block in found] == names[: len(found)], "what comes back is what went"
        assert not set(fresh) & {block for owner in self.owners for block in owner["blocks"]}
        self.owners.append({"names": names, "blocks": found + fresh, "published": len(found)})

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def publish(self, data):
        owner = data.draw(st.sampled_from(self.owners))
        index = owner["published"]
        if index < len(owner["names"]):
            block = self.manager.publish(owner["blocks"][index], owner["names"][index])
            owner["blocks"][index] = block
            owner["published"] += 1
            self.contents[block] = owner["names"][index]

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def leave(self, data):
        owner = data.draw(st.sampled_from(self.owners))
        self.owners.remove(owner)
        self.manager.release(owner["blocks"])

    @invariant()
    def books_are_right(self):
        self.manager.check_integrity([owner["blocks"] for owner in self.owners])
        held = {block for owner in self.owners for block in owner["blocks"]}
        statistics = self.manager.statistics()
        assert statistics.used == len(held)
        assert statistics.used + statistics.cached + statistics.free == statistics.total == self.total - 1
        assert self.manager.available == statistics.total - len(held)

    @invariant()
    def leaves_go_first(self):
        """Every cached block can be reached: none outlives its parent."""
        roots = {chain_root([("salt", salt)]) for salt in (b"", b"x")}
        for name in self.manager._by_name:
            assert self.parents[name] in roots or self.parents[name] in self.manager._by_name


TestBlockManager = BlockManagerMachine.TestCase
TestBlockManager.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def names(*contents: int) -> list[bytes]:
    chain = [chain_root([])]
    for content in contents:
        chain.append(chain_next(chain[-1], [content]))
    return chain[1:]


def test_what_is_evicted_comes_back_by_its_name():
    manager = BlockManager(3, 2)
    old = names(1, 2)
    blocks = manager.allocate(2)
    for block, name in zip(blocks, old, strict=True):
        manager.publish(block, name)
    manager.release(blocks)
    assert manager.host.count(old) == 0
    others = manager.allocate(2)
    assert (manager.host.count(old), manager.host.count(old[1:]), manager.statistics().host) == (2, 1, 2)
    assert manager.host.moves() == [Move(blocks[1], 0, out=True), Move(blocks[0], 1, out=True)]
    assert manager.host.moves() == [], "they are told once"
    manager.release(others)
    back = manager.bring_back(old)
    assert [(move.out, move.block) for move in manager.host.moves()] == [(False, block) for block in back]
    assert manager.match(old) == back
    assert (manager.host.count(old), manager.statistics().host) == (0, 0)
    manager.check_integrity([back])


def test_a_full_host_drops_what_was_evicted_first():
    manager = BlockManager(4, 1)
    old = names(1, 2, 3)
    blocks = manager.allocate(3)
    for block, name in zip(blocks, old, strict=True):
        manager.publish(block, name)
    manager.release(blocks)
    manager.allocate(2)
    assert (len(manager.match(old)), manager.host.count(old[1:])) == (1, 1)
    assert [move.slot for move in manager.host.moves()] == [0, 0]


def test_what_is_computed_anew_is_forgotten_on_the_host():
    manager = BlockManager(2, 1)
    name = names(1)[0]
    (block,) = manager.allocate(1)
    manager.publish(block, name)
    manager.release([block])
    manager.allocate(1)
    assert manager.host.count([name]) == 1
    manager.publish(block, name)
    assert manager.host.count([name]) == 0
    manager.check_integrity([[block]])


def test_least_recently_used_leaf_is_evicted_first():
    manager = BlockManager(4)
    old, new = names(1, 2), names(3)
    blocks = manager.allocate(2)
    for block, name in zip(blocks, old, strict=True):
        manager.publish(block, name)
    manager.release(blocks)
    other = manager.allocate(1)
    manager.publish(other[0], new[0])
    manager.release(other)
    manager.allocate(1)
    assert (len(manager.match(old)), len(manager.match(new))) == (1, 1)
    manager.allocate(1)
    assert (len(manager.match(old)), len(manager.match(new))) == (0, 1)


def test_the_same_block_computed_twice_is_kept_once():
    manager = BlockManager(3)
    name = names(1)[0]
    first, second = manager.allocate(1)[0], manager.allocate(1)[0]
    assert manager.publish(first, name) == first
    assert manager.publish(second, name) == first
    manager.check_integrity([[first], [first]])
    assert manager.statistics().free == 1


def test_chain_parts_do_not_run_together():
    assert chain_root([("salt", b"ab")]) != chain_root([("salta", b"b")])
    assert chain_root([("salt", b"")]) != chain_root([])
    assert chain_next(chain_root([]), [1, 2]) != chain_next(chain_root([]), [2, 1])


@pytest.mark.parametrize("spoil", ["lost", "twice", "name"])
def test_integrity_check_notices(spoil):
    manager = BlockManager(4)
    block = manager.allocate(1)[0]
    manager.publish(block, names(1)[0])
    owners = {"lost": [], "twice": [[block], [block]], "name": [[block]]}[spoil]
    if spoil == "name":
        manager._by_name.clear()
    with pytest.raises(EngineError) as caught:
        manager.check_integrity(owners)
    assert caught.value.code == "engine_integrity"
