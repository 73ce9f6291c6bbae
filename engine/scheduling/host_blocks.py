"""Index of evicted prefix cache blocks in host memory. It only plans the copies; `KvSwap` executes them."""

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from engine.errors import EngineError


class Move(msgspec.Struct, frozen=True, gc=False):
    """A copy of one block of all layers. Moves are executed in order, before the step that they belong to."""

    block: int
    slot: int
    out: bool
    """From the device's block to the host's slot; otherwise back."""


class HostBlocks:
    """Slots 0 to `slots` - 1, each free or assigned to a block's name; evicted in LRU order.

    Children are evicted from the device before their parents, so they leave the host before them, too.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._free = list(range(slots - 1, -1, -1))
        self._by_name: OrderedDict[bytes, int] = OrderedDict()
        self._moves: list[Move] = []
        self.kept_total = 0
        """Blocks that were copied to the host ..."""
        self.brought_total = 0
        """... and back."""

    def count(self, names: Sequence[bytes]) -> int:
        """Length of the longest prefix of `names` that is here."""
        count = 0
        for name in names:
            if name not in self._by_name:
                break
            count += 1
        return count

    def keep(self, name: bytes, block: int) -> None:
        """Plan the copy of an evicted `block` before it is overwritten; nothing if there are no slots."""
        if not self._free:
            if not self._by_name:
                return
            self._free.append(self._by_name.popitem(last=False)[1])
        slot = self._by_name[name] = self._free.pop()
        self._moves.append(Move(block, slot, out=True))
        self.kept_total += 1

    def take(self, names: Sequence[bytes]) -> list[int]:
        """Remove `names` from the index and return their slots. The slots are not reused before `bring`."""
        return [self._by_name.pop(name) for name in names]

    def bring(self, slots: Sequence[int], blocks: Sequence[int]) -> None:
        """Plan the copies of taken `slots` into `blocks`, and free the slots."""
        self._moves += [Move(block, slot, out=False) for slot, block in zip(slots, blocks, strict=True)]
        self._free += slots
        self.brought_total += len(slots)

    def forget(self, name: bytes) -> None:
        """Drop a block that was recomputed on the device."""
        slot = self._by_name.pop(name, None)
        if slot is not None:
            self._free.append(slot)

    def moves(self) -> list[Move]:
        """The copies to execute before the next step; to be called once per step."""
        moves, self._moves = self._moves, []
        return moves

    def __len__(self) -> int:
        return len(self._by_name)

    def check_integrity(self, names: Sequence[bytes]) -> None:
        """Raises EngineError if a slot is lost or assigned twice, or one of `names`, which the device has, is here."""
        if sorted((*self._free, *self._by_name.values())) != list(range(self._slots)):
            raise EngineError("engine_integrity", "host slots are lost or held twice; this is a defect")
        if not self._by_name.keys().isdisjoint(names):
            raise EngineError("engine_integrity", "a block is on the device and on the host; this is a defect")
