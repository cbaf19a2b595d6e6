"""The base of the API's views, and the views that are not viewsets."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.core.exceptions import ImproperlyConfigured, PermissionDenied, TooManyFieldsSent
from django.http import HttpResponse, JsonResponse
from django.utils.functional import cached_property
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from rest_framework import status
from rest_framework.exceptions import NotAuthenticated, NotFound
from rest_framework.exceptions import PermissionDenied as DRFPermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle, ScopedRateThrottle
from rest_framework.views import APIView

from blobcache.access import access_of, if_certain, views_no_other_registry
from blobcache.api import permissions
from blobcache.api.callers import (
    Kept,
    Key,
    kept_callers,
    key_of,
    kinds_of,
    note_permissions,
    replay,
    take_in,
)
from blobcache.api.content import (
    AsciiJSONRenderer,
    BrowsableRenderer,
    ExportRenderer,
    Negotiation,
    StrictJSONParser,
    format_parameter,
)
from blobcache.api.exceptions import (
    BodyInvalid,
    BodyTooLarge,
    ParameterInvalid,
    UriTooLong,
    envelope,
    exception_handler,
)
from blobcache.api.routers import MAX_PATH
from blobcache.api.savings import authenticate, without_header
from blobcache.api.schema import Parameter, described
from blobcache.api.serializers import StatusReport, StatusSerializer
from blobcache.api.tokens import RegistryTokenAuthentication, insufficient
from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings, registries
from blobcache.digest import Digest
from blobcache.doctor.last_run import LastRun
from blobcache.exceptions import (
    BackendUnavailable,
    CacheUnavailable,
    CatalogUnsupported,
    RegistryMisconfigured,
    RegistryUnknown,
)
from blobcache.history import recorded
from blobcache.models import Blob, Repository
from blobcache.raw import excerpt, quoted
from blobcache.reference import RepositoryName
from blobcache.registries.asking import misconfigured
from blobcache.services import get_browsable, get_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.permissions import _SupportsHasPermission
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer

    from blobcache.access import Access
    from blobcache.api.permissions import Rule
    from blobcache.services.audit import Task
    from blobcache.services.base import (
        BlobDescriptorCacheProvider,
        BlobDescriptorService,
        BrowsableProvider,
    )

__all__ = [
    "CACHING",
    "LIST",
    "STAT",
    "WRITE",
    "RegistryView",
    "StatusView",
    "UnknownView",
    "too_long",
]

STAT, LIST, WRITE = "blobcache-stat", "blobcache-list", "blobcache-write"
"""The scopes of throttles. A scope has an effect if the host project sets a rate for it."""

CACHING = {"Cache-Control": "private, no-cache", "Vary": "Accept, Authorization, Cookie"}
"""The headers that forbid caches to give a response to another user."""

_BY_SETTING: list[type[BasePermission]] = []
"""Stands for the classes that the setting ``API_PERMISSION_CLASSES`` names.

