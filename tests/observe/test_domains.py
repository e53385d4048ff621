"""How recipient domains stand, as status shows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from drainer.observe.domains import Domains
from drainer.settings import Settings
from drainer.stages.domain_paces import DomainPaces
from tests.stages.choice import Choice


def test_domain_of_which_nothing_is_known_yet_says_why_its_mail_waits() -> None:
    choice = Choice({}, {f"{number}.5+{number:040x}": ["ann@new.example"] for number in range(200)})
    choice.reload(Settings.model_validate({"mta": {"queue": "postfix"}}))
    domains, paces = choice.domains, DomainPaces(choice.resources)
    shown = Domains(cast(Any, SimpleNamespace(resources=choice.resources, domains=domains, paces=paces)))
    assert [one.limit_recipients_per_s for one in shown.largest()] == [None], "no mail has had to wait yet"
    choice.step(0.1, 100)
    (standing,) = shown.largest()
    assert (standing.domain, standing.set_by, standing.limit_recipients_per_s) == ("new.example", "learnt", 25.0)
    assert standing.cause == "what its provider takes is not known yet, so it starts slowly"
    choice.reload(Settings())
    assert [one.limit_recipients_per_s for one in shown.largest()] == [None]
