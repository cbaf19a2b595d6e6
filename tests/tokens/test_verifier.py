"""Which tokens are accepted, which are refused and why, and what is kept."""

from __future__ import annotations

import json
import logging
import os
import time
from base64 import b64encode, urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.views.debug import ExceptionReporter

from blobcache.conf import RegistrySettings
from blobcache.exceptions import KeysUnavailable
from blobcache.tokens.keys import fingerprint, thumbprint
from blobcache.tokens.options import TokenOptions
from blobcache.tokens.parsing import MAX_TOKEN, Reason, TokenRefused
from blobcache.tokens.scopes import Scopes
from blobcache.tokens.verifier import Grant, Verifier, get_verifier
from tests.tokens.signing import (
    Signer,
    certificate,
    encoded,
    hmac_signature,
    issuer_extensions,
    key_usage,
    options,
    pem,
    scope,
    x5c,
)

PULL = scope("team/app", "pull")
CALLER = "alice"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def made(found: dict[str, Any], clock: Any = time.time, **facts: Any) -> Verifier:
    """Return the verifier of a registry with these ``TOKENS``."""
    parsed = TokenOptions(
        issuer=found["ISSUER"],
        audience=found["AUDIENCE"],
        realm=found["REALM"],
        jwks=found.get("JWKS"),
        roots=found.get("ROOTS"),
        **{name.lower(): found[name] for name in ("ALGORITHMS", "LEEWAY") if name in found},
    )
    return Verifier("default", parsed, clock=clock, **facts)


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def verifier(signer: Signer) -> Verifier:
    return made(options(JWKS=signer.jwks))


def refusal(verifier: Verifier, token: str) -> Reason:
    """Return why the token is refused."""
    with pytest.raises(TokenRefused) as caught:
        verifier.verify(token)
    assert str(caught.value) == f"The token is refused: {caught.value.reason}."
    return caught.value.reason


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "ES256", "ES384", "ES512", "EdDSA"])
def test_a_token_of_a_known_key_is_accepted(algorithm: str) -> None:
    signer = Signer(algorithm)
    verifier = made(options(JWKS=signer.jwks, ALGORITHMS=(algorithm,)))
    grant = verifier.verify(signer.token(PULL))
    assert grant.subject == "bob"
    assert grant.scopes.allows("pull", "team/app")
    assert not grant.scopes.allows("push", "team/app")


def test_a_key_is_found_by_the_ids_that_registries_use(signer: Signer) -> None:
    public: Any = signer.key.public_key()
    for kid in (fingerprint(public), thumbprint(public)):
        verifier = made(options(JWKS=signer.jwks))
        assert verifier.verify(signer.token(PULL, header={"kid": kid})).subject == "bob"


def test_the_fingerprint_is_libtrusts() -> None:
    """Twelve groups of four characters (libtrust, "KeyID")."""
    public: Any = Signer().key.public_key()
    groups = fingerprint(public).split(":")
    assert [len(each) for each in groups] == [4] * 12


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    """RFC 7638, 3.1, "Example JWK Thumbprint Computation"."""
    from jwt.algorithms import RSAAlgorithm  # noqa: PLC0415

    jwk = {
        "kty": "RSA",
        "n": (
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6t"
            "Soc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-"
            "65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qN"
            "Lyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awa"
            "pJzKnqDKgw"
        ),
        "e": "AQAB",
    }
    public: Any = RSAAlgorithm.from_jwk(jwk)
    assert thumbprint(public) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


class TestTheForm:
    def test_a_token_that_is_too_long_is_refused_before_it_is_parsed(
        self, verifier: Verifier, signer: Signer
    ) -> None:
        long = signer.token(PULL, pad="x" * MAX_TOKEN)
        assert refusal(verifier, long) is Reason.TOO_LONG
        assert verifier.verified == 0

    @pytest.mark.parametrize(
        "text",
        ["", "a", "a.b", "a.b.c.d", "..", "a..c", "a.b.", "é.b.c", "a b.c.d", "a=.b.c", "a\n.b.c"],
    )
    def test_what_is_not_three_parts_in_base64url_is_refused(
        self, verifier: Verifier, text: str
    ) -> None:
        assert refusal(verifier, text) is Reason.MALFORMED

    @pytest.mark.parametrize(
        "header",
        ["", "[]", "1", "null", '"x"', "{", "{} {}", '{"alg": NaN}', "\ufeff{}", "[" * 9000],
    )
    def test_a_header_that_is_no_object_is_refused(
        self, verifier: Verifier, signer: Signer, header: str
    ) -> None:
        found = refusal(verifier, signer.raw("{}", header=header))
        assert found is (Reason.NO_JSON if header else Reason.MALFORMED)

    @pytest.mark.parametrize(
        "claims", [b"[]", b"nonsense", b'"\xff"', b'{"exp": Infinity}', b"[" * 9000]
    )
    def test_claims_that_are_no_object_are_refused(
        self, verifier: Verifier, signer: Signer, claims: bytes
    ) -> None:
        assert refusal(verifier, signer.raw(claims)) is Reason.NO_JSON

    def test_a_name_that_occurs_twice_is_refused_wherever_it_is(
        self, verifier: Verifier, signer: Signer
    ) -> None:
        good = json.dumps(signer.claims(PULL))
        twice = good.removesuffix("}") + ', "sub": "root"}'
        assert refusal(verifier, signer.raw(twice)) is Reason.DUPLICATE
        inside = good.replace('"type"', '"name": "other/app", "type"')
        assert refusal(verifier, signer.raw(inside)) is Reason.DUPLICATE
        header = f'{{"alg": "ES256", "kid": "{signer.kid}", "alg": "none"}}'
        assert refusal(verifier, signer.raw(good, header=header)) is Reason.DUPLICATE
        escaped = good.removesuffix("}") + ', "\\u0073ub": "root"}'
        assert refusal(verifier, signer.raw(escaped)) is Reason.DUPLICATE


