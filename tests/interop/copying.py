"""Push and pull as people do it: oras and skopeo, between an OCI image layout and a registry.

Both run with a home directory of their own, away from the credentials of whoever runs the tests.
As root, skopeo still remembers where it has seen which blob (`/var/lib/containers/cache`), and so
mounts a layer that it has pushed to one repository before instead of pushing it to the next.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.interop.processes import run
from tests.servers import installed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.oci import Image

__all__ = ["COPIERS", "Copier", "Oras", "Pushed", "Skopeo"]


@dataclass(frozen=True)
class Pushed:
    """An image and where in the registry it is."""

    repository: str
    tag: str
    image: Image


class Copier(Protocol):
    """Carries one tagged image between a layout directory and a registry (`host:port`)."""

    def push(self, layout: Path, tag: str, address: str, repository: str) -> None:
        """Push the image `tag` of `layout` as `repository:tag`."""

    def pull(self, address: str, repository: str, tag: str, layout: Path) -> None:
        """Pull `repository:tag` into a new or existing `layout` as `tag`."""


class Oras:
    """`oras cp`."""

    def __init__(self, home: Path) -> None:
        self._program = str(installed("oras"))
        self._env = _environment(home)

    def push(self, layout: Path, tag: str, address: str, repository: str) -> None:
        """See `Copier.push`."""
        target = f"{address}/{repository}:{tag}"
        self._copy("--from-oci-layout", f"{layout}:{tag}", "--to-plain-http", target)

    def pull(self, address: str, repository: str, tag: str, layout: Path) -> None:
        """See `Copier.pull`."""
        source = f"{address}/{repository}:{tag}"
        self._copy("--from-plain-http", source, "--to-oci-layout", f"{layout}:{tag}")

    def _copy(self, *arguments: str) -> None:
        run([self._program, "cp", "--no-tty", *arguments], self._env)


class Skopeo:
    """`skopeo copy`, refusing to change a digest on the way."""

    def __init__(self, home: Path) -> None:
        self._program = str(installed("skopeo"))
        self._env = _environment(home)

    def push(self, layout: Path, tag: str, address: str, repository: str) -> None:
        """See `Copier.push`."""
        target = f"docker://{address}/{repository}:{tag}"
        self._copy("--dest-tls-verify=false", f"oci:{layout}:{tag}", target)

    def pull(self, address: str, repository: str, tag: str, layout: Path) -> None:
        """See `Copier.pull`."""
        layout.parent.mkdir(parents=True, exist_ok=True)
        source = f"docker://{address}/{repository}:{tag}"
        self._copy("--src-tls-verify=false", source, f"oci:{layout}:{tag}")

    def _copy(self, *arguments: str) -> None:
        options = ["--insecure-policy", "copy", "--preserve-digests", "--quiet"]
        run([self._program, *options, *arguments], self._env)


COPIERS: dict[str, type[Oras | Skopeo]] = {"oras": Oras, "skopeo": Skopeo}
"""Both tools by name, to run one test with either."""


def _environment(home: Path) -> dict[str, str]:
    home.mkdir(parents=True, exist_ok=True)
    private = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "DOCKER_CONFIG": str(home)}
    return {**os.environ, **private}
