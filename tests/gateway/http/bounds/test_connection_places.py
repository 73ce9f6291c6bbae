"""Places of connections: bounded altogether, by key and by peer; who works is not closed."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.http.bounds.connection_places import ConnectionPlaces
from tests.gateway.http.bounds.limits import LIMITS


class Places(RuleBasedStateMachine):
    """Connections that come, work, wait and go."""

    def __init__(self) -> None:
        super().__init__()
        self.places = ConnectionPlaces(LIMITS)
        self.next = 0
        self.peers: dict[int, str] = {}
        self.keys: dict[int, str] = {}

    @rule(peer=st.sampled_from(["", "p", "q"]))
    def open(self, peer: str) -> None:
        self.next += 1
        full, waiting = len(self.peers) >= 8, self.peers.keys() - self.keys.keys()
        opening = self.places.open(self.next, peer)
        if peer and list(self.peers.values()).count(peer) >= 4:
            assert opening.refused == "peer"
        elif full and not waiting:
            assert opening.refused == "full"
        else:
            assert opening.refused is None
            assert (opening.evicted is not None) == bool(full and waiting)
            if opening.evicted is not None:
                assert opening.evicted in waiting, "who works is never closed for a newcomer"
                del self.peers[opening.evicted]
            self.peers[self.next] = peer

    @rule(which=st.integers(0, 9), key=st.sampled_from(["", "k", "l"]), above=st.integers(0, 5))
    def work(self, which: int, key: str, above: int) -> None:
        if not self.peers:
            return
        number = sorted(self.peers)[which % len(self.peers)]
        refused = self.places.work(number, key, above)
        if self.keys.get(number) == key:
            assert refused is None
        elif number not in self.keys and len(self.keys) >= 6 - min(above, 3):
            assert refused == "full"
        elif key and list(self.keys.values()).count(key) >= 3:
            assert refused == "key"
        else:
            assert refused is None
        if refused is None:
            self.keys[number] = key

    @rule(which=st.integers(0, 9))
    def wait(self, which: int) -> None:
        if self.peers:
            number = sorted(self.peers)[which % len(self.peers)]
            self.places.wait(number)
            self.keys.pop(number, None)

    @rule(which=st.integers(0, 9))
    def close(self, which: int) -> None:
        if self.peers:
            number = sorted(self.peers)[which % len(self.peers)]
            self.places.close(number)
            # A connection that gave way is closed once more when it ends.
            self.places.close(number)
            self.places.wait(number)
            del self.peers[number]
            self.keys.pop(number, None)

    @invariant()
    def whole(self) -> None:
        self.places.check_integrity()
        assert (len(self.places), self.places.working) == (len(self.peers), len(self.keys))


TestPlaces = Places.TestCase


def test_the_one_that_waits_the_longest_is_evicted() -> None:
    places = ConnectionPlaces(LIMITS)
    for number in range(8):
        places.open(number, "")
    places.work(0, "k", 0)
    places.wait(1)
    assert [places.open(number, "").evicted for number in (8, 9, 10, 11)] == [2, 3, 4, 5]
    places.wait(0)
    assert [places.open(number, "").evicted for number in (12, 13, 14)] == [6, 7, 1]