It is recognised by identity, because a view may also have an empty list of its own."""


class RegistryView(APIView):
    """Base class of the API's views.

    Its tables have an entry for each action. An action of a viewset has the name of its method; in
    a view that is not a viewset, the actions are ``get``, ``post`` and so on.
    """

    registry: str = DEFAULT_REGISTRY
    """The name of the registry: a variable of the address, or set by ``as_view(registry=…)``.

    It may be any text. Only after `check_registry` is it that of a registry."""

    requires: ClassVar[Mapping[str, Rule]] = {}
    """The rule of each action; see `blobcache.api.permissions`. Without one it is denied."""

    throttle_scopes: ClassVar[Mapping[str, str]] = {}
    """The throttle scope of each action. What is in `WRITE`, a read-only registry refuses."""

    query_parameters: ClassVar[Mapping[str, Sequence[Parameter]]] = {}
    """The parameters of the query that an action reads. All others are refused."""

    list_actions: frozenset[str] = frozenset()
    """The actions that read what the filter and pagination classes describe as well."""

    exported_actions: frozenset[str] = frozenset()
    """Actions that can be exported although they list no page."""

    throttle_scope: str | None = None
    """The scope of every action; by default that of `throttle_scopes`, if there is a rate for it.
    """

    permission_classes: Sequence[type[BasePermission]] = _BY_SETTING
    renderer_classes = (AsciiJSONRenderer, BrowsableRenderer)
    parser_classes = (StrictJSONParser,)
    content_negotiation_class = Negotiation
    versioning_class = None

    is_batch_stat: bool = False
    """Whether the request is a POST that only reads; see `blobcache.api.callers`."""

    _is_registry_checked = False
    _is_caller_known = False
    _kept_for: tuple[Key | None, Kept | None] | None = None
    _is_registry_named = False
    _kept: Kept | None = None

    # The request

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer the request, for the registry that its address names."""
        self.take_registry(kwargs)
        return super().dispatch(request, *args, **kwargs)

    def take_registry(self, variables: dict[str, Any]) -> None:
        """Set `registry` if the address names one; remove it from the variables of the address."""
        if "registry" in variables:
            self.registry = variables.pop("registry")
            self._is_registry_named = True

    def action_at(self, method: str) -> str | None:
        """Return the action that an HTTP method stands for; None if there is none."""
        name = "get" if method == "HEAD" else method.lower()
        is_action = name in self.http_method_names and name != "options"
        return name if is_action and hasattr(self, name) else None

    @property
    def current_action(self) -> str | None:
        """The action that the request's method stands for; None if there is none.

        Unlike a viewset's `action`, it is also right while the framework tries other methods than
        the request's, for OPTIONS and for the forms of the browsable API.
        """
        return self.action_at(str(self.request.method))

    @property
    def actions(self) -> Collection[str]:
        """All actions of the address."""
        found = (self.action_at(method.upper()) for method in self.http_method_names)
        return dict.fromkeys(action for action in found if action is not None)

    @property
    def repository(self) -> str | None:
        """The repository's name in the address, not parsed; None in the global scope."""
        name: str | None = self.kwargs.get("name")
        return name

    @property
    def repository_name(self) -> RepositoryName:
        """The repository's name. Raises `RepositoryNameInvalid`."""
        return RepositoryName(self.repository or "")

    @property
    def digest(self) -> Digest:
        """The digest in the address. Raises `DigestInvalid`."""
        return self.parse_digest(self.kwargs["digest"])

    def parse_digest(self, text: str) -> Digest:
        """Parse a digest by the registry's rules. Raises `DigestInvalid`."""
        return Digest(text, allow_tarsum=self.config.ALLOW_TARSUM)

    # The registry

    @cached_property
    def config(self) -> RegistrySettings:
        """The registry's settings, as they are at the request."""
        return RegistrySettings(self.registry, is_fixed=True)

    @cached_property
    def access(self) -> Access:
        """What the user may do."""
        return access_of(self.request.user, self.registry)

    @property
    def provider(self) -> BlobDescriptorCacheProvider:
        """The registry's provider."""
        return get_provider(self.registry)

    @property
    def browsable(self) -> BrowsableProvider:
        """The provider with its catalog. Raises `CatalogUnsupported` if it has none."""
        return get_browsable(self.registry)

    @property
    def service(self) -> BlobDescriptorService:
        """The service of the scope in the address. Raises `RepositoryNameInvalid`."""
        repository = self.repository
        if repository is None:
            return self.provider
        return self.provider.repository_scoped(repository)

    def recorded(self, task: Task | None = None) -> AbstractContextManager[None]:
        """Attribute the changes made within to the user, and write them into the journal."""
        return recorded(self.access.user, source="api", task=task)

    # Hooks of the framework

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Return the framework's request, with `META` and `method` as attributes of its own.

        Otherwise each read of them looks for such an attribute first, and then in Django's request,
        which takes longer.
        """
        made = super().initialize_request(request, *args, **kwargs)
        vars(made).update(META=request.META, method=request.method)
        return made

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check registry, authentication, permissions and throttles, then the request itself."""
        self.check_registry(request)
        super().initial(request, *args, **kwargs)
        self.check_request(request)

    @property
    def is_registry_checked(self) -> bool:
        """Whether the user may know that there is the registry.

        Everybody may use the addresses of `default` that do not name it.
        """
        return self._is_registry_checked or (
            self.registry == DEFAULT_REGISTRY and not self._is_registry_named
        )

    def check_registry(self, request: Request) -> None:
        """Raise `RegistryUnknown` unless the user may know that there is the registry.

        It comes before all else, so that the responses are the same as for a name that no registry
        has. Users who are not known are asked for credentials first, whatever the name.
        """
        if self.is_registry_checked:
            return
        user = request.user
        # In this order: the time must not show whether there is a registry.
        may_view = if_certain(self.access.may_view_here, self.repository)
        if not may_view:
            may_view = views_no_other_registry(user) and self.registry == DEFAULT_REGISTRY
        if not may_view or self.registry not in registries():
            if not getattr(user, "is_authenticated", False):
                raise NotAuthenticated
            raise RegistryUnknown("There is no such registry, or you may not view it.")
        self._is_registry_checked = True
        self.headers = self.default_response_headers  # they depend on the registry's settings

    def check_request(self, request: Request) -> None:
        """Raise an error if the request has unknown parameters or a body that is too long."""
        self.check_query_parameters(request)
        if self.current_action is not None and request.method in {"POST", "PUT", "PATCH"}:
            self.check_body_length(request)

    def check_query_parameters(self, request: Request) -> None:
        """Raise `ParameterInvalid` if the query has a parameter that the action does not read.

        Otherwise a misspelled parameter could do harm: a purge with a misspelled ``dry_run`` would
        clear the blob. If the view does not have the method, the framework refuses the request.
        """
        if not request.META.get("QUERY_STRING"):
            return
        action = self.current_action
        if action is not None:
            _require_parameters(request, self.get_query_parameters(action))
        elif request.method == "OPTIONS":  # the browsable API sends the page's own query with it
            names = [name for each in self.actions for name in self.get_query_parameters(each)]
            _require_parameters(request, names)

    def get_query_parameters(self, action: str) -> Sequence[str]:
        """Return the names of the parameters that the action reads."""
        return [parameter.name for parameter in self.query_parameters.get(action, ())]

    def check_body_length(self, request: Request) -> None:
        """Raise `BodyTooLarge` if the body is longer than the setting ``API_MAX_BODY``."""
        maximum = self.config.API_MAX_BODY
        length = _length(request.META.get("CONTENT_LENGTH"))
        if length is None or length > maximum:
            size = "far too many bytes" if length is None else f"{length} bytes"
            raise BodyTooLarge(
                f"The body has {size}; at most {maximum} are allowed.", {"maximum": maximum}
            )

    def find_kept(self, request: HttpRequest, kinds: tuple[type, ...]) -> Kept | None:
        """Return the request's caller if that is kept; for one request always the same answer.

        `kinds` are the view's authentication classes.
        """
        if self._kept_for is None:
            key = key_of(request, kinds, self.registry, is_batch=self.is_batch_stat)
            self._kept_for = key, None if key is None else kept_callers.find(key)
        return self._kept_for[1]

    def perform_authentication(self, request: Request) -> None:
        """Find out who calls: a caller who is kept, else what the authentication classes say.

        Only those are asked that may know the caller, and only once.
        """
        if self._is_caller_known:
            return
        authenticators = cast("Sequence[BaseAuthentication]", request.authenticators)
        kept = self.find_kept(request._request, kinds_of(authenticators))  # noqa: SLF001 - likewise
        key, _ = self._kept_for or (None, None)
        if kept is not None:
            replay(request, kept)
        elif "HTTP_AUTHORIZATION" not in request._request.META:  # noqa: SLF001 - as the framework does
            request.authenticators = without_header(authenticators)
        authenticate(request)
        self._is_caller_known = True
        if key is not None and kept is None:
            kept = take_in(request, key, authenticators)
        self._kept = kept

    @property
    def permission_kinds(self) -> Sequence[type[BasePermission]]:
        """The view's `permission_classes`, else those of ``API_PERMISSION_CLASSES``."""
        if self.permission_classes is not _BY_SETTING:
            return self.permission_classes
        return _imported(self.config.API_PERMISSION_CLASSES)

    def get_permissions(self) -> list[_SupportsHasPermission]:
        """Return an object of each of the `permission_kinds`."""
        return [each() for each in self.permission_kinds]

    def check_permissions(self, request: Request) -> None:
        """Raise an error unless each permission class permits the request.

        `has_object_permission` is asked before Redis is, with the `Repository` in the address, or
        else the `Blob`. The scopes of a token count whatever the classes are.
        """
        self.check_registry(request)
        found = self.get_permissions()
        first = found[0] if found else None
        if self.access.has_scopes and type(first) is not permissions.BlobCachePermission:
            found = [permissions.BlobCachePermission(), *found]
        caller = request.user  # A permission class might put another user there.
        try:
            for permission in found:
                if not permission.has_permission(request, self) or not self._may_use_object(
                    permission
                ):
                    self.permission_denied(
                        request,
                        message=getattr(permission, "message", None),
                        code=getattr(permission, "code", None),
                    )
        finally:
            if self._kept is not None:
                note_permissions(self._kept, caller)

    def _may_use_object(self, permission: _SupportsHasPermission) -> bool:
        default = BasePermission.has_object_permission
        if getattr(type(permission), "has_object_permission", default) is default:
            return True
        subject: Repository | Blob
        # The type checker knows the fields of a model, and no other arguments.
        if self.repository is not None:
            subject = Repository(pk=self.repository, registry=self.registry)  # type: ignore[misc]
        elif "digest" in self.kwargs:
            subject = Blob(pk=self.kwargs["digest"], registry=self.registry)  # type: ignore[misc]
        else:
            return True
        return permission.has_object_permission(self.request, self, subject)

    def get_throttles(self) -> list[BaseThrottle]:
        """Return the host's throttles, and that of the action's scope if there is a rate for it."""
        scope = self.throttle_scope or self.throttle_scopes.get(self.current_action or "")
        throttles = super().get_throttles()
        if scope not in ScopedRateThrottle.THROTTLE_RATES:
            return throttles
        self.throttle_scope = scope
        has_scoped = any(isinstance(throttle, ScopedRateThrottle) for throttle in throttles)
        return throttles if has_scoped else [*throttles, ScopedRateThrottle()]

    def is_write(self, action: str | None) -> bool:
        """Whether a read-only registry refuses the action."""
        return self.throttle_scopes.get(action or "") == WRITE

    @property
    def allowed_methods(self) -> list[str]:
        """The methods of the address, without those that a read-only registry refuses."""
        methods = super().allowed_methods
        if not (self.is_registry_checked and self.config.READ_ONLY):
            return methods
        return [method for method in methods if not self.is_write(self.action_at(method))]

    @property
    def default_response_headers(self) -> dict[str, str]:
        """The headers of every response: the methods, and that no cache may share it."""
        return {"Allow": ", ".join(self.allowed_methods), **CACHING}

    def get_body_serializer_class(self) -> type[BaseSerializer[Any]] | None:
        """Return the serializer of the current action's body; None if it reads none."""
        return None

    def get_response_serializer_class(self) -> type[BaseSerializer[Any]] | None:
        """Return the serializer of the current action's response, for the schema."""
        return None

    def get_authenticate_header(self, request: Request) -> str | None:  # type: ignore[override]
        """Return the challenge of the first authentication class, which decides on 401 or 403.

        That for registry tokens has none where a registry accepts no tokens; then the next decides.
        """
        authenticators = self.get_authenticators()
        while authenticators and isinstance(authenticators[0], RegistryTokenAuthentication):
            header = authenticators[0].authenticate_header(request)
            if header:
                return header
            authenticators = authenticators[1:]
        return authenticators[0].authenticate_header(request) if authenticators else None

    def get_exception_handler(self) -> Callable[[Exception, Any], Response | None]:
        """Return the API's own handler. The host's is not changed."""
        return exception_handler

    def handle_exception(self, exc: Exception) -> Response:
        """Return the response to an error.

        It is JSON instead of a page or an export that cannot be rendered, as for an unknown
        registry. A caller with a registry token gets 401 and a challenge where others get 403, as
        from registries. An error that a wrong setting of the registry causes is a 503, as if its
        server were down.
        """
        if self.is_registry_checked:
            found = misconfigured(self.registry, exc)
            if found is not None and found.settings:
                found.__cause__ = exc
                exc = found
        if isinstance(exc, PermissionDenied | DRFPermissionDenied) and self.access.has_scopes:
            exc = insufficient(self.request, self.registry)
        response = super().handle_exception(exc)
        is_export = isinstance(getattr(self.request, "accepted_renderer", None), ExportRenderer)
        if (
            is_export
            or isinstance(exc, RegistryUnknown | RegistryMisconfigured)  # a page asks permissions
            or (
                response.status_code == status.HTTP_503_SERVICE_UNAVAILABLE
                and not isinstance(exc, CacheUnavailable | BackendUnavailable)
            )
        ):
            renderer = AsciiJSONRenderer()
            self.request.accepted_renderer = renderer
            self.request.accepted_media_type = renderer.media_type
        return response


