"""Mask passwords of servers, and the process's environment, in error reports.

Django's debug pages, and the reports that it mails to `ADMINS`, list all settings, the request and
the variables of every frame. Django masks values by their names, such as `SECRET_KEY`. But the
password of a Redis is part of a URL. That URL is in a `LOCATION` of `CACHES`, and often also in an
environment variable; and some servers copy the environment into each request. So set both classes
in the settings:

    DEFAULT_EXCEPTION_REPORTER_FILTER = "blobcache.reporting.ExceptionReporterFilter"
    DEFAULT_EXCEPTION_REPORTER = "blobcache.reporting.ExceptionReporter"

The filter masks settings, the request and variables. The reporter also masks the finished report,
because the text of an exception may contain a password too. The time that masking takes is linear
in the length of the text.
"""

from __future__ import annotations

import os
import re
from collections.abc import ItemsView, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from django.conf import settings
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter as DjangoExceptionReporter
from django.views.debug import SafeExceptionReporterFilter

if TYPE_CHECKING:
    from types import FrameType

    from django.http import HttpRequest

__all__ = ["ExceptionReporter", "ExceptionReporterFilter", "mask"]

STARS = SafeExceptionReporterFilter.cleansed_substitute

_SECRET_NAME = re.compile("PASS|PWD|SECRET|TOKEN|CREDENTIAL|AUTH|SIGNATURE", re.IGNORECASE)
"""Names of variables, keys and query parameters whose values are secrets.

`KEY` is not one of them, although Django masks it in settings: variables of this app often contain
keys of Redis.
"""

_HIDDEN_BY_DJANGO = SafeExceptionReporterFilter.hidden_settings.pattern
_HIDDEN_SETTINGS = f"{_HIDDEN_BY_DJANGO}|LOCATION|URL(?!CONF)"

_WORD = re.compile(r"\S+")
_WORD_OF_MARKUP = re.compile(r"""[^\s<>"']+""")

_PARAMETER = re.compile(r"[?&;][^\s=&?;]*=")
"""A query parameter's name. No match can begin within another, so the search is linear."""

_MIN_SECRET_LENGTH = 4
"""Characters. A shorter password is masked only in a URL, not wherever it appears."""

_MAX_DEPTH = 8
"""How many levels of nested lists and dictionaries are masked item by item."""

_ENVIRON = type(os.environ)

_REQUEST_PREFIXES = ("HTTP_", "CONTENT_", "REQUEST_", "REMOTE_", "SERVER_", "wsgi.", "CSRF_COOKIE")
_REQUEST_NAMES = {"PATH_INFO", "QUERY_STRING", "SCRIPT_NAME"}


def mask(text: str, *, markup: bool = False) -> str:
    """Mask the credentials of every URL in the text: before the host, and in its query.

    Everything between `://` and the last `@` of a word counts as credentials, so that a password
    may contain any character except white space. In markup a word also ends at a tag or a quote.
    """
    words = _WORD_OF_MARKUP if markup else _WORD
    return words.sub(_mask_word, text) if "://" in text or "=" in text else text


def _mask_word(found: re.Match[str]) -> str:
    word = found[0]
    scheme, separator, rest = word.partition("://")
    if separator and "@" in rest:
        word = f"{scheme}://{STARS}@{rest.rpartition('@')[2]}"
    return _mask_parameters(word) if "=" in word else word


def _mask_parameters(word: str) -> str:
    """Mask the values of query parameters with secret names, such as ``password``."""
    parts: list[str] = []
    position = 0
    for found in _PARAMETER.finditer(word):
        if found.start() >= position and _SECRET_NAME.search(found[0]):
            parts += word[position : found.end()], STARS
            position = word.find("&", found.end())
            if position < 0:
                return "".join(parts)
    return "".join([*parts, word[position:]])


