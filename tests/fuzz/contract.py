"""The schema, as generated requests need it.

Names and media types get simpler patterns than the API allows, since strings are generated fast
only for those. What no schema can say is in `EXEMPTIONS`, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from drf_spectacular.generators import SchemaGenerator
from schemathesis import Case
from schemathesis.checks import CheckFunction
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from blobcache.descriptor import MAX_MEDIA_TYPE
from blobcache.exceptions import RepositoryNameInvalid
from blobcache.reference import RepositoryName

__all__ = ["DIGEST", "HELD", "NAME", "OTHER_NAME", "contract", "exempted"]

HELD, DIGEST = ("sha256:" + character * 64 for character in "ab")
"""A digest that the cache holds, and one that it does not."""

NAME, OTHER_NAME = "team/app", "other/app"
"""The repositories that hold it."""

# Only some of the valid names: strings are generated fast only for short patterns.
_COMPONENT = "[a-z0-9]{1,9}([._-][a-z0-9]{1,9})?"
_WRITTEN = f"{_COMPONENT}(/{_COMPONENT}){{0,2}}"
_READ = f"{_WRITTEN}|[A-Za-z0-9]{{1,9}}(:[0-9]{{1,5}})?/{_COMPONENT}"

_MEDIA_TYPE = "^[ -~]*$"

_OF_A_REGISTRY = "repositories/{name}/blobs/{digest}/"


def contract() -> dict[str, Any]:
    """Return the schema of the API, with simpler patterns.

    Below the address of a registry are the same views again: of these, one is enough.
    """
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    schema["paths"] = {
        path: operations
        for path, operations in schema["paths"].items()
        if path.partition("/{registry}/")[2] in {"", _OF_A_REGISTRY}
    }
    for method, operation in _operations(schema):
        name = {"type": "string", "pattern": f"^({_WRITTEN if method == 'put' else _READ})$"}
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path" and parameter["name"] == "name":
                parameter["schema"] = name
            elif parameter["name"] == "registry":
                parameter["schema"] = {"type": "string", "enum": ["default"]}
            elif parameter["name"] == "media_type":
                parameter["schema"]["pattern"] = _MEDIA_TYPE
    descriptor = schema["components"]["schemas"]["BlobCacheNewDescriptorRequest"]
    descriptor["properties"]["mediaType"]["pattern"] = _MEDIA_TYPE
    return schema


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in schema["paths"].values():
        yield from path.items()


class Exemption(NamedTuple):
    """A check that cannot hold for some requests of some operations."""

    check: CheckFunction
    operations: set[str]
    concerns: Callable[[Case[Any], Response], bool]
    reason: str


def exempted(case: Case[Any], response: Response) -> list[CheckFunction]:
    """Return the checks that cannot hold for the request."""
    operation = case.operation.definition.raw["operationId"].removeprefix("registry_")
    return [
        each.check
        for each in EXEMPTIONS
        if operation in each.operations and each.concerns(case, response)
    ]


def _has_cursor(case: Case[Any], _: Response) -> bool:
    body = case.body if isinstance(case.body, dict) else {}
    return bool((case.query or {}).get("cursor") or body.get("cursor"))


def _has_empty_parameter(case: Case[Any], response: Response) -> bool:
    query = urlsplit(response.request.url or "").query
    return any(not value for _, value in parse_qsl(query, keep_blank_values=True))


def _has_sizes(case: Case[Any], _: Response) -> bool:
    return {"size_min", "size_max"} <= set(case.query or {})


def _narrows_the_changes(case: Case[Any], _: Response) -> bool:
    return bool(set(case.query or {}) - {"action", "parts", "page_size", "format"})


def _has_media_type(case: Case[Any], _: Response) -> bool:
    return "media_type" in (case.query or {})


def _names_another_digest(case: Case[Any], _: Response) -> bool:
    return isinstance(case.body, dict) and "digest" in case.body


def _has_another_name_that_is_one(case: Case[Any], _: Response) -> bool:
    name = (case.path_parameters or {}).get("name")
    with suppress(RepositoryNameInvalid):
        return isinstance(name, str) and not re.fullmatch(_WRITTEN, RepositoryName(name))
    return False


def _has_another_printable_media_type(case: Case[Any], _: Response) -> bool:
    media_type = case.body.get("mediaType") if isinstance(case.body, dict) else None
    return (
        isinstance(media_type, str)
        and 0 < len(media_type) <= MAX_MEDIA_TYPE
        and media_type.isprintable()
        and not media_type.isascii()
    )


def _has_condition(case: Case[Any], _: Response) -> bool:
    names = {name.lower() for name in case.headers or {}}
    return not names.isdisjoint({"if-match", "if-none-match"})


def _always(_: Case[Any], __: Response) -> bool:
    return True


def _names_repositories(case: Case[Any], _: Response) -> bool:
    return isinstance(case.body, dict) and bool(case.body.get("repositories"))


def _wants_a_fresh_copy(case: Case[Any], _: Response) -> bool:
    return "fresh" in (case.query or {})


def _asks_for_a_repository(case: Case[Any], _: Response) -> bool:
    return "repository" in (case.query or {})


def _names_findings(case: Case[Any], _: Response) -> bool:
    return isinstance(case.body, dict) and bool(case.body.get("findings"))


_LISTS = {
    "compare_repository",
    "list_blobs",
    "list_blob_repositories",
    "list_jobs",
    "list_registries",
    "list_repositories",
    "list_repository_blobs",
}

_CONDITIONAL = {
    f"{verb}_{scope}" for verb in ("stat", "set", "clear") for scope in ("blob", "repository_blob")
}

EXEMPTIONS = (
    Exemption(
        positive_data_acceptance,
        {*_LISTS, "summarize_repository", "purge_blob", "purge_blobs", "check_cache"},
        _has_cursor,
        "A cursor is signed: only what the API gave out is one, and a made-up one is refused.",
    ),
    Exemption(
        positive_data_acceptance,
        _CONDITIONAL,
        _has_condition,
        "A condition that does not hold, or that a client's copy fulfils, gets 412 or 304.",
    ),
    Exemption(
        negative_data_rejection,
        _CONDITIONAL,
        _has_condition,
        "Any text is a header; one that is not a list of tags names none.",
    ),
    Exemption(
        positive_data_acceptance,
        {"list_blobs", "list_repository_blobs"},
        _has_sizes,
        "The least size must not be larger than the largest.",
    ),
    Exemption(
        negative_data_rejection,
        {"list_blobs", "list_repository_blobs"},
        _has_media_type,
        "A media type has printable characters, of which the pattern here has the ASCII ones.",
    ),
    Exemption(
        positive_data_acceptance,
        {"list_changes"},
        _narrows_the_changes,
        "Most strings are not a time, a digest, the name of a repository or a cursor.",
    ),
    Exemption(
        positive_data_acceptance,
        {"compare_repository"},
        _always,
        "Most strings are not the name of another registry.",
    ),
    Exemption(
        positive_data_acceptance,
        {"list_repository_blobs"},
        _wants_a_fresh_copy,
        "Only a list with an order has a copy.",
    ),
    Exemption(
        positive_data_acceptance,
        {"get_raw_keys"},
        _asks_for_a_repository,
        "Most strings are not the name of a repository.",
    ),
    Exemption(
        positive_data_acceptance,
        {"start_job"},
        _always,
        "What a job needs depends on its kind, and most strings are no digests or names.",
    ),
    Exemption(
        negative_data_rejection,
        {"check_cache"},
        _has_empty_parameter,
        "A parameter without a value counts as left out, as HTML forms send it.",
    ),
    Exemption(
        positive_data_acceptance,
        {"check_cache"},
        _names_repositories,
        "Most strings are not the name of a repository.",
    ),
    Exemption(
        positive_data_acceptance,
        {"repair_cache"},
        _names_findings,
        "Most strings are not the id of a finding, which a check gives out.",
    ),
    Exemption(
        positive_data_acceptance,
        {"set_blob", "set_repository_blob"},
        _names_another_digest,
        "The digest of a descriptor is that of the address, or one of another algorithm.",
    ),
    Exemption(
        negative_data_rejection,
        _LISTS,
        _has_empty_parameter,
        "A parameter without a value counts as left out, as HTML forms send it.",
    ),
    Exemption(
        negative_data_rejection,
        {
            "clear_repository_blob",
            "compare_repository",
            "list_repository_blobs",
            "set_repository_blob",
            "stat_repository_blob",
            "stat_repository_blobs",
            "summarize_repository",
        },
        _has_another_name_that_is_one,
        "The pattern of names here is only a part of their grammar.",
    ),
    Exemption(
        negative_data_rejection,
        {"set_blob", "set_repository_blob"},
        _has_another_printable_media_type,
        "A media type has printable characters, of which the pattern here has the ASCII ones.",
    ),
)