class StatusView(RegistryView):
    """The status of the service."""

    requires: ClassVar[Mapping[str, Rule]] = {"get": permissions.view_any}
    throttle_scopes: ClassVar[Mapping[str, str]] = {"get": LIST}

    @described("get_blobcache_status", "Get the status of the service", response=StatusSerializer)
    def get(self, request: Request, **_: str) -> Response:
        """Return the status of Redis and of the catalog, if the registry has them."""
        role, read_only = self.config.ROLE, self.config.READ_ONLY
        report = StatusReport(role, read_only)
        try:
            provider = self.browsable
            server, catalog = provider.server_status(), provider.catalog.status()
        except CatalogUnsupported:
            pass
        except CacheUnavailable as error:
            response = self.handle_exception(error)
            facts = {"reachable": False, "role": role, "read_only": read_only}
            response.data = {**envelope(error), **facts}
            return response
        else:
            sees_all = permissions.view_all(self.access, None)
            last = LastRun.read(provider) if sees_all else None
            if not sees_all:  # They count the reads of hidden repositories, too.
                server = server.without_counts()
            report = StatusReport(role, read_only, server, catalog, last_check=last)
        return Response(StatusSerializer(report).data)


class UnknownView(RegistryView):
    """404 for unknown paths below `blobs/`, `repositories/` and `status/`."""

    permission_classes = ()

    def check_request(self, request: Request) -> None:
        """Raise `NotFound`, whatever the method."""
        raise NotFound(f"There is nothing at {quoted(request.path)}.", "path_unknown")


