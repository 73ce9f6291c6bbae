"""The pure cores that bound what peers hold and how fast they are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.errors import HttpError
from gateway.http.bounds.body_book import BodyAccount, BodyBook
from gateway.http.bounds.body_deadline import BodyDeadline
from gateway.http.bounds.connection_places import ConnectionPlaces
from gateway.http.bounds.limits import ServerLimits
from gateway.http.bounds.peer import PeerNames
from gateway.http.bounds.token_bucket import TokenBucket

LIMITS = ServerLimits(
    max_connections=6,
    max_connections_per_peer=4,
    max_connections_per_key=3,
    probe_connections=2,
    tier_connections=1,
    body_memory_bytes=100,
    body_memory_per_key_bytes=60,
    body_memory_per_peer_bytes=70,
    header_timeout_s=10.0,
    body_timeout_s=60.0,
    min_body_bytes_per_s=1000,
)


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=300), st.integers(10, 100))
def test_a_bucket_lets_no_more_through_than_its_rate(gaps: list[float], rate: int) -> None:
    """A taker that waits as it is told."""
    bucket = TokenBucket(rate, 0.0)
    now = 0.0
    for number, gap in enumerate(gaps):
        now += gap
        now += bucket.take(now)
        assert number + 1 <= rate * (now + 1) + 1e-6


def test_a_bucket_keeps_a_second() -> None:
    bucket = TokenBucket(10, 0.0)
    assert [bucket.take(100.0) for _ in range(10)] == [0.0] * 10
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.3) == 0.0


@pytest.mark.parametrize(
    ("parts", "until"),
    [
        ([], 10.0),
        ([(1, 9.0)], 10.001),
        # One byte at a time buys its own millisecond.
        ([(1, float(each)) for each in range(1, 10)], 10.009),
        # Half of a large body at once buys no more than a head's time of silence.
        ([(4_000_000, 1.0)], 11.0),
        ([(4_000_000, 1.0), (1, 10.0)], 11.001),
        # The average: 10 s for a start, and a second for each 1000 bytes.
        ([(1000, 5.0), (1000, 6.0)], 12.0),
        # And never longer than the whole may take.
        ([(10_000, float(each)) for each in range(1, 60)], 60.0),
    ],
)
def test_until_when_a_body_is_waited_for(parts: list[tuple[int, float]], until: float) -> None:
    deadline = BodyDeadline(LIMITS, 0.0)
    for size, at in parts:
        assert at < deadline.at, "it was given up before"
        deadline.received(size, at)
    assert deadline.at == pytest.approx(until)


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 5)), max_size=60))
def test_no_sender_is_waited_for_longer_than_its_bounds(parts: list[tuple[int, float]]) -> None:
    deadline = BodyDeadline(LIMITS, 0.0)
    now, total = 0.0, 0
    for size, gap in parts:
        now += gap
        if now >= deadline.at:
            return
        total += size
        deadline.received(size, now)
        assert deadline.at <= min(60.0, now + 10.0, 10.0 + total / 1000 + 1e-6)


class Accounts(RuleBasedStateMachine):
    """Connections that take and give bytes, change their key, and close."""

    def __init__(self) -> None:
        super().__init__()
        self.book = BodyBook(LIMITS)
        self.accounts: list[tuple[BodyAccount, str, str]] = []

    @rule(peer=st.sampled_from(["", "p", "q"]), key=st.sampled_from(["", "k", "l"]))
    def open(self, peer: str, key: str) -> None:
        account = BodyAccount(self.book, peer)
        account.charge_to(key)
        self.accounts.append((account, key, peer))

    @rule(which=st.integers(0, 9), size=st.integers(1, 40))
    def take(self, which: int, size: int) -> None:
        if not self.accounts:
            return
        account, key, peer = self.accounts[which % len(self.accounts)]
        room = [100 - self.book.total]
        if key:
            room.append(60 - sum([each.held for each, its_key, _ in self.accounts if its_key == key]))
        if peer:
            room.append(70 - sum([each.held for each, _, its_peer in self.accounts if its_peer == peer]))
        if size <= min(room):
            account.take(size)
        else:
            with pytest.raises(HttpError):
                account.take(size)

    @rule(which=st.integers(0, 9), key=st.sampled_from(["", "k", "l"]))
    def change_key(self, which: int, key: str) -> None:
        if self.accounts:
            account, _, peer = self.accounts.pop(which % len(self.accounts))
            account.charge_to(key)
            self.accounts.append((account, key, peer))

    @rule(which=st.integers(0, 9))
    def close(self, which: int) -> None:
        if self.accounts:
            account, _, _ = self.accounts.pop(which % len(self.accounts))
            account.give(account.held)

    @invariant()
    def whole(self) -> None:
        self.book.check_integrity()
        assert self.book.total == sum([account.held for account, _, _ in self.accounts])


TestAccounts = Accounts.TestCase


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
            assert (opening.gives_way is not None) == bool(full and waiting)
            if opening.gives_way is not None:
                assert opening.gives_way in waiting, "who works is never closed for a newcomer"
                del self.peers[opening.gives_way]
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


def test_the_one_that_waits_the_longest_gives_way() -> None:
    places = ConnectionPlaces(LIMITS)
    for number in range(8):
        places.open(number, "")
    places.work(0, "k", 0)
    places.wait(1)
    assert [places.open(number, "").gives_way for number in (8, 9, 10, 11)] == [2, 3, 4, 5]
    places.wait(0)
    assert [places.open(number, "").gives_way for number in (12, 13, 14)] == [6, 7, 1]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", ""),
        ("127.8.8.8", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("10.1.2.3", ""),
        ("192.0.2.1", ""),
        ("192.0.2.2", "192.0.2.2"),
        ("", ""),
    ],
)
def test_names_of_peers(host: str, name: str) -> None:
    assert PeerNames(("10.0.0.0/8", "192.0.2.1")).name(host) == name
