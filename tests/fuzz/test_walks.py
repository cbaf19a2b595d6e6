"""Sequences of requests: a blob that was set is found, a blob that was cleared is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from redis import Redis
from schemathesis import Case
from schemathesis.core.transport import Response

from tests.fuzz.conftest import fill
from tests.fuzz.contract import exempted
from tests.fuzz.test_api import schema

OF_REPOSITORIES = r"^/api/(blobs|repositories)/"
"""The addresses of a walk. With all of them, few walks would come back to the same blob."""

Walk: Any = schema.include(path_regex=OF_REPOSITORIES).as_state_machine()


@pytest.mark.parametrize("persona", ["superuser"])
def test_every_check_holds_along_a_walk(
    persona: str, headers: dict[str, str], unchanged_by_readers: Redis
) -> None:
    answered: set[tuple[str, int]] = set()

    class AsSuperuser(Walk):  # type: ignore[misc]
        def setup(self) -> None:
            unchanged_by_readers.flushall()
            fill()

        def before_call(self, case: Case[Any]) -> None:
            if case.method == "DELETE":  # a made-up tag is not the blob's: nothing would be cleared
                for name in ("If-Match", "If-None-Match"):
                    if case.headers and name in case.headers:
                        del case.headers[name]

        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            return {"headers": headers}

        def validate_response(self, response: Response, case: Case[Any], **_: Any) -> None:
            answered.add((case.method, response.status_code))
            case.validate_response(
                response,
                headers=headers,
                excluded_checks=exempted(case, response),
                transport_kwargs={"headers": headers},
                recorder=self.recorder,
            )

    AsSuperuser.run(settings=settings(max_examples=settings().max_examples, stateful_step_count=20))
    assert {("PUT", 201), ("GET", 200), ("DELETE", 204)} <= answered
