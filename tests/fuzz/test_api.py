"""Valid requests are answered as the schema says; invalid ones are refused."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import schemathesis
from redis import Redis
from schemathesis import Case
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response

from project.wsgi import application
from tests.fuzz.conftest import PERSONAS
from tests.fuzz.contract import DIGEST, HELD, NAME, OTHER_NAME, contract, exempted

STRANGERS_GET = {401, 404, 405, 406, 414}
"""The statuses that a request without credentials may get, whatever else is wrong with it."""

CONFIG = {
    # A request with parameters that the schema does not have is not valid, nor is one that repeats
    # a parameter.
    "generation": {"allow-extra-parameters": False},
    "phases": {"coverage": {"generate-duplicate-query-parameters": True}},
    # Some requests are about a blob that exists, others about one that does not.
    "dictionaries": {
        "digests": {"values": [HELD, DIGEST]},
        "names": {"values": [NAME, OTHER_NAME]},
    },
    "parameters": {
        "path.digest": {"dictionary": "digests", "probability": 0.3},
        "path.name": {"dictionary": "names", "probability": 0.3},
    },
}

schema = schemathesis.openapi.from_dict(contract(), config=SchemathesisConfig.from_dict(CONFIG))
schema.app = application


@pytest.mark.parametrize("persona", PERSONAS)
@schema.parametrize()
def test_every_check_holds(
    case: Case[Any], persona: str, headers: dict[str, str], unchanged_by_readers: Redis
) -> None:
    response = case.call(headers=headers)
    case.validate_response(
        response,
        headers=headers,
        excluded_checks=exempted(case, response),
        transport_kwargs={"headers": headers},
    )
    if persona == "anonymous":
        assert response.status_code in STRANGERS_GET
    elif not is_understood(response, case):
        assert response.status_code >= 400


def is_understood(response: Response, case: Case[Any]) -> bool:
    """Return whether the query has only parameters of the schema, and each of them once."""
    query = urlsplit(response.request.url or "").query
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    known = {each.name for each in case.operation.query} | {"format"}
    return known >= set(names) and len(set(names)) == len(names)
