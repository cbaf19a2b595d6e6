"""The options of `RegistryBackend`, and the system checks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.checks import Error, Warning  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured

from blobcache.backends.remote import Origin, is_url
from blobcache.setting import Setting, Values, number, optional, text

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from blobcache.conf import RegistrySettings

__all__ = ["OPTIONS", "RegistryOptions", "check_options"]

_MAX_SECONDS = 600
_MAX_RETRIES = 10


# The values that the options have


def _url() -> Values[str]:
    def contains(value: object) -> bool:
        # What is requested begins with /v2/: behind another one there is never an answer.
        return is_url(value) and not str(value).rstrip("/").endswith("/v2")

    return Values(
        "an http or https address without /v2/, user, password, query and fragment", contains
    )


def _user_name() -> Values[str]:
    def contains(value: object) -> bool:
        return isinstance(value, str) and bool(value) and ":" not in value

    return Values("a user name without a colon", contains)


def _hosts() -> Values[tuple[str, ...]]:
    def contains(value: object) -> bool:
        return isinstance(value, list | tuple) and all(map(_is_host, value))

    return Values("a tuple of hosts such as 'auth.example.com'", contains)


def _is_host(value: object) -> bool:
    return isinstance(value, str) and "/" not in value and is_url(f"https://{value}")


def _few() -> Values[int]:
    def contains(value: object) -> bool:
        return type(value) is int and 0 <= value <= _MAX_RETRIES

    return Values(f"a whole number from 0 to {_MAX_RETRIES}", contains)


class RegistryOptions:
    """The options in ``TRUTH["OPTIONS"]``, each with its default."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    def entry(self) -> Mapping[str, Any]:
        """Return what the project set."""
        return self._options

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._options)})"  # A value may be a password.

    url = Setting(
        "The registry's address, such as `https://registry.example.com`, without `/v2/`. Required.",
        _url(),
        default="",
    )
    username = Setting(
        "The user to log in as, with permission to pull.",
        optional(_user_name()),
        default=None,
    )
    password = Setting(
        "The user's password, or an access token that stands for it.",
        optional(text("a text that is not empty")),
        default=None,
    )
    token_hosts = Setting(
        "Hosts, each with its port if that is not 443, that may issue tokens besides the "
        "registry's own. They get the user's password.",
        _hosts(),
        default=(),
    )
    ca = Setting(
        "The path of a file or folder with the certificates to trust instead of the system's.",
        optional(text("a path")),
        default=None,
    )
    client_certificate = Setting(
        "The path of a certificate, with its chain, to log in with. Only the registry gets it.",
        optional(text("a path")),
        default=None,
    )
    client_key = Setting(
        "The path of that certificate's key, which is not encrypted, if it is in another file.",
        optional(text("a path")),
        default=None,
    )
    connect_timeout = Setting(
        "Seconds to wait for a connection.", number("seconds", maximum=_MAX_SECONDS), default=5
    )
    read_timeout = Setting(
        "Seconds to wait for the next bytes of an answer.",
        number("seconds", maximum=_MAX_SECONDS),
        default=10,
    )
    timeout = Setting(
        "Seconds that one look may take in all: connections, tokens, redirects and retries "
        "included.",
        number("seconds", maximum=_MAX_SECONDS),
        default=30,
    )
    retries = Setting(
        "How often a request is repeated when the registry is busy or breaks the connection.",
        _few(),
        default=2,
    )

    @property
    def has_credentials(self) -> bool:
        """Whether there is a user to log in as."""
        return self.username is not None and self.password is not None

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> RegistryOptions:
        """Return the options of one registry. Raises `ImproperlyConfigured` if they are wrong."""
        for message in check_options(settings):
            if message.id != _MISSING_FILE and isinstance(message, Error):
                raise ImproperlyConfigured(f"{message.msg} {message.hint}")
        return cls(_options(settings))


OPTIONS: Mapping[str, Setting[object]] = {
    name: each for name, each in vars(RegistryOptions).items() if isinstance(each, Setting)
}
"""The declarations of the options, by name."""

_FILES = ("ca", "client_certificate", "client_key")
_MISSING_FILE = "blobcache.E032"


def _options(settings: RegistrySettings) -> Mapping[str, Any]:
    options: Mapping[str, Any] = (settings.TRUTH or {}).get("OPTIONS", {})
    return options


def check_options(settings: RegistrySettings) -> Iterator[CheckMessage]:
    """Return the system checks' messages. None of them shows a value, which may be a password."""
    options, where = _options(settings), f"{settings}['TRUTH']['OPTIONS']"
    wrong = [*_unknown(options, where), *_wrong_values(options, where)]
    yield from wrong
    if wrong:
        return  # The other checks need valid values.
    found = RegistryOptions(options)
    for name in _FILES:
        if options.get(name) is not None and not Path(options[name]).exists():
            yield Error(
                f"{where}['{name}'] is a path that does not exist or cannot be read.",
                hint="Correct the path, or let this process read the folder that it leads to.",
                id="blobcache.E032",
            )
    for name, needed in (
        ("username", "password"),
        ("password", "username"),
        ("client_key", "client_certificate"),
    ):
        if options.get(name) is not None and options.get(needed) is None:
            yield Error(
                f"{where} has '{name}', but no '{needed}'.",
                hint=f"Add '{needed}', or remove '{name}'.",
                id="blobcache.E033",
            )
    if not Origin.of(found.url).keeps_secrets:
        yield from _plain(found, where)


def _unknown(options: Mapping[str, Any], where: str) -> Iterator[CheckMessage]:
    for name in options:
        if name not in OPTIONS:
            yield Error(
                f"{where} has an unknown option {name!r}.",
                hint=f"The known options are {', '.join(OPTIONS)}.",
                id="blobcache.E030",
            )


def _wrong_values(options: Mapping[str, Any], where: str) -> Iterator[CheckMessage]:
    for name, option in OPTIONS.items():
        is_required = name == "url"
        if (name in options or is_required) and not option.values.contains(options.get(name)):
            yield Error(
                f"{where}['{name}'] is wrong."
                if name in options
                else f"{where} has no option '{name}'.",
                hint=f"It should be {option.values.description}.",
                id="blobcache.E031",
            )


def _plain(found: RegistryOptions, where: str) -> Iterator[CheckMessage]:
    if found.has_credentials:
        yield Error(
            f"{where} has a password, but 'url' is an http address.",
            hint="Use https. Passwords are sent without TLS on this machine only.",
            id="blobcache.E034",
        )
    else:
        yield Warning(
            f"{where}['url'] is an http address: anybody on the way can change the answers.",
            hint="Use https, or a registry on this machine.",
            id="blobcache.W030",
        )