class TestTheAlgorithm:
    @pytest.mark.parametrize(
        "name", ["none", "None", "nOnE", "", "HS256", "ES384", "PS256", 1, None]
    )
    def test_another_than_the_allowed_ones_is_refused(
        self, verifier: Verifier, signer: Signer, name: object
    ) -> None:
        header = json.dumps({"alg": name, "kid": signer.kid})
        token = signer.raw(json.dumps(signer.claims(PULL)), header=header)
        assert refusal(verifier, token) is Reason.ALGORITHM
        assert verifier.verified == 0

    def test_a_token_without_a_signature_is_refused(
        self, verifier: Verifier, signer: Signer
    ) -> None:
        head, _, _ = signer.token(PULL).rpartition(".")
        assert refusal(verifier, f"{head}.") is Reason.MALFORMED

    @pytest.mark.parametrize("form", ["pem", "der", "jwk"])
    def test_a_public_key_is_no_secret_of_hmac(self, form: str) -> None:
        signer = Signer("RS256")
        verifier = made(options(JWKS=signer.jwks))
        public = signer.key.public_key()
        secret = {
            "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            "jwk": json.dumps(signer.jwk).encode(),
        }[form]
        header = encoded(json.dumps({"alg": "HS256", "kid": signer.kid}))
        signed = f"{header}.{encoded(json.dumps(signer.claims(PULL)))}"
        token = f"{signed}.{encoded(hmac_signature(signed.encode(), secret))}"
        assert refusal(verifier, token) is Reason.ALGORITHM

    def test_a_key_verifies_no_other_algorithm(self) -> None:
        rsa_signer, signer = Signer("RS256", "rsa"), Signer("ES256", "curve")
        verifier = made(options(JWKS={"keys": [rsa_signer.jwk, signer.jwk]}))
        token = signer.token(PULL, header={"kid": "rsa"})
        assert refusal(verifier, token) is Reason.KEY_ALGORITHM
        assert verifier.verified == 0

    def test_the_algorithm_of_a_jwk_counts(self) -> None:
        signer = Signer("RS512")
        jwks = {"keys": [{**signer.jwk, "alg": "RS256"}]}
        verifier = made(options(JWKS=jwks, ALGORITHMS=("RS256", "RS512")))
        assert refusal(verifier, signer.token(PULL)) is Reason.KEY_ALGORITHM


class TestTheKey:
    def test_another_key_of_the_same_id_is_refused(self, verifier: Verifier) -> None:
        assert refusal(verifier, Signer().token(PULL)) is Reason.SIGNATURE

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_a_changed_token_is_refused(
        self, verifier: Verifier, signer: Signer, part: int
    ) -> None:
        parts = signer.token(PULL).split(".")
        others = signer.token(scope("other/app", "*"), header={"typ": "jwt"}).split(".")
        parts[part] = others[part]
        assert refusal(verifier, ".".join(parts)) is Reason.SIGNATURE

    @pytest.mark.parametrize(
        "kid",
        [
            "second",
            "../../../dev/null",
            "/etc/hostname",
            "file:///dev/null",
            "https://evil.example/key.pem",
            "' OR 1=1 --",
            "first\x00",
        ],
    )
    def test_an_id_is_only_looked_up(self, verifier: Verifier, signer: Signer, kid: str) -> None:
        assert refusal(verifier, signer.token(PULL, header={"kid": kid})) is Reason.UNKNOWN_KEY

    @pytest.mark.parametrize("kid", [..., "", 1, ["first"], {"first": 1}, True])
    def test_a_token_without_an_id_is_refused(
        self, verifier: Verifier, signer: Signer, kid: object
    ) -> None:
        assert refusal(verifier, signer.token(PULL, header={"kid": kid})) is Reason.NO_KEY

    @pytest.mark.parametrize("name", ["jwk", "jku", "x5u"])
    def test_a_key_that_the_token_brings_is_ignored(self, name: str) -> None:
        honest, forger = Signer(), Signer()
        verifier = made(options(JWKS=honest.jwks))
        brought = {"jwk": forger.jwk}.get(name, "https://evil.example/keys")
        assert refusal(verifier, forger.token(PULL, header={name: brought})) is Reason.SIGNATURE
        alone = forger.token(PULL, header={name: brought, "kid": ...})
        assert refusal(verifier, alone) is Reason.NO_KEY

    @pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}])
    def test_extensions_of_the_header_are_refused(
        self, verifier: Verifier, signer: Signer, header: dict[str, Any]
    ) -> None:
        assert refusal(verifier, signer.token(PULL, header=header)) is Reason.EXTENSIONS

    def test_a_key_of_another_use_is_ignored(self, signer: Signer) -> None:
        jwks = {"keys": [{**signer.jwk, "use": "enc"}, Signer("EdDSA", "other").jwk]}
        assert refusal(made(options(JWKS=jwks)), signer.token(PULL)) is Reason.UNKNOWN_KEY


