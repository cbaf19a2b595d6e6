"""The options of the backend over HTTP: each mistake has its check, and no secret shows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from blobcache.backends.registry import RegistryBackend
from blobcache.backends.registry_options import OPTIONS, RegistryOptions
from blobcache.backends.remote import Origin, Secret
from blobcache.checks import check_settings
from blobcache.conf import RegistrySettings
from tests.test_checks import GOOD

URL = "https://registry.example.com"
SECRET = "hunter2-hunter2"


def configured(**options: Any) -> Any:
    truth = {"BACKEND": "blobcache.backends.registry.RegistryBackend", "OPTIONS": options}
    return override_settings(BLOBCACHE={"default": {"TRUTH": truth}}, CACHES=GOOD)


def messages(**options: Any) -> list[tuple[str | None, str]]:
    with configured(**options):
        return [(each.id, f"{each.msg} {each.hint}") for each in check_settings()]


def test_an_address_alone_will_do() -> None:
    assert messages(url=URL) == []
    with configured(url=f"{URL}/prefix/"):
        backend = RegistryBackend.from_settings(RegistrySettings())
    assert repr(backend) == f"RegistryBackend('{URL}/prefix')"


def test_all_options_together() -> None:
    assert (
        messages(
            url="http://127.0.0.1:5000",
            username="bob",
            password=SECRET,
            token_hosts=["auth.example.com", "auth.example.com:8443"],
            ca=__file__,
            client_certificate=__file__,
            client_key=__file__,
            connect_timeout=1,
            read_timeout=2,
            timeout=3,
            retries=0,
        )
        == []
    )


WRONG: dict[str, list[object]] = {
    "url": [
        None,
        "",
        "registry.example.com",
        "ftp://registry.example.com",
        f"https://bob:{SECRET}@registry.example.com",
        f"https://registry.example.com/?token={SECRET}",
        "https://registry.example.com/#a",
        "https://registry.example.com/v2/",
        "https://registry.example.com/v2",
        "https://registry.example.com:99999",
        "https://registry.example.com:0",
        "https://registry.example.com/\n",
        "https://registry.example.com\\@evil.example.com",
        "https://",
        "https://" + "a" * 9000,
        1,
    ],
    "username": ["", "a:b", 1],
    "password": ["", 1],
    "token_hosts": ["auth.example.com", ["https://auth.example.com"], ["a/b"], [1], {}],
    "ca": ["", 1],
    "connect_timeout": [0, -1, 1.5, True, "5", 601],
    "read_timeout": [0],
    "timeout": [0],
    "retries": [-1, 11, True, None],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_named_and_not_shown(name: str, value: Any) -> None:
    ((found, text),) = messages(**{"url": URL, name: value})
    assert found == "blobcache.E031"
    assert f"['{name}']" in text
    assert SECRET not in text
    with configured(**{"url": URL, name: value}), pytest.raises(ImproperlyConfigured) as caught:
        RegistryBackend.from_settings(RegistrySettings())
    assert SECRET not in str(caught.value)


def test_the_address_is_required() -> None:
    ((found, text),) = messages()
    assert found == "blobcache.E031"
    assert "no option 'url'" in text


def test_an_unknown_option() -> None:
    ((found, text),) = messages(url=URL, pasword=SECRET)
    assert found == "blobcache.E030"
    assert "'pasword'" in text
    assert all(name in text for name in OPTIONS)
    assert SECRET not in text


@pytest.mark.parametrize("name", ["ca", "client_certificate"])
def test_a_file_that_is_missing(name: str, tmp_path: Path) -> None:
    missing = {"url": URL, name: str(tmp_path / "missing")}
    ((found, _),) = messages(**missing)
    assert found == "blobcache.E032"
    with configured(**missing):  # It may come later: then the backend will find it.
        RegistryBackend.from_settings(RegistrySettings())


@pytest.mark.parametrize(
    "options", [{"username": "bob"}, {"password": SECRET}, {"client_key": __file__}]
)
def test_an_option_without_the_other(options: Any) -> None:
    ((found, text),) = messages(url=URL, **options)
    assert found == "blobcache.E033"
    assert SECRET not in text


def test_a_password_without_tls() -> None:
    ((found, text),) = messages(url="http://registry.example.com", username="bob", password=SECRET)
    assert found == "blobcache.E034"
    assert SECRET not in text


def test_no_tls() -> None:
    ((found, _),) = messages(url="http://registry.example.com")
    assert found == "blobcache.W030"


@pytest.mark.parametrize(
    ("url", "keeps"),
    [
        ("https://registry.example.com", True),
        ("http://localhost:5000", True),
        ("http://127.0.0.2", True),
        ("http://[::1]:5000", True),
        ("http://registry.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example.com", False),
        ("http://2130706433", False),
        ("http://10.0.0.1", False),
    ],
)
def test_where_a_password_may_be_sent(url: str, *, keeps: bool) -> None:
    assert Origin.of(url).keeps_secrets is keeps


def test_secrets_have_no_representation() -> None:
    assert SECRET not in repr({"password": Secret(SECRET)})
    assert SECRET not in repr(RegistryOptions({"url": URL, "password": SECRET}))


def test_without_urllib3_the_check_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("blobcache.backends.registry", "blobcache.backends.registry_http"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "urllib3", None)
    ((found, text),) = messages(url=URL)
    assert found == "blobcache.E020"
    assert "django-blobcache[registry]" in text


def test_the_docs_list_the_options() -> None:
    docs = Path(__file__).parents[2] / "docs" / "truth.md"
    assert "".join(f"{each.row()}\n" for each in OPTIONS.values()) in docs.read_text()
