"""A view that does nothing, to measure the framework alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.data import OCTETS, REPOSITORY, SIZE, digest
from blobcache.access import Access
from blobcache.api import permissions
from blobcache.api.permissions import BlobCachePermission, Rule

__all__ = ["BareView"]


class BareView(APIView):
    """Constant JSON, with the portal's authentication and the app's permission class.

    Everything else is the framework's default. It has what the permission class needs.
    """

    permission_classes = (BlobCachePermission,)
    requires: ClassVar[Mapping[str, Rule]] = {"get": permissions.view}
    current_action = "get"
    actions = ("get",)
    repository = REPOSITORY

    @property
    def access(self) -> Access:
        """The user's access."""
        return Access(self.request.user)

    def get(self, request: Request, name: str) -> Response:
        """Return always the same."""
        return Response({"digest": digest(0), "size": SIZE, "mediaType": OCTETS})