class TestClaims:
    @pytest.mark.parametrize("value", ["evil.example.com", "", None, ["tokens.example.com"], ...])
    def test_another_issuer_is_refused(
        self, verifier: Verifier, signer: Signer, value: object
    ) -> None:
        assert refusal(verifier, signer.token(PULL, iss=value)) is Reason.ISSUER

    @pytest.mark.parametrize(
        "value",
        ["other.example.com", "registry.example.co", "", None, [], ["other"], [[]], {}, ...],
    )
    def test_another_audience_is_refused(
        self, verifier: Verifier, signer: Signer, value: object
    ) -> None:
        assert refusal(verifier, signer.token(PULL, aud=value)) is Reason.AUDIENCE

    def test_an_audience_may_be_a_list(self, verifier: Verifier, signer: Signer) -> None:
        assert (
            verifier.verify(signer.token(PULL, aud=["other", "registry.example.com"])).subject
            == "bob"
        )

    def test_a_token_expires_after_the_leeway(self, signer: Signer) -> None:
        clock = Clock()
        verifier = made(options(JWKS=signer.jwks, LEEWAY=30), clock)
        token = signer.token(PULL, exp=int(clock.now))
        clock.now = int(clock.now) + 29.9
        assert verifier.verify(token).subject == "bob"
        clock.now += 0.2
        assert refusal(verifier, token) is Reason.EXPIRED

    def test_a_token_begins_before_the_leeway(self, signer: Signer) -> None:
        clock = Clock()
        verifier = made(options(JWKS=signer.jwks, LEEWAY=30), clock)
        token = signer.token(PULL, nbf=int(clock.now) + 31)
        clock.now = int(clock.now)
        assert refusal(verifier, token) is Reason.NOT_YET
        clock.now += 1
        assert verifier.verify(token).subject == "bob"

    def test_a_token_without_an_end_is_refused(self, verifier: Verifier, signer: Signer) -> None:
        for end in (..., None, 0, -1):
            assert refusal(verifier, signer.token(PULL, exp=end)) is Reason.EXPIRED

    @pytest.mark.parametrize("name", ["exp", "nbf"])
    @pytest.mark.parametrize("value", ["9999999999", True, [], {}])
    def test_a_time_that_is_no_number_is_refused(
        self, verifier: Verifier, signer: Signer, name: str, value: Any
    ) -> None:
        assert refusal(verifier, signer.token(PULL, **{name: value})) is Reason.CLAIMS

    @pytest.mark.parametrize("number", ["1e999", "9" * 400, "9" * 5000])
    def test_a_time_that_is_too_large_is_refused(
        self, verifier: Verifier, signer: Signer, number: str
    ) -> None:
        good = json.dumps(signer.claims(PULL, exp=1234567890123))
        found = refusal(verifier, signer.raw(good.replace("1234567890123", number)))
        assert found in {Reason.CLAIMS, Reason.NO_JSON}

    @pytest.mark.parametrize("value", [1, ["bob"], {}, "x" * 1025])
    def test_a_subject_that_is_no_name_is_refused(
        self, verifier: Verifier, signer: Signer, value: object
    ) -> None:
        assert refusal(verifier, signer.token(PULL, sub=value)) is Reason.CLAIMS

    @pytest.mark.parametrize("value", ["", None, ...])
    def test_a_token_may_have_no_subject(
        self, verifier: Verifier, signer: Signer, value: object
    ) -> None:
        assert verifier.verify(signer.token(PULL, sub=value)).subject == ""

    @pytest.mark.parametrize(
        "access",
        [
            {},
            "repository:team/app:pull",
            1,
            [1],
            [[]],
            [None],
            [{"type": "repository", "name": "team/app"}],
            [{"type": "repository", "name": "team/app", "actions": "pull"}],
            [{"type": "repository", "name": "team/app", "actions": {"pull": 1}}],
            [{"type": "repository", "name": "team/app", "actions": [1]}],
            [{"type": "repository", "name": "team/app", "actions": [["pull"]]}],
            [{"type": "repository", "name": ["team/app"], "actions": ["pull"]}],
            [{"name": "team/app", "actions": ["pull"]}],
        ],
    )
    def test_access_that_is_no_list_of_scopes_is_refused(
        self, verifier: Verifier, signer: Signer, access: object
    ) -> None:
        token = signer.raw(json.dumps(signer.claims() | {"access": access}))
        assert refusal(verifier, token) is Reason.ACCESS

    @pytest.mark.parametrize(
        "name",
        ["", "*", "team/*", "Team", "team//app", "../app", "team/app\n", "a::b", "x" * 256, "é"],
    )
    def test_a_scope_with_a_name_that_does_not_parse_is_refused(
        self, verifier: Verifier, signer: Signer, name: str
    ) -> None:
        token = signer.token(PULL, scope(name, "pull"))
        assert refusal(verifier, token) is Reason.NAME

    def test_scopes_of_other_kinds_and_unknown_actions_grant_nothing(
        self, verifier: Verifier, signer: Signer
    ) -> None:
        token = signer.token(
            scope("team/app", "fly", "PULL"),
            scope("team/web", "pull", kind="artifact"),
            scope("other", "*", kind="registry"),
            scope("catalog", "pull", kind="registry"),
        )
        scopes = verifier.verify(token).scopes
        assert not scopes.allows("pull", "team/app")
        assert not scopes.allows("pull", "team/web")
        assert not scopes.catalog

    def test_scopes_of_one_repository_add_up(self, verifier: Verifier, signer: Signer) -> None:
        scopes = verifier.verify(
            signer.token(scope("a", "pull"), scope("a", "push"), scope("b", "*"))
        ).scopes
        assert [scopes.allows(each, "a") for each in ("pull", "push", "delete")] == [
            True,
            True,
            False,
        ]
        assert scopes.allows("delete", "b")
        assert [*scopes.allowing("delete")] == ["b"]

    def test_a_scope_takes_nothing_from_another_one(
        self, verifier: Verifier, signer: Signer
    ) -> None:
        catalog = [scope("catalog", each, kind="registry") for each in ("*", "pull")]
        scopes = verifier.verify(
            signer.token(scope("a", "pull"), *catalog, scope("a", "pull", "push"))
        ).scopes
        assert scopes.catalog
        assert scopes.allows("pull", "a")
        assert scopes.allows("push", "a")

    @pytest.mark.parametrize("access", [None, [], ...])
    def test_a_token_may_have_no_scopes(
        self, verifier: Verifier, signer: Signer, access: object
    ) -> None:
        claims = signer.claims() | {"access": access}
        if access is ...:
            del claims["access"]
        assert not verifier.verify(signer.raw(json.dumps(claims))).scopes.repositories


