"""Every list and page that shows data from Redis."""

from __future__ import annotations

from django.contrib.admin.utils import quote

from benchmarks.shapes import ADMIN, API, BLOB, A

__all__ = ["LOOKS"]

LOOKS = {
    "repositories": API,
    "members": f"{API}team/app/blobs/",
    "a stat": BLOB,
    "the sums": f"{API}team/app/summary/",
    "blobs": "/api/blobs/",
    "holders": f"/api/blobs/{A}/repositories/",
    "the page of repositories": f"{ADMIN}repository/",
    "repositories by size": f"{ADMIN}repository/?o=-bytes",
    "a repository's page": f"{ADMIN}repository/{quote('team/app')}/change/",
    "members by state": f"{ADMIN}repository/{quote('team/app')}/change/?o=state",
    "a blob's page": f"{ADMIN}blob/{quote(A)}/change/",
    "the page of blobs": f"{ADMIN}blob/",
    "what is wrong": f"{ADMIN}repository/consistency/",
    "what is corrupt": f"{ADMIN}repository/consistency/?kind=corrupt",
    "what is in no repository": f"{ADMIN}repository/consistency/?kind=unreferenced",
}


"""Their addresses, for a cache with a repository team/app that holds the blob `A`."""
