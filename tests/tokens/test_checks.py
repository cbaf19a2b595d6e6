"""The system checks of ``TOKENS``, and the keys that they read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from rest_framework.test import APIClient

from blobcache.checks import check_settings
from blobcache.conf import RegistrySettings
from blobcache.tokens.checks import CLASS
from blobcache.tokens.keys import Keys, KeysInvalid, algorithms_of, fingerprint
from blobcache.tokens.options import TokenOptions
from tests.test_checks import GOOD
from tests.tokens.conftest import Ask
from tests.tokens.signing import Signer, certificate, options, pem, scope

JWKS = Signer().jwks
SESSION = "rest_framework.authentication.SessionAuthentication"


@pytest.fixture(autouse=True)
def named(settings: Any) -> None:
    settings.REST_FRAMEWORK = {
        **settings.REST_FRAMEWORK,
        "DEFAULT_AUTHENTICATION_CLASSES": [CLASS, SESSION],
    }


def found(tokens: object, **others: object) -> list[CheckMessage]:
    registries = {"default": {"TOKENS": tokens}, **others}
    with override_settings(BLOBCACHE=registries, CACHES=GOOD):
        return check_settings()


def ids(tokens: object, **others: object) -> list[str | None]:
    # Nothing about Redis: here all registries share one.
    return [each.id for each in found(tokens, **others) if each.id != "blobcache.W160"]


def test_good_settings_cause_no_message(tmp_path: Path) -> None:
    assert ids(None) == []
    assert ids(options(JWKS=JWKS)) == []
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(JWKS))
    assert ids(options(JWKS=path, ALGORITHMS=["ES256"], LEEWAY=0)) == []
    assert ids(options(JWKS=str(path), LEEWAY=300)) == []
    key = Signer().key
    roots = tmp_path / "roots.pem"
    roots.write_bytes(pem(certificate("own", key, "own", key)))
    assert ids(options(ROOTS=roots)) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"ISSUER": ...}, "has ISSUER = None. It should be a text"),
        ({"ISSUER": ""}, "has ISSUER = ''"),
        ({"AUDIENCE": ["a"]}, "has AUDIENCE = ['a']"),
        ({"AUDIENCE": "a\nb"}, "has AUDIENCE = 'a\\nb'"),
        ({"REALM": "https://é"}, "has REALM = 'https://é'"),
        ({"REALM": ""}, "has REALM = ''"),
        ({"REALM": 1}, "has REALM = 1"),
        ({"REALM": "https://a b"}, "It should be the address of the token server"),
        ({"REALM": "https://"}, "It should be the address of the token server"),
        ({"REALM": "portal"}, "It should be the address of the token server"),
        ({"REALM": "file:///x"}, "It should be the address of the token server"),
        ({"REALM": "https://[x"}, "It should be the address of the token server"),
        ({"JWKS": ...}, "has neither JWKS nor ROOTS"),
        ({"JWKS": 1}, "has a JWKS that is neither the path of a file nor a dictionary"),
        ({"JWKS": ""}, "has a JWKS that is neither the path of a file nor a dictionary"),
        ({"ROOTS": ""}, "has ROOTS that are not the path of a file"),
        ({"ROOTS": {}}, "has ROOTS that are not the path of a file"),
        ({"ALGORITHMS": "RS256"}, "has ALGORITHMS = 'RS256'"),
        ({"ALGORITHMS": ()}, "has ALGORITHMS = ()"),
        ({"ALGORITHMS": ("none",)}, "has ALGORITHMS = ('none',)"),
        ({"ALGORITHMS": ("RS256", "HS256")}, "has ALGORITHMS = ('RS256', 'HS256')"),
        ({"ALGORITHMS": ([],)}, "has ALGORITHMS = ([],)"),
        ({"LEEWAY": -1}, "has LEEWAY = -1"),
        ({"LEEWAY": 301}, "has LEEWAY = 301"),
        ({"LEEWAY": True}, "has LEEWAY = True"),
        ({"LEEWAY": "60"}, "has LEEWAY = '60'"),
    ],
)
def test_e101_a_value_is_missing_or_wrong(changes: dict[str, Any], what: str) -> None:
    tokens = options(JWKS=JWKS) | changes
    tokens = {name: value for name, value in tokens.items() if value is not ...}
    (message,) = found(tokens)
    assert message.id == "blobcache.E101"
    assert what in message.msg
    with (
        override_settings(BLOBCACHE={"default": {"TOKENS": tokens}}),
        pytest.raises(ImproperlyConfigured, match="TOKENS"),
    ):
        TokenOptions.from_settings(RegistrySettings())


def test_e004_a_name_is_unknown() -> None:
    (message,) = found(options(JWKS=JWKS, ISSUERS="a"))
    assert message.id == "blobcache.E004"


PRIVATE = {**Signer().jwk, "d": "AAAA"}


@pytest.mark.parametrize(
    ("jwks", "what"),
    [
        ({}, "is not an object with a list 'keys'"),
        ({"keys": {}}, "is not an object with a list 'keys'"),
        ({"keys": [1]}, "with a key that is not an object"),
        ({"keys": []}, "without a key that could sign a token"),
        ({"keys": [{"kty": "unknown"}]}, "without a key that could sign a token"),
        ({"keys": [{"kty": ["RSA"]}]}, "without a key that could sign a token"),
        ({"keys": [{**Signer().jwk, "use": "enc"}]}, "without a key that could sign a token"),
        ({"keys": [{**Signer().jwk, "alg": "RS256"}]}, "without a key that could sign a token"),
        ({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}, "with a secret"),
        ({"keys": [PRIVATE]}, "with a private key"),
        ({"keys": [{"kty": "RSA"}]}, "with a key that cannot be read"),
        ({"keys": [{**Signer().jwk, "x": "AAAA"}]}, "with a key that cannot be read"),
        ({"keys": [{**Signer().jwk, "kid": 1}]}, "whose 'kid' is not a string"),
        ({"keys": [Signer().jwk, Signer().jwk]}, "with two keys of the id 'first'"),
    ],
)
def test_e103_the_jwks_cannot_be_used(jwks: dict[str, Any], what: str, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks))
    for source in (jwks, path):
        (message,) = found(options(JWKS=source))
        assert message.id == "blobcache.E103"
        assert what in message.msg
        assert "AAAA" not in message.msg
        assert "c2VjcmV0" not in message.msg


@pytest.mark.parametrize("name", ["JWKS", "ROOTS"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 9, b"[" * 5000, None, 1])
def test_e103_a_file_cannot_be_used(name: str, content: bytes | int | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with path.open("wb") as file:
            file.truncate(2 * 1024 * 1024)
    (message,) = found(options(**{name: str(path)}))
    assert message.id == "blobcache.E103"
    assert name in message.msg


def test_a_file_of_keys_may_have_a_mebibyte(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(JWKS).ljust(1024 * 1024))
    assert ids(options(JWKS=path)) == []
    path.write_text(json.dumps(JWKS).ljust(1024 * 1024 + 1))
    (message,) = found(options(JWKS=path))
    assert message.id == "blobcache.E103"
    assert "which is longer than 1048576 bytes" in message.msg


@pytest.mark.parametrize(("bits", "is_allowed"), [(2047, 0), (2048, 1), (8192, 1), (8193, 0)])
def test_an_rsa_key_has_from_2048_to_8192_bits(bits: int, is_allowed: bool) -> None:
    public = RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    assert bool(algorithms_of(public)) is bool(is_allowed)


def test_the_id_of_a_key_is_before_the_fingerprint_of_another_one() -> None:
    first, second = Signer(), Signer()
    public: Any = first.key.public_key()
    jwks = {"keys": [first.jwk, {**second.jwk, "kid": fingerprint(public)}]}
    parsed = TokenOptions("i", "a", "https://r", jwks, None)
    found = Keys.read(parsed).by_id[fingerprint(public)].public
    assert found == second.key.public_key()


def test_e103_no_key_is_of_an_allowed_algorithm() -> None:
    assert ids(options(JWKS=JWKS, ALGORITHMS=("RS256",))) == ["blobcache.E103"]


def test_e104_two_registries_accept_the_same_tokens() -> None:
    tokens = options(JWKS=JWKS)
    assert ids(tokens, other={"TOKENS": tokens}) == ["blobcache.E104"]
    assert ids(tokens, other={"TOKENS": {**tokens, "AUDIENCE": "other"}}) == []
    assert ids(tokens, other={"TOKENS": {**tokens, "ISSUER": "other"}}) == []


def test_w100_no_view_accepts_tokens(settings: Any) -> None:
    settings.REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] = [SESSION]
    assert ids(options(JWKS=JWKS)) == ["blobcache.W100"]
    assert ids(None) == []
    del settings.REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"]
    assert ids(options(JWKS=JWKS)) == ["blobcache.W100"]


def test_w101_another_class_comes_first(settings: Any) -> None:
    settings.REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] = [SESSION, CLASS]
    assert ids(options(JWKS=JWKS)) == ["blobcache.W101"]


class TestWithoutTheExtra:
    @pytest.fixture(autouse=True)
    def missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("keys", "chains", "verifier"):
            monkeypatch.delitem(sys.modules, f"blobcache.tokens.{name}", raising=False)
            monkeypatch.delattr(f"blobcache.tokens.{name}", raising=False)
        for name in ("jwt", "jwt.algorithms", "jwt.exceptions"):
            monkeypatch.setitem(sys.modules, name, None)

    def test_e102_says_what_to_install(self) -> None:
        (message,) = found(options(JWKS=JWKS))
        assert message.id == "blobcache.E102"
        assert "django-blobcache[tokens]" in str(message.hint)

    def test_the_class_says_what_to_install(self, portal: Ask) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"django-blobcache\[tokens\]"):
            portal.client().get("/api/repositories/")

    def test_who_sends_no_token_does_not_need_it(self, portal: Ask) -> None:
        assert APIClient().get("/api/repositories/").status_code == 401


def test_the_first_requests_may_come_at_once(portal: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread waits until another one has imported what verifies tokens."""
    for name in ("verifier", "chains"):
        monkeypatch.delitem(sys.modules, f"blobcache.tokens.{name}", raising=False)
        monkeypatch.delattr(f"blobcache.tokens.{name}", raising=False)
    statuses: list[int] = []

    def ask() -> None:
        client = portal.client(scope("catalog", "*", kind="registry"))
        statuses.append(client.get("/api/repositories/").status_code)

    second = Thread(target=ask)

    class Finder:
        """Sends the second request while the first one imports."""

        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "blobcache.tokens.chains":
                second.start()
                second.join(0.3)  # It waits for this import, unless it fails.

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    ask()
    second.join()
    assert statuses == [200, 200]


def test_the_api_can_be_imported_without_the_extra() -> None:
    code = (
        "import sys; sys.modules['jwt'] = sys.modules['cryptography'] = None\n"
        "import django; django.setup()\n"
        "import blobcache.api.tokens, blobcache.api.urls, blobcache.tokens.checks\n"
        "assert 'blobcache.tokens.verifier' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def environment() -> dict[str, str]:
    import os  # noqa: PLC0415

    return {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}


def test_a_key_without_an_id_is_known_by_its_fingerprints() -> None:
    parsed = TokenOptions("i", "a", "https://r", {"keys": [Signer(kid=None).jwk]}, None)
    assert len(Keys.read(parsed).by_id) == 2


def test_a_message_is_the_rest_of_a_sentence() -> None:
    parsed = TokenOptions("i", "a", "https://r", "/none", None)
    with pytest.raises(KeysInvalid, match=r"^has JWKS = '/none', which cannot be read: No such"):
        Keys.read(parsed)
