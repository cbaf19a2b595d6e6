"""A lister for the `S3Storage` of django-storages, which needs the extra ``s3``.

**Requests.** A look at a blob's data is one HEAD, a look at a link one GET. Both are answered with
404 also if the bucket is missing. So an absence is confirmed by three lists of one key, which tell
a missing key from a missing bucket, a wrong prefix and missing permissions. A list of everything
takes one request for each 1,000 keys, and none for each file: it has sizes, and the MD5 hashes of
links unless KMS encrypts the bucket. `folders` takes a request for each folder.

**Why boto3, and not obstore** (0.12; one interface for S3, GCS and Azure). For a list of 10^5 keys
both made 100 requests. obstore took 7 to 9 us of CPU for each key, and 26 MB of memory; boto3 took
190 us and 66 MB, most of it for dates that nobody needs here. Without these (`_without_dates`) it
takes 33 us, and with all that this lister checks 50: less than S3 needs to answer. django-storages
brings boto3 anyway, and its client has the Storage's own credentials, endpoint, certificates,
proxies and retries. obstore, a beta of another 15 MB, has options of its own for each of these.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from copy import copy
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
)
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages

from blobcache.backends.layout import BLOBS, REPOSITORIES
from blobcache.backends.listers import Entry, Missing, NotAFile, Part, Unreadable, shown
from blobcache.services.truth import Doubt

if TYPE_CHECKING:
    from storages.backends.s3 import S3Storage

__all__ = ["S3Lister"]

CONNECT_TIMEOUT = 2
"""Seconds to wait for a connection, unless the Storage's `client_config` says something else."""

READ_TIMEOUT = 10
"""Seconds to wait for the next bytes of an answer, unless `client_config` says something else."""

ATTEMPTS = 3
"""Attempts of each request, the first included, unless `client_config` says something else."""

MAX_SECONDS = 60
"""Seconds that all attempts of one request may take before the system checks warn."""

_DEFAULT_TIMEOUT = 60
"""The time limits in a `Config` that was given none."""

_MAX_EMPTY_PAGES = 1000
"""Pages without any key, one after another, before a list is given up."""