@csrf_exempt
def too_long(request: HttpRequest, **_: str) -> HttpResponse:
    """Refuse a path that is longer than every valid one, before other code parses it."""
    error = UriTooLong(
        f"The path has {len(request.path)} characters; at most {MAX_PATH} are allowed.",
        {"maximum": MAX_PATH},
    )
    return JsonResponse(envelope(error), status=error.status, headers=CACHING)


@cache
def _imported(paths: tuple[str, ...]) -> tuple[type[BasePermission], ...]:
    if not paths:  # Everybody could do everything.
        raise ImproperlyConfigured("API_PERMISSION_CLASSES has no permission class.")
    return tuple(import_string(path) for path in paths)


def _require_parameters(request: Request, names: Sequence[str]) -> None:
    reserved = format_parameter()
    allowed = [*names, reserved] if reserved else list(names)
    try:
        query = request.GET
    except TooManyFieldsSent:
        raise ParameterInvalid(
            f"The query has more parameters than this server reads; {_describe(allowed)}.",
            {"allowed": allowed},
        ) from None
    for name, values in query.lists():
        if name not in allowed:
            mistake = f"the unknown parameter {quoted(name)}"
        elif len(values) > 1:
            mistake = f"the parameter {quoted(name)} {len(values)} times"
        else:
            continue
        raise ParameterInvalid(
            f"The query has {mistake}; {_describe(allowed)}.",
            {"parameter": excerpt(name), "allowed": allowed},
        )


def _describe(allowed: list[str]) -> str:
    return (
        f"allowed here, once each: {', '.join(allowed)}"
        if allowed
        else "no parameters are allowed here"
    )


_MAX_DIGITS = 18


def _length(text: str | None) -> int | None:
    """The number in a Content-Length.

    None if it has too many digits; then it is not converted, since that could be slow. Raises
    `BodyInvalid` if it is no number; few servers let such a header through.
    """
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()):
        raise BodyInvalid("The Content-Length is not a number of bytes.")
    return int(text) if len(text) <= _MAX_DIGITS else None
