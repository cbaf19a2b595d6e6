"""The example in the documentation."""

from __future__ import annotations

import asyncio
from typing import Any

from django.test import override_settings
from redis import Redis

from blobcache import get_provider
from tests.conformance import A, B, make_descriptor
from tests.test_docs import ROOT, blocks


def test_the_example_works(default_cache: Redis) -> None:
    names: dict[str, Any] = {}
    with override_settings(BLOBCACHE={"default": {}}):
        get_provider().repository_scoped("team/app").set_descriptor(A, make_descriptor(A, 7))
        (example,) = blocks(ROOT / "docs" / "async.md", "python")
        exec(example, names)  # noqa: S102 - our own

        async def sizes() -> list[int | None]:
            return [await names["size_of"](digest) for digest in (A, B)]

        assert asyncio.run(sizes()) == [7, None]
