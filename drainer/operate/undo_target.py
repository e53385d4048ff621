"""Which action of the journal an undo means.

In    actions as the ledger has them, oldest first
Out   the action meant; which actions are undone at present, and by which undo; what was decided after an action
Pure  values only
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from drainer.ledger.actions import Action


def undone_by(actions: Sequence[Action]) -> dict[int, int]:
    """Each action that is undone at present, by number, with the number of the undo that did it. actions: oldest first."""
    found: dict[int, int] = {}
    for action in reversed(actions):
        # Newest first: an undo that was undone itself is known before it would count.
        if action.new and action.new.undoes is not None and action.number not in found and changed_something(action):
            found.setdefault(action.new.undoes, action.number)
    return found


def changed_something(action: Action) -> bool:
    return bool(action.entries or (action.new and action.new.payload))


def decided_after(target: Action, actions: Sequence[Action], undone: Mapping[int, int]) -> list[Action]:
    """The actions after it that are not undone. An undo does not count: the action that it took back is left out instead.

    actions  oldest first
    undone   as undone_by has it
    """
    return [
        action
        for action in actions
        if action.number > target.number
        and action.new is not None
        and action.new.undoes is None
        and action.number not in undone
    ]


def last_to_undo(actions: Sequence[Action], under_way: Collection[int]) -> Action | None:
    """What an undo without a number undoes: the last action that is not undone. None: there is none.

    An undo does not count, or two undos would cancel each other; the undo of an undo does count. If a crash interrupted an
    undo, the action it was undoing is meant.
    actions    oldest first
    under_way  numbers of the actions being carried out
    """
    undone, by_number = undone_by(actions), {action.number: action for action in actions}
    for action in reversed(actions):
        if action.new is None or action.number in under_way or not changed_something(action):
            continue
        if action.new.undoes in by_number and action.new.ended_s is None and action.number not in undone:
            return by_number[action.new.undoes]
        if action.new.depth % 2 == 0 and action.number not in undone:
            return action
    return None
