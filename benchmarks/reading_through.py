"""What a stat costs that the cache cannot answer, beside the same steps by themselves."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.measuring import Case, figures, interleaved
from benchmarks.results import Section, ratio
from blobcache.backends.storage import StorageBackend
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown
from blobcache.services import get_provider
from blobcache.services.cached import CachedBlobStatter
from blobcache.services.lookups import Limits, Lookups
from blobcache.services.truth import Present

__all__ = ["read_through"]

NOTE = (
    "The steps are a stat in Redis, the backend's look and, globally, the write. The rest of a "
    "miss is another thread, which lets the caller stop waiting."
)


class _Misses:
    """Rounds of stats of blobs that a repository has and the cache does not know."""

    def __init__(self, bench: Bench, backend: StorageBackend) -> None:
        self._bench, self._backend = bench, backend
        self._provider = get_provider()
        self._name = next(backend.repositories())
        calls = bench.scaled(500, 5)
        links = zip(range(calls), backend.members(self._name), strict=False)
        self._digests = [link.digest for _, link in links]

    def case(
        self, name: str, make: Callable[[str | None], Callable[[Digest], object]], *, scoped: bool
    ) -> Case:
        """Return the case for a function that returns what stats a blob."""
        repository = self._name if scoped else None

        def prepare() -> Callable[[], None]:
            self._bench.client.flushall()
            stat = make(repository)
            return lambda: self._all(stat)

        return Case(name, len(self._digests), prepare)

    def fresh(self, repository: str | None) -> Callable[[Digest], object]:
        """A statter whose process has asked nothing yet."""
        lookups = Lookups(self._backend, seconds=300, limits=Limits(patience=60))
        return CachedBlobStatter(self._provider, lookups, repository).stat

    def repeated(self, repository: str | None) -> Callable[[Digest], object]:
        """One that has answered all of these stats before."""
        stat = self.fresh(repository)
        self._all(stat)
        return stat

    def steps(self, repository: str | None) -> Callable[[Digest], object]:
        """The same without anything between."""
        scope = (
            self._provider if repository is None else self._provider.repository_scoped(repository)
        )

        def stat(digest: Digest) -> None:
            try:
                scope.stat(digest)
            except BlobUnknown:
                answer = self._backend.stat(digest, repository)
                if repository is None and isinstance(answer, Present):
                    self._provider.fill(digest, answer.descriptor, 3600)

        return stat

    def _all(self, stat: Callable[[Digest], object]) -> None:
        for digest in self._digests:
            stat(digest)


def read_through(bench: Bench, backend: StorageBackend) -> Section:
    """Measure hits and misses with read-through."""
    misses = _Misses(bench, backend)
    cases = [
        misses.case("miss, which is written", misses.fresh, scoped=False),
        misses.case("its steps", misses.steps, scoped=False),
        misses.case("miss in a repository", misses.fresh, scoped=True),
        misses.case("its steps there", misses.steps, scoped=True),
        misses.case("miss in a repository, remembered", misses.repeated, scoped=True),
        misses.case("hit", misses.repeated, scoped=False),
    ]
    found = figures(interleaved(cases, bench.scaled(11, 1)))
    bench.client.flushall()
    miss, its_steps, scoped_miss, its_steps_there, *_ = found.values()
    return Section(
        "truth: read-through",
        list(found.values()),
        [
            ratio("miss / its steps", miss, its_steps),
            ratio("miss in a repository / its steps", scoped_miss, its_steps_there),
        ],
        [NOTE],
    )
