"""Where clients reach the registry."""

from __future__ import annotations

import pytest
from django.test import override_settings

from blobcache.checks import check_settings
from blobcache.conf import RegistrySettings
from blobcache.registry_url import RegistryUrl

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "base", "host"),
    [
        ("https://registry.example.org", "https://registry.example.org", "registry.example.org"),
        ("https://registry.example.org/", "https://registry.example.org", "registry.example.org"),
        ("http://localhost:5000", "http://localhost:5000", "localhost:5000"),
        ("http://[::1]:5000", "http://[::1]:5000", "[::1]:5000"),
    ],
)
def test_an_address_gives_commands_and_links(text: str, base: str, host: str) -> None:
    url = RegistryUrl.parse(text)
    assert url.pull_command("team/app", DIGEST) == f"docker pull {host}/team/app@{DIGEST}"
    assert url.manifest("team/app", DIGEST) == f"{base}/v2/team/app/manifests/{DIGEST}"


WRONG = [
    "registry.example.org",
    "ftp://registry.example.org",
    "https://",
    "https://user:secret@registry.example.org",
    "https://registry.example.org/v2/",
    "https://registry.example.org?x=y",
    "https://registry.example.org#x",
    "https://a b",
    "https://a;reboot",
    "https://a$(reboot)",
    "https://a:port",
    "https://a:99999",
    "javascript:alert(1)",
    "https://a\nb",
    "https://[::1",
    "https://-a",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_address_of_a_registry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(it|a registry) "):
        RegistryUrl.parse(text)
    with override_settings(BLOBCACHE={"default": {"REGISTRY_URL": text}}):
        (message,) = [each for each in check_settings() if each.id == "blobcache.E100"]
        assert "REGISTRY_URL of 'default' cannot be used" in message.msg
        assert RegistryUrl.of(RegistrySettings()) is None


def test_without_an_address_there_is_nothing_to_pull() -> None:
    assert RegistryUrl.of(RegistrySettings()) is None
