"""Who holds which KV block: reference counts, and a prefix cache over the blocks that nobody holds."""

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from engine.errors import EngineError
from engine.scheduling.host_blocks import HostBlocks, Move


class BlockStatistics(msgspec.Struct, frozen=True):
    """`used` + `cached` + `free` = `total`, which leaves out the scratch block."""

    total: int
    used: int
    """Held by at least one sequence."""
    cached: int
    """Held by nobody, but findable by name; evicted when blank blocks run out."""
    free: int
    """Blank."""
    host: int = 0
    """Copies in host memory of blocks that were evicted; not part of the pool."""
    swapped_out_total: int = 0
    """Blocks that were copied to the host ..."""
    swapped_in_total: int = 0
    """... and back."""


class BlockManager:
    """A pool of blocks 1 to `total_blocks` - 1; block 0 is scratch and never given out.

    A block is blank, held (by any number of sequences), or idle: held by nobody but kept under its name. Idle blocks
    are evicted least recently used first. Sequences release their last block first, and whoever holds a block holds
    the blocks before it, so a block always becomes idle before its parent does and leaves go first.

    With a pool on the host, evicted blocks are copied there and can be brought back; `moves` are those copies. A name
    is known on the device or on the host, never on both.
    """

    def __init__(self, total_blocks: int, host_blocks: int = 0) -> None:
        self._references = [0] * total_blocks
        self._names: list[bytes | None] = [None] * total_blocks
        self._blank = list(range(total_blocks - 1, 0, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Insertion order is the order of eviction. A plain dict would look for its first entry from the very start."""
        self._by_name: dict[bytes, int] = {}
        self._host = HostBlocks(host_blocks)

    @property
    def available(self) -> int:
        """Blocks that `allocate` could give out now."""
        return len(self._blank) + len(self._idle)

    def match(self, names: Sequence[bytes]) -> list[int]:
        """The cached blocks of the longest known prefix of `names`. They are not held yet: see `hold`."""
        found = []
        for name in names:
            block = self._by_name.get(name)
            if block is None:
                break
            found.append(block)
        return found

    def on_host(self, names: Sequence[bytes]) -> int:
        """How many of the first of `names` could be brought back from the host."""
        return self._host.count(names)

    def bring_back(self, names: Sequence[bytes]) -> list[int]:
        """Give out blocks for `names`, which are on the host; the next step's moves fill them.

        Like `allocate`, and found by others from now on.
        """
        slots = self._host.take(names)
        blocks = self.allocate(len(names))
        self._host.bring(slots, blocks)
        for block, name in zip(blocks, names, strict=True):
            self._names[block] = name
            self._by_name[name] = block
        return blocks

    def moves(self) -> list[Move]:
        """The copies that must be done, in order, before the next step."""
        return self._host.moves()

    def idle_among(self, blocks: Sequence[int]) -> int:
        """How many of `blocks` would stop being available if they were held."""
        return sum(not self._references[block] for block in blocks)

    def hold(self, blocks: Sequence[int]) -> None:
        """Add one reference to each of `blocks`, which came from `match`."""
        for block in blocks:
            if not self._references[block]:
                del self._idle[block]
            self._references[block] += 1

    def allocate(self, count: int) -> list[int]:
        """Give out `count` blank blocks, each with one reference. The caller has made sure that they are available."""
        for _ in range(count - len(self._blank)):
            self._evict()
        blocks = [self._blank.pop() for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def publish(self, block: int, name: bytes) -> int:
        """Make a full, computed block findable. Returns the block to use from now on.

        If the name is taken (two sequences computed the same prefix side by side), the reference moves over to the
        block that has it, and `block` becomes blank.
        """
        known = self._by_name.setdefault(name, block)
        if known == block:
            self._names[block] = name
            self._host.forget(name)
            return block
        self.hold([known])
        self.release([block])
        return known

    def release(self, blocks: Sequence[int]) -> None:
        """Drop one reference of each block of a sequence, given from its first to its last."""
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
        self._host.keep(name, block)
        self._blank.append(block)

    def statistics(self) -> BlockStatistics:
        """Counts at this moment."""
        total = len(self._references) - 1
        free, cached = len(self._blank), len(self._idle)
        return BlockStatistics(
            total=total,
            used=total - free - cached,
            cached=cached,
            free=free,
            host=len(self._host),
            swapped_out_total=self._host.kept_total,
            swapped_in_total=self._host.brought_total,
        )

    def check_integrity(self, owners: Sequence[Sequence[int]]) -> None:
        """Compare the books with `owners`, the block lists of every sequence alive.

        Raises:
            EngineError: a block is lost, given out twice, or counted wrongly.
        """
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
            raise _broken("blank and idle blocks are not exactly the blocks that nobody holds")
        named = {block: name for block, name in enumerate(self._names) if name is not None}
        if {name: block for block, name in named.items()} != self._by_name or len(named) != len(self._by_name):
            raise _broken("the prefix cache's names and blocks do not mirror each other")
        if blank & named.keys() or not idle <= named.keys():
            raise _broken("a blank block has a name, or an idle one has none")
        self._host.check_integrity(list(self._by_name))


def _broken(what: str) -> EngineError:
    return EngineError("engine_integrity", f"the KV block manager's books are wrong: {what}; this is a defect")