class ExceptionReporterFilter(SafeExceptionReporterFilter):
    """Django's filter, which also masks URLs with credentials, and hides the environment."""

    hidden_settings = re.compile(_HIDDEN_SETTINGS, re.IGNORECASE)

    def __init__(self) -> None:
        self._known: tuple[object, set[str]] = (None, set())

    def mask(self, text: str, *, markup: bool = False) -> str:
        """Mask the credentials of URLs, and the passwords of the caches wherever they appear."""
        for secret in self._secrets():
            text = text.replace(escape(secret) if markup else secret, STARS)
        return mask(text, markup=markup)

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        """Mask a setting with a secret name, and secrets in the value of any other."""
        cleansed: Any = super().cleanse_setting(key, value)
        if isinstance(cleansed, dict):
            return {self._masked(name): each for name, each in cleansed.items()}
        if isinstance(cleansed, list | tuple):
            return cleansed  # Django has already called this method for each item.
        return self._masked(cleansed)

    def get_safe_request_meta(self, request: HttpRequest | None) -> dict[str, Any]:
        """Return the parts of META that belong to the request, without the environment."""
        return self._safe_meta(getattr(request, "META", {}))

    def get_traceback_frame_variables(
        self, request: HttpRequest | None, tb_frame: FrameType
    ) -> ItemsView[str, Any]:
        """Return the frame's variables, masked."""
        found = super().get_traceback_frame_variables(request, tb_frame)
        return {name: self._variable(name, value) for name, value in found}.items()

    def _safe_meta(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        safe = {
            name: self.cleanse_setting(name, value)
            for name, value in meta.items()
            if (name.startswith(_REQUEST_PREFIXES) or name in _REQUEST_NAMES)
            and (name not in os.environ or os.environ[name] != value)
        }
        if isinstance(query := safe.get("QUERY_STRING"), str):
            safe["QUERY_STRING"] = self.mask(f"?{query}").removeprefix("?")
        return safe

    def _variable(self, name: object, value: Any, depth: int = 0) -> Any:
        """The variable, or an item in it, with its secrets masked."""
        if isinstance(name, str) and _SECRET_NAME.search(name):
            return STARS
        if isinstance(value, _ENVIRON):
            return _Masked("<the process's environment>")
        if type(value) is dict and depth < _MAX_DEPTH:
            if "REQUEST_METHOD" in value:
                return self._safe_meta(value)
            return {
                self._masked(key): self._variable(key, each, depth + 1)
                for key, each in value.items()
            }
        if type(value) in {list, tuple} and depth < _MAX_DEPTH:
            return type(value)(self._variable(None, each, depth + 1) for each in value)
        return self._masked(value)

    def _masked(self, value: Any) -> Any:
        """The value itself if it shows no secret; else its representation, masked."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            masked = self.mask(value)
            return value if masked == value else masked
        try:
            shown = repr(value)
        except Exception:  # noqa: BLE001 - an object may raise anything; the report must continue
            return value  # The report then shows the error in place of the value.
        masked = self.mask(shown)
        return value if masked == shown else _Masked(masked)

    def _secrets(self) -> set[str]:
        """The passwords of the caches, as they are written and with URL escapes decoded."""
        caches, secrets = self._known
        if caches is not settings.CACHES:
            found = set(_secrets_in(settings.CACHES))
            found |= {unquote(each) for each in found}
            secrets = {each for each in found if len(each) >= _MIN_SECRET_LENGTH}
            self._known = settings.CACHES, secrets
        return secrets


class ExceptionReporter(DjangoExceptionReporter):
    """Django's reporter, which also masks the finished report, with the text of exceptions."""

    def get_traceback_html(self) -> SafeString:
        """Return the report as a page."""
        # As safe as Django's own report: masking only replaces text in it by stars.
        return SafeString(self._masked(super().get_traceback_html(), markup=True))  # nosec B703

    def get_traceback_text(self) -> SafeString:
        """Return the report as plain text."""
        return SafeString(self._masked(super().get_traceback_text(), markup=False))  # nosec B703

    def _masked(self, report: str, *, markup: bool) -> str:
        if isinstance(self.filter, ExceptionReporterFilter):
            return self.filter.mask(report, markup=markup)
        return mask(report, markup=markup)


class _Masked:
    """Replaces a value whose representation contains a secret."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _secrets_in(value: object, name: str = "") -> Iterator[str]:
    """The passwords in the settings of caches: in addresses, and under secret names."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _secrets_in(each, str(key))
    elif isinstance(value, list | tuple | set):
        for each in value:
            yield from _secrets_in(each, name)
    elif isinstance(value, str):
        if _SECRET_NAME.search(name):
            yield value
        # A LOCATION may list several addresses, or be one with a comma in its password.
        for address in {value, *value.split(",")}:
            yield from _secrets_of(address)


def _secrets_of(address: str) -> Iterator[str]:
    credentials, at, _ = address.partition("://")[2].rpartition("@")
    if at:
        yield credentials.partition(":")[2] or credentials
    for parameter, secret in parse_qsl(address.partition("?")[2]):
        if _SECRET_NAME.search(parameter):
            yield secret
