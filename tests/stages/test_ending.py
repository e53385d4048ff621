"""Each error that ends a turn is an ending; any other exception is a bug."""

from __future__ import annotations

import pytest

from drainer.errors import (
    ComposeDeferred,
    ComposeError,
    ComposerUnavailable,
    CustodyRefused,
    EntryGarbage,
    EntryVanished,
    IllegalTransition,
    LedgerNotDurable,
    MtaUnreachable,
    NoRecipientList,
)
from drainer.stages.ending import (
    ENDS_TURN,
    Halted,
    Held,
    LookAgain,
    MtaUnavailable,
    Unreadable,
    Vanished,
    ending_of,
)

ENDINGS: list[tuple[Exception, type]] = [
    (EntryVanished("gone"), Vanished),
    (EntryGarbage("no pickle"), Unreadable),
    (ComposeError("no such list"), Held),
    (ComposeDeferred("later"), LookAgain),
    (ComposerUnavailable("it does not start"), LookAgain),
    (CustodyRefused("disk full"), LookAgain),
    (OSError(5, "Input/output error"), LookAgain),
    (LedgerNotDurable("disk full"), Halted),
    (IllegalTransition("delivered to deferred"), Held),
    (MtaUnreachable("localhost", 25, "connection refused"), MtaUnavailable),
]


@pytest.mark.parametrize(("error", "ending"), ENDINGS, ids=lambda value: getattr(value, "__name__", None))
def test_error_that_ends_a_turn_is_its_ending(error: Exception, ending: type) -> None:
    assert isinstance(error, ENDS_TURN)
    assert isinstance(ending_of(error), ending)


def test_entry_that_does_not_belong_into_bad_is_held() -> None:
    error = NoRecipientList("no recipients in its metadata")
    assert isinstance(ending_of(error), Unreadable if error.belongs_in_bad else Held)


def test_illegal_transition_while_holding_halts() -> None:
    assert isinstance(ending_of(IllegalTransition("held to held"), may_hold=False), Halted)


def test_any_other_exception_is_a_bug() -> None:
    assert not isinstance(ValueError("bug"), ENDS_TURN)
    with pytest.raises(TypeError):
        ending_of(ValueError("bug"))