class Chain:
    """A root, an issuer below it, and a signer whose certificate that issuer has issued."""

    def __init__(self, directory: Path) -> None:
        self.root_key, self.issuer_key = Signer().key, Signer().key
        self.signer = Signer(kid=None)
        self.root = certificate("root", self.root_key, "root", self.root_key, issuer_extensions())
        self.issuer = certificate(
            "issuer", self.issuer_key, "root", self.root_key, issuer_extensions()
        )
        self.leaf = certificate("signer", self.signer.key, "issuer", self.issuer_key)
        self.roots = directory / "roots.pem"
        self.roots.write_bytes(pem(self.root))

    def options(self, **others: Any) -> dict[str, Any]:
        return options(ROOTS=str(self.roots), **others)

    def token(self, *certificates: Any, **header: Any) -> str:
        return self.signer.token(PULL, header={"x5c": x5c(*certificates), **header})


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


class TestAChain:
    def test_a_chain_to_a_root_is_accepted(self, chain: Chain) -> None:
        verifier = made(chain.options())
        assert verifier.verify(chain.token(chain.leaf, chain.issuer)).subject == "bob"
        assert verifier.verify(chain.token(chain.leaf, chain.issuer, chain.root)).subject == "bob"
        direct = certificate("signer", chain.signer.key, "root", chain.root_key)
        assert verifier.verify(chain.token(direct)).subject == "bob"

    @pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
    def test_the_signers_key_may_be_of_any_kind(self, chain: Chain, algorithm: str) -> None:
        signer = Signer(algorithm, None)
        leaf = certificate("signer", signer.key, "root", chain.root_key)
        token = signer.token(PULL, header={"x5c": x5c(leaf)})
        assert made(chain.options()).verify(token).subject == "bob"

    def test_a_configured_certificate_may_sign_tokens_itself(self, chain: Chain) -> None:
        own = certificate("own", chain.signer.key, "own", chain.signer.key)
        chain.roots.write_bytes(pem(chain.root, own))
        verifier = made(chain.options())
        assert verifier.verify(chain.token(own)).subject == "bob"
        public: Any = chain.signer.key.public_key()
        for kid in (fingerprint(public), thumbprint(public)):
            assert verifier.verify(chain.signer.token(PULL, header={"kid": kid})).subject == "bob"

    def test_a_chain_without_its_issuer_is_refused(self, chain: Chain) -> None:
        assert refusal(made(chain.options()), chain.token(chain.leaf)) is Reason.CHAIN

    def test_a_chain_to_another_root_of_the_same_name_is_refused(self, chain: Chain) -> None:
        forged_key = Signer().key
        forged = certificate("root", forged_key, "root", forged_key, issuer_extensions())
        leaf = certificate("signer", chain.signer.key, "root", forged_key)
        verifier = made(chain.options())
        assert refusal(verifier, chain.token(leaf, forged)) is Reason.CHAIN
        own = certificate("own", chain.signer.key, "own", chain.signer.key, issuer_extensions())
        assert refusal(verifier, chain.token(own)) is Reason.CHAIN

    def test_who_may_not_issue_certificates_issues_none(self, chain: Chain) -> None:
        verifier = made(chain.options())
        for extensions in ([], issuer_extensions(ca=False)):
            issuer = certificate("issuer", chain.issuer_key, "root", chain.root_key, extensions)
            assert refusal(verifier, chain.token(chain.leaf, issuer)) is Reason.CHAIN

    @pytest.mark.parametrize("may_sign", [True, False])
    def test_so_does_who_may_not_sign_certificates(self, chain: Chain, may_sign: bool) -> None:
        usage = key_usage(key_cert_sign=may_sign)
        extensions = [*issuer_extensions(), (usage, True)]
        issuer = certificate("issuer", chain.issuer_key, "root", chain.root_key, extensions)
        verifier, token = made(chain.options()), chain.token(chain.leaf, issuer)
        if may_sign:
            assert verifier.verify(token).subject == "bob"
        else:
            assert refusal(verifier, token) is Reason.CHAIN

    def test_a_path_length_counts(self, chain: Chain) -> None:
        short = certificate(
            "root", chain.root_key, "root", chain.root_key, issuer_extensions(path_length=0)
        )
        chain.roots.write_bytes(pem(short))
        verifier = made(chain.options())
        assert refusal(verifier, chain.token(chain.leaf, chain.issuer)) is Reason.CHAIN

    @pytest.mark.parametrize("days", [(-10, -1), (1, 10)])
    def test_each_certificate_must_be_valid_now(
        self, chain: Chain, days: tuple[float, float]
    ) -> None:
        verifier = made(chain.options())
        leaf = certificate("signer", chain.signer.key, "issuer", chain.issuer_key, days=days)
        assert refusal(verifier, chain.token(leaf, chain.issuer)) is Reason.CHAIN
        issuer = certificate(
            "issuer", chain.issuer_key, "root", chain.root_key, issuer_extensions(), days=days
        )
        assert refusal(verifier, chain.token(chain.leaf, issuer)) is Reason.CHAIN
        root = certificate(
            "root", chain.root_key, "root", chain.root_key, issuer_extensions(), days=days
        )
        chain.roots.write_bytes(pem(root))
        verifier = made(chain.options())
        assert refusal(verifier, chain.token(chain.leaf, chain.issuer)) is Reason.CHAIN

    @pytest.mark.parametrize("days", [(-10, -1), (1, 10)])
    def test_a_configured_certificate_must_be_valid_now(
        self, chain: Chain, days: tuple[float, float]
    ) -> None:
        own = certificate("own", chain.signer.key, "own", chain.signer.key, days=days)
        chain.roots.write_bytes(pem(own))
        verifier = made(chain.options())
        public: Any = chain.signer.key.public_key()
        token = chain.signer.token(PULL, header={"kid": fingerprint(public)})
        assert refusal(verifier, token) is Reason.KEY_TIME
        assert refusal(verifier, chain.token(own)) is Reason.CHAIN

    def test_a_grant_ends_with_its_chain(self, chain: Chain) -> None:
        clock = Clock()
        leaf = certificate("signer", chain.signer.key, "issuer", chain.issuer_key, days=(-1, 0.001))
        verifier = made(chain.options(), clock)
        token = chain.token(leaf, chain.issuer)
        assert verifier.verify(token).expires == leaf.not_valid_after_utc.timestamp()
        clock.now = leaf.not_valid_after_utc.timestamp() + 1
        assert refusal(verifier, token) is Reason.CHAIN

    def test_a_token_of_another_key_than_the_certificates_is_refused(self, chain: Chain) -> None:
        token = Signer(kid=None).token(PULL, header={"x5c": x5c(chain.leaf, chain.issuer)})
        assert refusal(made(chain.options()), token) is Reason.SIGNATURE

    def test_a_chain_needs_roots(self, chain: Chain) -> None:
        verifier = made(options(JWKS=chain.signer.jwks))
        token = chain.token(chain.leaf, chain.issuer)
        assert refusal(verifier, token) is Reason.NO_ROOTS

    def test_a_chain_that_is_refused_is_not_replaced_by_an_id(self, chain: Chain) -> None:
        signer = Signer()
        verifier = made(chain.options(JWKS=signer.jwks))
        token = signer.token(PULL, header={"x5c": x5c(chain.leaf)})
        assert refusal(verifier, token) is Reason.CHAIN

    @pytest.mark.parametrize(
        "texts", [[], "", "x", 0, {}, [1], [""], ["!!!"], ["AAAA"], [["x"]], ["\ud800"]]
    )
    def test_what_is_no_chain_is_refused(self, chain: Chain, texts: object) -> None:
        token = chain.signer.token(PULL, header={"x5c": texts})
        assert refusal(made(chain.options()), token) is Reason.CHAIN

    def test_a_broken_certificate_is_refused_wherever_it_is_broken(self, chain: Chain) -> None:
        verifier, good = made(chain.options()), chain.leaf.public_bytes(Encoding.DER)
        issuer = chain.issuer.public_bytes(Encoding.DER)
        for place in range(len(good)):
            for changed in {0, 5, good[place] ^ 1, good[place] ^ 0x80, 0xFF} - {good[place]}:
                broken = good[:place] + bytes([changed]) + good[place + 1 :]
                texts = [b64encode(each).decode() for each in (broken, issuer)]
                with pytest.raises(TokenRefused):
                    verifier.verify(f"{encoded(json.dumps({'alg': 'ES256', 'x5c': texts}))}.e30.AA")

    def test_a_chain_that_is_too_long_is_refused(self, chain: Chain) -> None:
        most = chain.token(chain.leaf, *[chain.issuer] * 4)
        assert made(chain.options()).verify(most).subject == "bob"
        token = chain.token(chain.leaf, *[chain.issuer] * 5)
        assert refusal(made(chain.options()), token) is Reason.CHAIN

    def test_a_key_that_is_too_short_signs_nothing(self, chain: Chain) -> None:
        signer = Signer("RS256", None)
        signer.key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - the point
        leaf = certificate("signer", signer.key, "root", chain.root_key)
        token = signer.token(PULL, header={"x5c": x5c(leaf)})
        assert refusal(made(chain.options()), token) in {Reason.KEY_ALGORITHM, Reason.CHAIN}


