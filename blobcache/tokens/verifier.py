"""From the text of a token to what it grants. Verified tokens are kept until they expire.

Only a registry's own keys and certificates verify its tokens. They are read when the first token
arrives, and again when a file has changed; then all tokens are verified again.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from django.core.signals import setting_changed
from django.views.decorators.debug import sensitive_variables

from blobcache.conf import RegistrySettings, find_entry
from blobcache.exceptions import KeysUnavailable
from blobcache.tokens.chains import verify_chain
from blobcache.tokens.keys import Keys, KeysInvalid
from blobcache.tokens.options import TokenOptions
from blobcache.tokens.parsing import Reason, TokenRefused, parse_object, parse_token
from blobcache.tokens.scopes import Scopes
from blobcache.tokens.signatures import check_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from blobcache.tokens.keys import Key
    from blobcache.tokens.parsing import ParsedToken
    from blobcache.tokens.signatures import Check

__all__ = ["MAX_KEPT", "Grant", "Verifier", "get_verifier"]

_log = logging.getLogger("blobcache.tokens")

MAX_KEPT = 4096
"""Verified tokens that a process keeps; the ones that were not used for longest are dropped."""

_MAX_CHAINS = 64
_MAX_HEADERS = 64

_LOOK_SECONDS = 1.0
"""Seconds between two looks at whether a file of keys has changed."""

_MAX_SUBJECT = 1024

_NAME_BYTES = 32
"""Of the hash that a verified token is kept by."""

_INFINITY = float("inf")

_V = TypeVar("_V")


class Grant(NamedTuple):
    """What a verified token grants."""

    registry: str
    """The registry whose token it is."""

    issuer: str
    subject: str
    """The claim ``sub``: the caller's name at the token server; may be empty."""

    scopes: Scopes
    expires: float
    """When the token is no longer accepted, in seconds since 1970."""

    def __repr__(self) -> str:
        return f"<Grant of {self.registry!r}>"


class Verifier:
    """Verifies the tokens of one registry. Threads share it."""

    def __init__(
        self,
        registry: str,
        options: TokenOptions,
        *,
        clock: Callable[[], float] = time,
        ticks: Callable[[], float] = monotonic,
        maximum: int = MAX_KEPT,
    ) -> None:
        """`clock` tells the time since 1970, `ticks` when to look at the files again."""
        self.registry = registry
        self.options = options
        self.verified = 0
        """How many signatures were verified."""

        self._clock = clock
        self._ticks = ticks
        self._lock = Lock()
        self._look_at = float("-inf")
        self._stamp: object = None
        self._maximum = maximum
        self._trust: _Trust | None = None

    @sensitive_variables()
    def verify(self, token: str) -> Grant:
        """Return what the token grants. Raises `TokenRefused` and `KeysUnavailable`."""
        return self.grant_of(token)

    def grant_of(self, token: str) -> Grant:
        """The same, for callers that hide their variables from error pages themselves."""
        trust = self._current_trust()
        now = self._clock()
        name = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=_NAME_BYTES).digest()
        kept = trust.grants.get(name, now)
        if kept is not None:
            return kept[0]
        parsed = parse_token(token, trust.headers)
        check, until = self._known(parsed, trust, now)
        self.verified += 1
        if not check(parsed.signed, parsed.signature):
            raise TokenRefused(Reason.SIGNATURE)
        if parsed.header is not None:  # Its issuer has signed it, so others cannot fill this.
            trust.remember(parsed.first, check, until)
        found = self._grant(parsed.claims, until, now)
        trust.grants.put(name, found, found.expires, now)
        return found

    def _known(self, token: ParsedToken, trust: _Trust, now: float) -> tuple[Check, float]:
        """Return what checks the token's signature, and until when that may be."""
        if token.header is None:
            known = trust.headers.get(token.first)
            if known is not None and now < known[1]:
                return known
            return self._check(parse_object(token.first), trust, now)
        return self._check(token.header, trust, now)

    def _check(self, header: dict[str, Any], trust: _Trust, now: float) -> tuple[Check, float]:
        algorithm = header.get("alg")
        # Both change what a token means (RFC 7515, 4.1.11; RFC 7797).
        if "crit" in header or "b64" in header:
            raise TokenRefused(Reason.EXTENSIONS)
        if algorithm not in self.options.algorithms:
            raise TokenRefused(Reason.ALGORITHM)
        key, until = self._key(header, trust, now)
        if algorithm not in key.algorithms:
            raise TokenRefused(Reason.KEY_ALGORITHM)
        return check_of(key.public, algorithm), until

    def _key(self, header: dict[str, Any], trust: _Trust, now: float) -> tuple[Key, float]:
        """Return the key that must have signed the token, and until when it may.

        What else a header may say about its key (``jwk``, ``jku``, ``x5u``) is ignored.
        """
        at = datetime.fromtimestamp(now, UTC)
        if "x5c" in header:
            return self._chain(header["x5c"], trust, at)
        kid = header.get("kid")
        if not isinstance(kid, str) or not kid:
            raise TokenRefused(Reason.NO_KEY)
        key = trust.keys.by_id.get(kid)
        if key is None:
            raise TokenRefused(Reason.UNKNOWN_KEY)
        if not key.is_valid_at(at):
            raise TokenRefused(Reason.KEY_TIME)
        certificate = key.certificate
        ends = certificate.not_valid_after_utc.timestamp() if certificate else _INFINITY
        return key, ends

    def _chain(self, texts: object, trust: _Trust, at: datetime) -> tuple[Key, float]:
        name = _name_of_chain(texts)
        now = at.timestamp()
        found = trust.chains.get(name, now)
        if found is None:
            key, ends = verify_chain(texts, trust.keys.roots, at)
            found = key, ends.timestamp()
            trust.chains.put(name, key, found[1], now)
        return found

    def _grant(self, claims: dict[str, Any], until: float, now: float) -> Grant:
        options = self.options
        if claims.get("iss") != options.issuer:
            raise TokenRefused(Reason.ISSUER)
        # One service, or a list that contains it (RFC 7519, 4.1.3).
        audience = claims.get("aud")
        if audience != options.audience and not (
            isinstance(audience, list) and options.audience in audience
        ):
            raise TokenRefused(Reason.AUDIENCE)
        ends, begins = _moment(claims.get("exp")), _moment(claims.get("nbf"))
        if ends is None or now >= ends + options.leeway:
            raise TokenRefused(Reason.EXPIRED)
        if begins is not None and now < begins - options.leeway:
            raise TokenRefused(Reason.NOT_YET)
        subject = claims.get("sub")
        if subject is None:
            subject = ""
        if not isinstance(subject, str) or len(subject) > _MAX_SUBJECT:
            raise TokenRefused(Reason.CLAIMS)
        scopes = Scopes.from_claim(claims.get("access"))
        expires = min(ends + options.leeway, until)
        return Grant(self.registry, options.issuer, subject, scopes, expires)

    def _current_trust(self) -> _Trust:
        """Return the keys with what they have verified, all of it anew if a file has changed."""
        ticks, trust = self._ticks(), self._trust
        if trust is not None and ticks < self._look_at:
            return trust
        with self._lock:
            if ticks >= self._look_at:
                self._look_at = ticks + _LOOK_SECONDS
                stamp = _stamp(self.options.jwks), _stamp(self.options.roots)
                if self._trust is None or stamp != self._stamp:
                    self._trust, self._stamp = self._read(), stamp
            trust = self._trust
        if trust is None:
            raise KeysUnavailable("The keys that verify tokens cannot be read at the moment.")
        return trust

    def _read(self) -> _Trust | None:
        try:
            keys = Keys.read(self.options)
        except KeysInvalid as error:
            _log.error("BLOBCACHE[%r]['TOKENS'] %s", self.registry, error)
            return None
        return _Trust(keys, _Kept(self._maximum), _Kept(_MAX_CHAINS), {})


