"""A view of DRF's that does nothing: what the framework itself costs."""

from __future__ import annotations

from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.data import OCTETS, REPOSITORY, SIZE, digest
from blobcache.access import Access
from blobcache.api import permissions
from blobcache.api.base import STAT, Offer
from blobcache.api.permissions import BlobCachePermission

__all__ = ["BareView"]


class BareView(APIView):
    """Constant JSON, for whom the portal authenticates and the app's own permission class admits.

    All else is the framework's default. It has what the permission class asks of a view.
    """

    permission_classes = (BlobCachePermission,)
    offer = Offer(permissions.view, STAT)
    offers: ClassVar[dict[str, Offer]] = {"GET": offer}
    repository = REPOSITORY

    @property
    def access(self) -> Access:
        """What the user may do."""
        return Access(self.request.user)

    def get(self, request: Request, name: str) -> Response:
        """Say always the same."""
        return Response({"digest": digest(0), "size": SIZE, "mediaType": OCTETS})