class TestWhatIsKept:
    def test_a_second_request_verifies_no_signature(
        self, verifier: Verifier, signer: Signer
    ) -> None:
        token = signer.token(PULL)
        assert verifier.verify(token) is verifier.verify(token)
        assert verifier.verified == 1

    def test_no_refused_token_is_kept(self, verifier: Verifier) -> None:
        token = Signer().token(PULL)
        for number in (1, 2):
            assert refusal(verifier, token) is Reason.SIGNATURE
            assert verifier.verified == number

    def test_a_kept_token_expires(self, signer: Signer) -> None:
        clock = Clock()
        verifier = made(options(JWKS=signer.jwks), clock)
        token = signer.token(PULL, exp=int(clock.now) + 10)
        assert verifier.verify(token).expires == int(clock.now) + 70
        clock.now += 71
        assert refusal(verifier, token) is Reason.EXPIRED

    def test_only_so_many_are_kept_and_the_latest_stay(self, signer: Signer) -> None:
        verifier = made(options(JWKS=signer.jwks), maximum=2)
        first, second, third = (signer.token(PULL, jti=str(number)) for number in range(3))
        for token in (first, second, first, third, first):
            verifier.verify(token)
        assert verifier.verified == 3
        verifier.verify(second)
        assert verifier.verified == 4

    def test_a_verified_chain_is_kept(self, chain: Chain) -> None:
        verifier = made(chain.options())
        tokens = [
            chain.signer.token(PULL, jti=str(each), header={"x5c": x5c(chain.leaf, chain.issuer)})
            for each in range(2)
        ]
        for token in tokens:
            verifier.verify(token)
        assert verifier.verified == 2

    def test_a_changed_file_of_keys_counts_for_kept_tokens_too(
        self, signer: Signer, tmp_path: Path
    ) -> None:
        clock, ticks = Clock(), Clock()
        path = tmp_path / "jwks.json"
        path.write_text(json.dumps(signer.jwks))
        verifier = made(options(JWKS=path), clock, ticks=ticks)
        token, new = signer.token(PULL), Signer(kid="second")
        assert verifier.verify(token).subject == "bob"
        path.write_text(json.dumps({"keys": [new.jwk, Signer("EdDSA", "third").jwk]}))
        ticks.now += 2
        assert refusal(verifier, token) is Reason.UNKNOWN_KEY
        assert verifier.verify(new.token(PULL)).subject == "bob"

    def test_a_path_that_no_file_can_have_grants_nothing(self, signer: Signer) -> None:
        verifier = made(options(JWKS="/a\0b"))
        with pytest.raises(KeysUnavailable):
            verifier.verify(signer.token(PULL))

    def test_a_file_that_cannot_be_read_refuses_nobody_and_grants_nothing(
        self, signer: Signer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ticks = Clock()
        path = tmp_path / "jwks.json"
        verifier = made(options(JWKS=path), ticks=ticks)
        token = signer.token(PULL)
        with pytest.raises(KeysUnavailable):
            verifier.verify(token)
        with pytest.raises(KeysUnavailable):
            verifier.verify(token)
        assert len(caplog.records) == 1  # It is read once a second at most.
        path.write_text(json.dumps(signer.jwks))
        ticks.now += 2
        assert verifier.verify(token).subject == "bob"
        path.write_text("{")
        ticks.now += 2
        with pytest.raises(KeysUnavailable):
            verifier.verify(token)


class TestAKnownHeader:
    """A header that a verified token had is not looked at again in the next tokens."""

    def test_the_rest_of_a_token_counts_as_before(self, verifier: Verifier, signer: Signer) -> None:
        good = signer.token(PULL)
        verifier.verify(good)
        head, _, signature = good.rpartition(".")
        other = signer.token(PULL, sub="root")
        assert refusal(verifier, f"{other.rpartition('.')[0]}.{signature}") is Reason.SIGNATURE
        assert refusal(verifier, f"{head}.AAAA") is Reason.SIGNATURE
        assert refusal(verifier, f"{head}.A") is Reason.MALFORMED
        assert refusal(verifier, f"{head}.") is Reason.MALFORMED
        assert refusal(verifier, signer.raw("{}")) is Reason.ISSUER
        assert refusal(verifier, signer.raw("[]")) is Reason.NO_JSON
        assert refusal(verifier, signer.raw('{"a": 1, "a": 1}')) is Reason.DUPLICATE
        assert refusal(verifier, signer.token(PULL, exp=1)) is Reason.EXPIRED
        assert verifier.verify(other).subject == "root"

    @pytest.mark.parametrize("replaced", [False, True])
    def test_it_is_forgotten_with_its_key(
        self, replaced: bool, signer: Signer, tmp_path: Path
    ) -> None:
        ticks, path = Clock(), tmp_path / "jwks.json"
        path.write_text(json.dumps(signer.jwks))
        verifier = made(options(JWKS=path), ticks=ticks)
        verifier.verify(signer.token(PULL))
        other = Signer("ES256" if replaced else "RS256", signer.kid if replaced else "second")
        path.write_text(json.dumps(other.jwks, indent=2))
        ticks.now += 2
        reason = Reason.SIGNATURE if replaced else Reason.UNKNOWN_KEY
        assert refusal(verifier, signer.token(PULL, sub="alice")) is reason

    def test_it_is_forgotten_with_its_certificate(self, chain: Chain) -> None:
        clock = Clock()
        own = certificate("own", chain.signer.key, "own", chain.signer.key, days=(-1, 0.001))
        leaf = certificate("signer", chain.signer.key, "root", chain.root_key, days=(-1, 0.001))
        chain.roots.write_bytes(pem(chain.root, own))
        verifier, public = made(chain.options(), clock), chain.signer.key.public_key()
        by_id: dict[str, Any] = {"kid": fingerprint(public)}
        by_chain: dict[str, Any] = {"x5c": x5c(leaf)}
        for header in (by_id, by_chain):
            assert verifier.verify(chain.signer.token(PULL, header=header)).subject == "bob"
        clock.now = own.not_valid_after_utc.timestamp() + 1
        later: dict[str, Any] = {"header": by_id, "exp": int(clock.now) + 300, "nbf": None}
        assert refusal(verifier, chain.signer.token(PULL, **later)) is Reason.KEY_TIME
        later["header"] = by_chain
        assert refusal(verifier, chain.signer.token(PULL, **later)) is Reason.CHAIN

    def test_no_header_of_a_refused_signature_is_kept(
        self, verifier: Verifier, signer: Signer
    ) -> None:
        for number in range(3):
            token = Signer().token(PULL, header={"n": number})
            assert refusal(verifier, token) is Reason.SIGNATURE
        assert headers(verifier) == 0
        verifier.verify(signer.token(PULL))
        assert headers(verifier) == 1

    def test_only_so_many_are_kept(self, verifier: Verifier, signer: Signer) -> None:
        for number in range(100):
            token = signer.token(PULL, header={"n": number})
            assert verifier.verify(token).subject == "bob"
            assert headers(verifier) <= 64


def headers(verifier: Verifier) -> int:
    """Return how many headers are kept."""
    assert verifier._trust is not None
    return len(verifier._trust.headers)


class TestASignatureOfACurve:
    """It is two numbers of a fixed length, one after the other (RFC 7518, 3.4)."""

    @pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
    def test_numbers_may_begin_with_zeros_or_high_bits(self, algorithm: str) -> None:
        signer = Signer(algorithm)
        verifier = made(options(JWKS=signer.jwks, ALGORITHMS=(algorithm,)))
        seen: set[tuple[bool, int]] = set()
        for number in range(3000):
            token = signer.token(PULL, jti=str(number))
            raw = decoded(token.rpartition(".")[2])
            half = len(raw) // 2
            # The first byte of a number of 521 bits is 0 or 1.
            place = 1 if algorithm == "ES512" else 0
            kinds = {
                (is_second, -1 if each == 0 else each >> 7)
                for is_second, each in ((False, raw[place]), (True, raw[half + place]))
            }
            if not kinds <= seen:
                seen |= kinds
                assert verifier.verify(token).subject == "bob"
            if len(seen) == 6:
                return
        pytest.fail("There was no such signature.")

    @pytest.mark.parametrize(
        "change",
        [
            lambda raw: b"\0" + raw,
            lambda raw: raw + b"\0",
            lambda raw: raw[:-1],
            lambda raw: raw[:32] + b"\0" + raw[32:] + b"\0",
            lambda raw: raw[:32] + bytes(32),
            lambda raw: bytes(32) + raw[32:],
            lambda _: bytes(64),
            lambda _: b"\xff" * 64,
            lambda raw: encode_dss_signature(
                *(int.from_bytes(each) for each in (raw[:32], raw[32:]))
            ),
        ],
    )
    def test_another_form_is_refused(self, verifier: Verifier, signer: Signer, change: Any) -> None:
        head, _, signature = signer.token(PULL).rpartition(".")
        changed = encoded(change(decoded(signature)))
        assert refusal(verifier, f"{head}.{changed}") is Reason.SIGNATURE


def decoded(part: str) -> bytes:
    """Return the bytes of text in base64url."""
    return urlsafe_b64decode(part + "==")


def test_nothing_of_a_token_is_in_a_message_or_a_log(
    verifier: Verifier, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for token in (signer.token(PULL, sub="alice"), Signer().token(PULL, sub="alice"), "a.b.alice"):
        try:
            shown = repr(verifier.verify(token))
        except TokenRefused as error:
            shown = repr(error)
        assert "alice" not in shown
        assert token.rpartition(".")[2] not in shown
    assert caplog.text == ""


@pytest.mark.parametrize("registry", ["default", "other"])
def test_each_registry_has_its_own_keys(registry: str, settings: Any) -> None:
    signers = {name: Signer() for name in ("default", "other")}
    settings.BLOBCACHE = {
        name: {"TOKENS": options(JWKS=signer.jwks, AUDIENCE=f"{name}.example.com")}
        for name, signer in signers.items()
    }
    settings.BLOBCACHE["none"] = {}
    assert get_verifier("none") is None
    verifier = get_verifier(registry)
    assert verifier is not None
    for name, signer in signers.items():
        token = signer.token(PULL, aud=f"{name}.example.com")
        if name == registry:
            grant = verifier.verify(token)
            assert isinstance(grant, Grant)
            assert grant.registry == registry
        else:
            assert refusal(verifier, token) is Reason.SIGNATURE
    assert RegistrySettings(registry).TOKENS is not None


def test_changed_settings_have_a_verifier_of_their_own(settings: Any) -> None:
    signers = Signer(), Signer()
    for signer, other in (signers, signers[::-1]):
        settings.BLOBCACHE = {"default": {"TOKENS": options(JWKS=signer.jwks)}}
        verifier = get_verifier("default")
        assert verifier is not None
        assert verifier is get_verifier("default")
        assert verifier.verify(signer.token(PULL)).subject == "bob"
        assert refusal(verifier, other.token(PULL)) is Reason.SIGNATURE


def test_settings_that_change_without_a_signal_count_too(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Signer(), Signer()
    settings.BLOBCACHE = {"default": {"TOKENS": options(JWKS=first.jwks)}}
    entry = settings.BLOBCACHE["default"]
    before = get_verifier("default")
    assert before is not None
    monkeypatch.setitem(entry, "TOKENS", options(JWKS=first.jwks))
    assert get_verifier("default") is before
    monkeypatch.setitem(entry, "TOKENS", options(JWKS=second.jwks))
    after = get_verifier("default")
    assert after is not None
    assert after is get_verifier("default")
    assert refusal(after, first.token(PULL)) is Reason.SIGNATURE
    assert after.verify(second.token(PULL)).subject == "bob"
    monkeypatch.setitem(entry, "TOKENS", None)
    assert get_verifier("default") is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_a_verifier_of_its_own(signer: Signer, settings: Any) -> None:
    """A thread of the parent may hold the lock of its verifier; nothing would release it there."""
    settings.BLOBCACHE = {"default": {"TOKENS": options(JWKS=signer.jwks)}}
    of_parent = get_verifier("default")
    child = os.fork()
    if not child:
        os._exit(0 if get_verifier("default") is not of_parent else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert get_verifier("default") is of_parent


def test_no_report_of_an_error_in_a_verifier_shows_its_token(
    verifier: Verifier, signer: Signer, monkeypatch: pytest.MonkeyPatch, rf: Any
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an error that nobody expects")

    monkeypatch.setattr(Scopes, "from_claim", fail)
    token = signer.token(PULL, sub=CALLER)
    with pytest.raises(RuntimeError) as caught:
        verifier.verify(token)
    trace = caught.value.__traceback__
    assert trace is not None
    reporter = ExceptionReporter(rf.get("/"), RuntimeError, caught.value, trace.tb_next)
    for text in (reporter.get_traceback_text(), reporter.get_traceback_html()):
        assert "an error that nobody expects" in text
        assert CALLER not in text
        assert not [part for part in token.split(".") if part in text]
