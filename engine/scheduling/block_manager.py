"""KV block allocation with reference counts, and the prefix cache over unreferenced blocks."""

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from engine.errors import EngineError
from engine.scheduling.host_blocks import HostBlocks


class BlockStatistics(msgspec.Struct, frozen=True):
    """`used` + `cached` + `free` = `total`, which excludes the scratch block."""

    total: int
    used: int
    """Referenced by at least one sequence."""
    cached: int
    """Unreferenced, but in the prefix cache; evicted when there is no free block."""
    free: int
    """Neither referenced nor cached."""
    host: int = 0
    """Evicted blocks that are kept in host memory; not part of the pool."""
    swapped_out_total: int = 0
    """Blocks that were copied to the host ..."""
    swapped_in_total: int = 0
    """... and back."""


class BlockManager:
    """A pool of the blocks 1 to `total_blocks` - 1; block 0 is scratch and never allocated.

    A block is blank, held (by any number of sequences), or idle: unreferenced, but cached under its hash, its name.
    Idle blocks are evicted in LRU order. A sequence releases its blocks from last to first, and holds all predecessors
    of a block it holds, so children always become idle, and are evicted, before their parents.

    With host memory, evicted blocks are copied there and can be brought back; `moves` returns these copies. A name is
    known on the device or on the host, never on both.
    """

    def __init__(self, total_blocks: int, host_blocks: int = 0) -> None:
        self._references = [0] * total_blocks
        self._names: list[bytes | None] = [None] * total_blocks
        self._blank = list(range(total_blocks - 1, 0, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        """In the order of eviction. `popitem(last=False)` is O(1), unlike finding the first entry of a dict after
        deletions."""
        self._by_name: dict[bytes, int] = {}
        self.host = HostBlocks(host_blocks)

    @property
    def available(self) -> int:
        """Number of blocks that `allocate` could return now."""
        return len(self._blank) + len(self._idle)

    def match(self, names: Sequence[bytes]) -> list[int]:
        """The cached blocks of the longest known prefix of `names`, without references: see `hold`."""
        blocks = []
        for name in names:
            block = self._by_name.get(name)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def bring_back(self, names: Sequence[bytes]) -> list[int]:
        """Allocate blocks for `names`, which are on the host; the next step's moves fill them.

        As with `allocate` they have one reference; they are cached at once.
        """
        slots = self.host.take(names)
        blocks = self.allocate(len(names))
        self.host.bring(slots, blocks)
        for block, name in zip(blocks, names, strict=True):
            self._names[block] = name
            self._by_name[name] = block
        return blocks

    def idle_among(self, blocks: Sequence[int]) -> int:
        """How many of `blocks` would no longer be available if they were held."""
        return sum(not self._references[block] for block in blocks)

    def hold(self, blocks: Sequence[int]) -> None:
        """Add one reference to each of `blocks`, which came from `match`."""
        for block in blocks:
            if not self._references[block]:
                del self._idle[block]
            self._references[block] += 1

    def allocate(self, count: int) -> list[int]:
        """Return `count` blank blocks with one reference each. The caller has checked that they are available."""
        for _ in range(count - len(self._blank)):
            self._evict()
        blocks = [self._blank.pop() for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def publish(self, block: int, name: bytes) -> int:
        """Put a full, computed block into the prefix cache. Returns the block to use from now on.

        If the name is taken (two sequences computed the same prefix concurrently), the reference moves to the block
        that has the name, and `block` becomes blank.
        """
        known = self._by_name.setdefault(name, block)
        if known == block:
            self._names[block] = name
            self.host.forget(name)
            return block
        self.hold([known])
        self.release([block])
        return known

    def release(self, blocks: Sequence[int]) -> None:
        """Remove one reference from each block of a sequence, given in the order of the sequence."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block]:
                continue
            if self._names[block] is None:
                self._blank.append(block)
            else:
                self._idle[block] = None

    def _evict(self) -> None:
        block, _ = self._idle.popitem(last=False)
        name = self._names[block]
        assert name is not None
        del self._by_name[name]
        self._names[block] = None
        self.host.keep(name, block)
        self._blank.append(block)

    def statistics(self) -> BlockStatistics:
        total = len(self._references) - 1
        free, cached = len(self._blank), len(self._idle)
        return BlockStatistics(
            total=total,
            used=total - free - cached,
            cached=cached,
            free=free,
            host=len(self.host),
            swapped_out_total=self.host.kept_total,
            swapped_in_total=self.host.brought_total,
        )

    def check_integrity(self, owners: Sequence[Sequence[int]]) -> None:
        """Raises EngineError if blocks or references are others than `owners`, all live sequences' blocks, say."""
        counts = [0] * len(self._references)
        for blocks in owners:
            for block in blocks:
                counts[block] += 1
        if counts != self._references:
            wrong = [block for block, count in enumerate(counts) if count != self._references[block]]
            raise _broken(f"reference counts of blocks {wrong[:8]} differ from their owners")
        blank, idle = set(self._blank), set(self._idle)
        unheld = {block for block, count in enumerate(counts) if not count} - {0}
        if counts[0] or len(blank) != len(self._blank) or blank & idle or blank | idle != unheld:
            raise _broken("blank and idle blocks are not exactly the unreferenced blocks")
        named = {block: name for block, name in enumerate(self._names) if name is not None}
        if {name: block for block, name in named.items()} != self._by_name or len(named) != len(self._by_name):
            raise _broken("the prefix cache's names and blocks do not match")
        if blank & named.keys() or not idle <= named.keys():
            raise _broken("a blank block has a name, or an idle one has none")
        self.host.check_integrity(list(self._by_name))


def _broken(what: str) -> EngineError:
    return EngineError("engine_integrity", f"the KV block manager is inconsistent: {what}; this is a defect")