class _Kept(Generic[_V]):
    """Values by name, each until it expires, and no more than so many."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._lock = Lock()
        self._values: OrderedDict[Hashable, tuple[_V, float]] = OrderedDict()

    def get(self, name: Hashable, now: float) -> tuple[_V, float] | None:
        """Return the value, and when it expires."""
        if name not in self._values:
            return None
        with self._lock:
            found = self._values.get(name)
            if found is None:
                return None
            if now >= found[1]:
                del self._values[name]
                return None
            self._values.move_to_end(name)
            return found

    def put(self, name: Hashable, value: _V, expires: float, now: float) -> None:
        if now >= expires:
            return
        with self._lock:
            self._values[name] = value, expires
            while len(self._values) > self._maximum:
                self._values.popitem(last=False)


class _Trust(NamedTuple):
    """Keys, with what they have verified: so nothing outlives the keys that verified it."""

    keys: Keys
    grants: _Kept[Grant]
    chains: _Kept[Key]
    headers: dict[bytes, tuple[Check, float]]
    """What checks the signatures of tokens that have the header, as it is in them, and until when
    that may be."""

    def remember(self, header: bytes, check: Check, until: float) -> None:
        """Keep that. An issuer has few headers, so all are dropped if there are too many."""
        if len(self.headers) >= _MAX_HEADERS:
            self.headers.clear()
        self.headers[header] = check, until


def _moment(value: object) -> float | None:
    """Return a claim's time in seconds since 1970; None if there is none (RFC 7519, 2)."""
    if value is None:
        return None
    if type(value) is not int and type(value) is not float:
        raise TokenRefused(Reason.CLAIMS)
    try:
        found = float(value)
    except OverflowError:
        raise TokenRefused(Reason.CLAIMS) from None
    if not -_INFINITY < found < _INFINITY:
        raise TokenRefused(Reason.CLAIMS)
    return found


def _name_of_chain(texts: object) -> bytes:
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise TokenRefused(Reason.CHAIN)
    return sha256("\n".join(texts).encode("utf-8", "replace")).digest()


def _stamp(source: Any) -> object:
    """What changes when a file does; None for what is no file, or is not there."""
    if source is None or isinstance(source, dict):
        return None
    try:
        found = os.stat(source)  # noqa: PTH116 - a path of any kind
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


_verifiers: dict[str, tuple[object, Verifier]] = {}
"""By registry: the value of ``TOKENS``, and what verifies by it."""


def _forget(*, setting: str, **_: object) -> None:
    if setting == "BLOBCACHE":
        _verifiers.clear()


setting_changed.connect(_forget)
os.register_at_fork(after_in_child=_verifiers.clear)  # a thread of the parent may hold a lock


# `blobcache.api.tokens` takes a module that has this function for one that is imported completely.
def get_verifier(registry: str) -> Verifier | None:
    """Return what verifies a registry's tokens, one a process; None if it accepts none.

    Raises `ImproperlyConfigured` if ``TOKENS`` is wrong, or if there is no such registry.
    """
    found = _verifiers.get(registry)
    if found is not None:
        source = (find_entry(registry) or {}).get("TOKENS")
        if found[0] is source or found[0] == source:
            return found[1]
    entry = RegistrySettings(registry)
    options = TokenOptions.from_settings(entry)
    if options is None:
        return None
    made = entry.TOKENS, Verifier(registry, options)
    if found is not None:
        _verifiers.pop(registry, None)
    return _verifiers.setdefault(registry, made)[1]
