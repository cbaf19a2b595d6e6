"""Set a descriptor: the form, and the base class of its page in both scopes.

A size applies to every repository. So where the cache knows another one, the page shows both and
asks again; the second request names, sealed, the sizes that it may overwrite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.contrib import messages
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from blobcache.admin.pages import Page
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import (
    BlobCacheError,
    BlobUnknown,
    CursorInvalid,
    DescriptorInvalid,
    DigestInvalid,
    DigestMismatch,
    MediaTypeInvalid,
    PreconditionFailed,
)
from blobcache.history import recorded
from blobcache.media_types import OCTET_STREAM
from blobcache.services.guards import GuardsUnsupported, set_guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpResponse

    from blobcache.services.base import BlobDescriptorService, SetResult

__all__ = ["DescriptorForm", "SetPage"]


class DescriptorForm(forms.Form):
    """A digest and its descriptor. The error messages are those of the values."""

    digest = forms.CharField(
        label=gettext_lazy("Digest"),
        widget=forms.TextInput(attrs={"class": "vTextField", "placeholder": "sha256:…"}),
    )
    size = forms.IntegerField(
        label=gettext_lazy("Size"),
        help_text=gettext_lazy("In bytes."),
        widget=forms.TextInput(attrs={"class": "vBigIntegerField", "inputmode": "numeric"}),
    )
    media_type = forms.CharField(
        label=gettext_lazy("Media type"),
        initial=OCTET_STREAM,
        help_text=gettext_lazy("Registries usually write application/octet-stream."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    canonical = forms.CharField(
        label=gettext_lazy("Canonical digest"),
        required=False,
        help_text=gettext_lazy(
            "Only if the digest above is an alias: the canonical digest of the same content."
        ),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )

    def __init__(self, *args: object, allow_tarsum: bool = False, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._allow_tarsum = allow_tarsum

    def clean_digest(self) -> Digest:
        """Parse the digest."""
        return self._digest(self.cleaned_data["digest"])

    def clean_canonical(self) -> Digest | None:
        """Parse the canonical digest, if there is one."""
        text = self.cleaned_data["canonical"]
        return self._digest(text) if text else None

    def clean(self) -> dict[str, object]:
        """Add the descriptor to the data, as `descriptor`."""
        data = super().clean() or {}
        digest, size = data.get("digest"), data.get("size")
        if "canonical" in data and digest is not None and size is not None:
            try:
                data["descriptor"] = Descriptor(
                    data["canonical"] or digest, size, data.get("media_type") or OCTET_STREAM
                )
            except DescriptorInvalid as error:
                self.refuse(error)
        return data

    def refuse(self, error: BlobCacheError) -> None:
        """Show the error at its field."""
        field = None
        if isinstance(error, DigestMismatch):
            field = "canonical"
        elif isinstance(error, DigestInvalid):
            field = "digest"
        elif isinstance(error, DescriptorInvalid):
            field = "media_type" if isinstance(error, MediaTypeInvalid) else "size"
        self.add_error(field, error.message)

    def _digest(self, text: str) -> Digest:
        try:
            return Digest(text, allow_tarsum=self._allow_tarsum)
        except DigestInvalid as error:
            raise forms.ValidationError(error.message) from error


class _SizeDiffers(PreconditionFailed):
    """The cache knows the blob with sizes that the user has not confirmed to overwrite."""

    def __init__(self, sizes: Sequence[int], *, is_visible: bool) -> None:
        super().__init__("The blob has another size.")
        self.sizes = sizes
        self.is_visible = is_visible
        """Whether the user may see them."""


class SetPage(Page):
    """Set a descriptor in one scope."""

    template = "set_descriptor.html"
    writes = True

    @property
    def service(self) -> BlobDescriptorService:
        """The service of the scope."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """The digest that the form is filled with."""
        return self.request.GET.get("digest", "")

    @property
    def scope(self) -> str | None:
        """The repository; None for the global scope."""
        return None

    def get(self) -> HttpResponse:
        """Show the form, filled with the descriptor in the cache."""
        initial: dict[str, object] = {"digest": self.digest}
        with self.catch_redis_errors():
            try:
                known = self.service.stat(self.digest)
            except (BlobUnknown, DigestInvalid):
                pass
            else:
                initial |= {
                    "size": known.size,
                    "media_type": known.media_type or OCTET_STREAM,
                    "canonical": known.digest if known.digest != self.digest else "",
                }
        return self._show(DescriptorForm(initial=initial))

    def post(self) -> HttpResponse:
        """Set the descriptor, or show the form with its errors or with the size to confirm."""
        form = DescriptorForm(self.request.POST, allow_tarsum=self.settings.ALLOW_TARSUM)
        if not form.is_valid():
            return self._show(form)
        digest, descriptor = form.cleaned_data["digest"], form.cleaned_data["descriptor"]
        result = None
        with self.catch_redis_errors():
            try:
                with recorded(self.request.user, source="admin"):
                    result = self._set(digest, descriptor)
            except (DigestInvalid, DescriptorInvalid) as error:
                form.refuse(error)
            except _SizeDiffers as error:
                return self._show(form, self._sizes_to_confirm(digest, descriptor, error))
        if result is None:
            return self._show(form)
        text = (
            _("Set the descriptor of %(digest)s.")
            if result.created
            else _("Changed the descriptor of %(digest)s.")
        )
        return self.redirect_with_message(text % {"digest": digest}, messages.SUCCESS)

    def _set(self, digest: Digest, descriptor: Descriptor) -> SetResult:
        """Set the descriptor. Raises `_SizeDiffers` if that needs to be confirmed first."""
        confirmed = {descriptor.size, *self._confirmed(digest)}

        def guard(before: Descriptor | None, known: Sequence[Descriptor]) -> None:
            sizes = sorted({each.size for each in known} - {descriptor.size})
            if not confirmed.issuperset(sizes):
                is_visible = before is not None or self.access.may_view(None)
                raise _SizeDiffers(sizes, is_visible=is_visible)

        try:
            return set_guarded(self.service, digest, descriptor, guard)
        except GuardsUnsupported:
            return self.service.set_descriptor(digest, descriptor)

    def _confirmed(self, digest: Digest) -> list[int]:
        """The sizes that the form says may be overwritten."""
        try:
            text = self.unseal(self.request.POST.get("confirmed", ""), _CONFIRMED, digest)
        except CursorInvalid:
            return []
        return [int(size) for size in text.split()]

    def _sizes_to_confirm(
        self, digest: Digest, descriptor: Descriptor, error: _SizeDiffers
    ) -> dict[str, object]:
        """What the form says about a size that it would change."""
        return {
            "old_sizes": error.sizes if error.is_visible else [],
            "new_size": descriptor.size,
            "confirmed": self.seal(" ".join(map(str, error.sizes)), _CONFIRMED, digest),
            "has_changed": "confirmed" in self.request.POST,
        }

    def _show(self, form: DescriptorForm, sizes: dict[str, object] | None = None) -> HttpResponse:
        title = _("Set a descriptor")
        if self.scope is not None:
            title = _("Set a descriptor in %(repository)s") % {"repository": self.scope}
        return self.render(
            title=title, form=form, scope=self.scope, sizes=sizes, return_url=self.return_url
        )


_CONFIRMED = "confirmed sizes"
