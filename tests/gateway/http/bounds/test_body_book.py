"""Bytes of bodies in memory: no more than may be, altogether, by key and by peer."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.errors import HttpError
from gateway.http.bounds.body_book import BodyAccount, BodyBook
from gateway.http.bounds.limits import ServerLimits
from tests.gateway.http.bounds.limits import LIMITS


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


@pytest.mark.parametrize(("tiers_above", "room"), [(0, 1000), (1, 950), (2, 900), (30, 500)])
def test_lower_tiers_leave_memory_to_higher_ones(tiers_above: int, room: int) -> None:
    limits = ServerLimits(body_memory_bytes=1000, max_connections=100, tier_connections=5)
    book = BodyBook(limits)
    account = BodyAccount(book, "")
    account.charge_to("k", tiers_above)
    account.take(room)
    with pytest.raises(HttpError, match="memory for request bodies is full"):
        account.take(1)
    BodyAccount(book, "").take(1000 - room)
    assert book.total == 1000