class S3Lister:
    """Reads the keys below a prefix of a bucket. Several threads may use it at once.

    The bucket has to return keys in the order of their bytes, as all buckets of S3 do except
    directory buckets; `Unreadable` is raised otherwise.
    """

    concurrency: ClassVar[int] = 8
    """Requests to make at once: most of the time each of them waits for the network. The client
    keeps 10 connections, unless `client_config` says something else."""

    def __init__(self, storage: S3Storage, root: str) -> None:
        # A copy has a client of its own, whose configuration is nobody else's.
        options: Any = copy(storage)  # Its attributes are set at run time.
        options.client_config = _limited(options.client_config)
        self._storage = options
        self._bucket: str = options.bucket_name
        folders = [each for each in (options.location.strip("/"), root) if each]
        self.place = "/".join([f"s3://{self._bucket}", *folders])
        self._prefix = "".join(f"{each}/" for each in folders)
        self._clients: dict[int, Any] = {}

    @classmethod
    def check(cls, alias: str, where: str) -> Iterable[CheckMessage]:
        """Check an entry of STORAGES: its bucket and its time limits. Connects to nothing."""
        try:
            storage = storages[alias]
            longest = _longest(_limited(getattr(storage, "client_config", None)))
        except ImproperlyConfigured as error:
            yield Error(
                f"{where} names STORAGES[{alias!r}], which cannot be made: {error}",
                hint="See the documentation of django-storages on S3.",
                id="blobcache.E025",
            )
            return
        if not getattr(storage, "bucket_name", None):
            yield Error(
                f"{where} names STORAGES[{alias!r}], which has no bucket.",
                hint="Set 'bucket_name' in its OPTIONS.",
                id="blobcache.E026",
            )
        if longest > MAX_SECONDS:
            yield Caution(
                f"{where} names STORAGES[{alias!r}], whose requests may take "
                f"{f'{longest:.0f} seconds' if longest < float('inf') else 'forever'} to fail.",
                hint="Give the Config in 'client_config' shorter time limits or fewer retries, "
                "such as connect_timeout=2, read_timeout=5, retries={'total_max_attempts': 2}.",
                id="blobcache.W025",
            )

    def root(self) -> None:
        """Raise `Unreadable` unless there are keys of a repository and of a blob."""
        for name in (REPOSITORIES, BLOBS):
            prefix = f"{self._prefix}{name}/"
            # An object may stand for the folder itself, or for one below it: it does not count.
            if self._first_file(prefix) is None:
                raise Unreadable(
                    Doubt.NO_ROOT,
                    f"{self.place}/{name} is missing or empty: is this the bucket, and the prefix?",
                )

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of a small file, or its first `limit` bytes if it has more."""
        with self._failures(path), closing(self._get(path)["Body"]) as body:
            content = b""
            while len(content) < limit:
                more = body.read(limit - len(content))
                if not more:  # All was read: less than its length would have been an error.
                    break
                content += more
            return content

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        with self._failures(path):
            answer = self._client().head_object(Bucket=self._bucket, Key=self._prefix + path)
            if not _is_object(answer):
                raise self._strange(path)
            return int(answer["ContentLength"])

    def open(self, path: str, start: int, length: int | None) -> BinaryIO:
        """Return a part of a file, to close."""
        if length == 0:
            self.size(path)
            return io.BytesIO()
        wanted: dict[str, str] = {}
        if start or length is not None:
            end = "" if length is None else start + length - 1
            wanted["Range"] = f"bytes={start}-{end}"
        with self._failures(path):
            try:
                answer = self._get(path, **wanted)
            except ClientError as error:
                if _code(error) == "InvalidRange":  # The file ends before its beginning.
                    return io.BytesIO()
                raise
            body = cast("BinaryIO", answer["Body"])
            if not _has_range(answer, start, length):
                body.close()
                raise self._strange(path)
        return io.BufferedReader(Part(body, length, f"{self.place}/{path}"))

    def folders(self, path: str, after: str = "") -> Iterator[str]:
        """Iterate over the names of the folders in a folder, in the order of their keys."""
        prefix = f"{self._prefix}{path}/"
        # In the order of bytes nothing is between what follows a slash and a zero.
        start = f"{prefix}{after}0" if after else ""
        is_empty = True
        for page in self._pages(prefix, start, Delimiter="/"):
            for each in page.get("CommonPrefixes", ()):
                is_empty = False
                yield each["Prefix"][len(prefix) : -1]
        if is_empty:
            self.root()  # An empty list must not be that of a wrong bucket or prefix.
            if not after:
                raise Missing(path)

    def files(
        self, path: str, levels: int, name: str, after: str = "", *, limit: int | None = None
    ) -> Iterator[Entry]:
        """Iterate over the files that are so many folders below a folder, in a flat list."""
        prefix = f"{self._prefix}{path}/"
        is_empty = True
        for page in self._pages(prefix, f"{prefix}{after}" if after else ""):
            for each in page.get("Contents", ()):
                found = each["Key"][len(prefix) :]
                if found.count("/") == levels and found.endswith(f"/{name}"):
                    is_empty = False
                    yield Entry(found, each.get("Size"), _md5(each.get("ETag", "")))
        if is_empty:
            self.root()  # See `folders`.

    def _get(self, path: str, **wanted: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._client().get_object(
            Bucket=self._bucket, Key=self._prefix + path, **wanted
        )
        if not _is_object(answer):
            answer["Body"].close()
            raise self._strange(path)
        return answer

    def _strange(self, path: str) -> Unreadable:
        """Return the failure for an answer that S3 would not have made, but a proxy may have."""
        key = self._shown(self._prefix + path)
        return Unreadable(Doubt.FAILED, f"{key}: this is not an answer of S3")

    def _first(self, prefix: str, start: str = "") -> str | None:
        """Return the first key that begins with the prefix; None if there is none."""
        for page in self._pages(prefix, start, MaxKeys=1):
            for each in page.get("Contents", ()):
                return str(each["Key"])
        return None

    def _first_file(self, prefix: str) -> str | None:
        """Return the first key below the prefix that does not stand for a folder."""
        first = self._first(prefix, prefix)
        if first is None or not first.endswith("/"):
            return first
        for page in self._pages(prefix, first):
            for each in page.get("Contents", ()):
                if not str(each["Key"]).endswith("/"):
                    return str(each["Key"])
        return None

    def _pages(self, prefix: str, start: str = "", **wanted: object) -> Iterator[dict[str, Any]]:
        """Iterate over the pages of a list, from the key that follows `start`.

        Raises `Unreadable`, also for an answer that is not certainly a page of this list: one that
        something else than S3 has made must not look like an empty list.
        """
        last = start
        if start:
            wanted["StartAfter"] = start
        empty = 0
        while empty < _MAX_EMPTY_PAGES:
            try:
                page = self._client().list_objects_v2(Bucket=self._bucket, Prefix=prefix, **wanted)
                end = _end(page, prefix, last)
            except Exception as error:  # See `_failures`.
                raise self._unreadable(prefix, error) from error
            if end is None:
                break
            yield page
            if not page["IsTruncated"]:
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]
            empty = empty + 1 if end == last else 0
            last = end
        raise Unreadable(Doubt.FAILED, f"{self._shown(prefix)}: this is not a list of S3 in order")

    @contextmanager
    def _failures(self, path: str) -> Iterator[None]:
        """Turn every failure of a request for a file into one of a lister."""
        try:
            yield
        except Unreadable:
            raise
        except Exception as error:  # Those of boto3, urllib3, the parser, and of credentials.
            if _status(error) == HTTPStatus.NOT_FOUND:
                raise self._missing(path) from error
            raise self._unreadable(self._prefix + path, error) from error

    def _missing(self, path: str) -> Exception:
        """Return what it means that a request for a file was answered with 404.

        That is also the status if the bucket is missing, or if something else than S3 answered.
        """
        key = self._prefix + path
        found = self._first(key)
        if found == key:
            return Unreadable(Doubt.FAILED, f"{self._shown(key)}: it is listed, but 404")
        if found is not None and self._first(f"{key}/") is not None:
            return NotAFile(path)
        self.root()
        return Missing(path)

    def _unreadable(self, key: str, error: Exception) -> Unreadable:
        code = _code(error)
        why = f"{_status(error)} {code}" if code else type(error).__name__
        return Unreadable(_doubt(error), f"{self._shown(key)}: {why}")

    def _shown(self, key: str) -> str:
        return shown(f"s3://{self._bucket}/{key}")

    def _client(self) -> Any:
        """Return the client of this process, for all its threads.

        A process that was forked needs another one: answers would be mixed up on connections that
        it shares with its parent.
        """
        process = os.getpid()
        client = self._clients.get(process)
        if client is None:
            client = copy(self._storage).connection.meta.client
            client.meta.events.register("before-parse.s3.ListObjectsV2", _without_dates)
            client = self._clients.setdefault(process, client)
        return client


# Answers


_DATES = re.compile(rb"<(LastModified|StorageClass|ChecksumAlgorithm|ChecksumType)>[^<]*</\1>")


def _without_dates(response_dict: dict[str, Any], **_: object) -> None:
    """Remove from a page of a list what nobody needs, before it is parsed.

    In a list of 10^5 keys this saves 16 of 19 seconds of CPU, most of them for the dates.
    """
    response_dict["body"] = _DATES.sub(b"", response_dict["body"])


def _end(page: dict[str, Any], prefix: str, last: str) -> str | None:
    """Return the last key up to the end of a page; None unless it continues this list in order."""
    if page.get("Prefix") != prefix or type(page.get("IsTruncated")) is not bool:
        return None
    if page["IsTruncated"] and not page.get("NextContinuationToken"):
        return None
    end = last
    for part, name in (("Contents", "Key"), ("CommonPrefixes", "Prefix")):
        keys = [str(each[name]) for each in page.get(part, ())]
        if not keys:
            continue
        if keys != sorted(keys) or keys[0] <= last:
            return None
        if not (keys[0].startswith(prefix) and keys[-1].startswith(prefix)):
            return None
        end = max(end, keys[-1])
    return end


_MD5 = re.compile(r'"([0-9a-f]{32})"')


def _md5(tag: str) -> str | None:
    """Return the MD5 hash of an object of one part; if encrypted by KMS, the tag is another hash.

    So it can show that the content is what it should be, and never that it is not.
    """
    found = _MD5.fullmatch(tag)
    return found and found[1]


_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")


def _is_object(answer: dict[str, Any]) -> bool:
    """Whether an answer has what S3 always says of an object."""
    return "ETag" in answer and "ContentLength" in answer


def _has_range(answer: dict[str, Any], start: int, length: int | None) -> bool:
    """Whether an answer has the bytes that were wanted, or all of them if those are the first."""
    if "ContentRange" not in answer:
        return start == 0
    found = _RANGE.fullmatch(answer["ContentRange"])
    if not found:
        return False
    first, end, size = map(int, found.groups())
    wanted = size if length is None else min(start + length, size)
    return (first, end + 1) == (start, wanted) and bool(answer["ContentLength"] == wanted - start)


# Failures


_BY_CODE = {
    "NoSuchBucket": Doubt.NO_ROOT,
    "InvalidObjectState": Doubt.FAILED,  # 403: archived
    "SlowDown": Doubt.THROTTLED,
    "RequestTimeout": Doubt.TIMEOUT,
}

_BY_STATUS: dict[int, Doubt] = {
    HTTPStatus.UNAUTHORIZED: Doubt.DENIED,
    HTTPStatus.FORBIDDEN: Doubt.DENIED,
    HTTPStatus.REQUEST_TIMEOUT: Doubt.TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS: Doubt.THROTTLED,
    HTTPStatus.SERVICE_UNAVAILABLE: Doubt.THROTTLED,
    HTTPStatus.GATEWAY_TIMEOUT: Doubt.TIMEOUT,
}

_TIMEOUTS = (ConnectTimeoutError, ReadTimeoutError)
_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)

_CODE = re.compile(r"[0-9A-Za-z.]{1,64}")


def _doubt(error: Exception) -> Doubt:
    if isinstance(error, _TIMEOUTS):
        return Doubt.TIMEOUT
    if isinstance(error, _CREDENTIALS):
        return Doubt.DENIED
    return _BY_CODE.get(_code(error)) or _BY_STATUS.get(_status(error), Doubt.FAILED)


def _code(error: Exception) -> str:
    """Return the error code of an answer; an empty text if there is none, or if it is none."""
    code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _status(error: Exception) -> int:
    """Return the status of an answer; 0 if there is no answer."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


# Time limits


def _limited(config: Any) -> Any:
    """Return a configuration of the client with time limits where it has none of its own.

    Raises `ImproperlyConfigured`.
    """
    config = config or Config()
    if not isinstance(config, Config):
        raise ImproperlyConfigured(
            f"'client_config' is not a botocore.config.Config, but a {type(config).__name__}."
        )
    given: Any = config  # Its attributes are set at run time.
    limits: dict[str, Any] = {}
    if given.connect_timeout == _DEFAULT_TIMEOUT:
        limits["connect_timeout"] = CONNECT_TIMEOUT
    if given.read_timeout == _DEFAULT_TIMEOUT:
        limits["read_timeout"] = READ_TIMEOUT
    retries = given.retries or {}
    if not retries.keys() & {"max_attempts", "total_max_attempts"}:
        limits["retries"] = {"mode": "standard", **retries, "total_max_attempts": ATTEMPTS}
    return given.merge(Config(**limits))


def _longest(config: Any) -> float:
    """Return the seconds that all attempts of one request may take, without waits between them."""
    attempts = config.retries.get("total_max_attempts") or config.retries["max_attempts"] + 1
    limits = (config.connect_timeout, config.read_timeout)
    return sum(float("inf") if each is None else attempts * each for each in limits)
