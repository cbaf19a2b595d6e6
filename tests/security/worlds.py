"""Two caches that differ only in hidden repositories, and users who may not view those."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, Permission, User
from redis import Redis
from redis.client import Pipeline

from blobcache.descriptor import Descriptor
from blobcache.models import Repository
from blobcache.services.base import BrowsableProvider

__all__ = [
    "BROKEN",
    "COMMON",
    "HIDDEN",
    "LOOSE",
    "MODES",
    "OWN",
    "ROLES",
    "SECRET",
    "SHARED",
    "UNKNOWN",
    "VISIBLE",
    "Mode",
    "NamespaceBackend",
    "Persona",
    "RememberingBackend",
    "account",
    "fill",
    "ranges",
]

SHARED, COMMON, OWN, SECRET, LOOSE, BROKEN, UNKNOWN = (
    "sha256:" + digit * 64 for digit in "abcdef9"
)
"""Held by visible and hidden repositories (two of them), by a visible one, by hidden ones only, by
none; one with a wrong size; one that nobody knows."""

SIZES = {SHARED: 1000, COMMON: 2000, OWN: 300, SECRET: 40, LOOSE: 5, BROKEN: 60}
MEDIA_TYPE = "application/octet-stream"

VISIBLE = {
    "shop/cart": [COMMON],
    "team/app": [SHARED, COMMON, OWN, BROKEN],
    "team/b": [SHARED],
    "team/junk": [SHARED, "junk"],
}

HIDDEN = {
    # Before, between and after the visible ones in sorted order, and as close to them as possible.
    "aaa/first": [SHARED],
    "h" * 200: [SHARED, COMMON],
    "secret/vault": [SHARED, SECRET, BROKEN, LOOSE.replace("e", "7")],
    "secret/junk": [SHARED, "hidden junk"],
    "shop": [SHARED, COMMON],
    "shop/car": [SHARED],
    "shop/cart/sub": [SHARED, "more hidden junk"],
    "shop/cart2": [COMMON],
    "teal": [SECRET],
    "team.x/y": [SHARED],
    "team0": [COMMON, SECRET],
    "teams/a": [SHARED, BROKEN],
    "zzz/last": [SHARED, COMMON],
    # More than one step of a purge cleared in earlier versions.
    **{f"mass/{number:03}": [SHARED, COMMON] for number in range(130)},
}

Mode: TypeAlias = Literal["ranges", "objects", "both"]
MODES: tuple[Mode, ...] = ("ranges", "objects", "both")
"""What hides the hidden ones: the setting, permissions by object, or either."""


class Persona(NamedTuple):
    """A user who may not view hidden repositories."""

    role: str
    mode: Mode

    @property
    def name(self) -> str:
        return f"{self.role}-{self.mode}"


ROLES = {
    "stranger": "",
    "setter": "view_repository change_repository view_blob change_blob",
    "clearer": "view_repository delete_repository view_blob",
    "purger": "view_repository delete_repository view_blob delete_blob",
    "sweeper": "delete_repository view_blob delete_blob",
}
"""What each role may do with blobs, and with the repositories that it may view at all."""

_EVERYWHERE = {"purger": {"delete_repository"}, "sweeper": {"delete_repository"}}
"""What a purge needs of the model's own permissions, even where objects are granted."""


def is_visible(name: str) -> bool:
    """Whether the name is in the ranges of the setting."""
    return name.startswith("team/") or name == "shop/cart"


def ranges(user: AbstractBaseUser | AnonymousUser) -> list[str]:
    """The value of VISIBLE_REPOSITORIES."""
    return ["team/", "shop/cart"]


class RememberingBackend(ModelBackend):
    """Reads a user and their permissions once for all requests: no request changes them."""

    _users: ClassVar[dict[int, User | None]] = {}

    @classmethod
    def forget(cls) -> None:
        """Forget all users, before another test gives their numbers to others."""
        cls._users.clear()

    def get_user(self, user_id: int) -> User | None:
        if user_id not in self._users:
            self._users[user_id] = super().get_user(user_id)
        return self._users[user_id]


class NamespaceBackend(BaseBackend):
    """Grants by object what the role may do, in the visible repositories."""

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Any = None
    ) -> bool:
        role, _, mode = user_obj.get_username().partition("-")
        return (
            isinstance(obj, Repository)
            and mode in ("objects", "both")
            and perm.removeprefix("blobcache.") in ROLES[role].split()
            and is_visible(obj.name)
        )


def account(persona: Persona) -> User:
    """The persona's user, who may enter the admin."""
    wanted = set(ROLES[persona.role].split())
    if persona.mode != "ranges":
        by_object = {each for each in wanted if each.endswith("_repository")}
        wanted = (wanted - by_object) | _EVERYWHERE.get(persona.role, set())
    user = User.objects.create(username=persona.name, is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="blobcache", codename__in=wanted)
    )
    return user


def fill(client: Redis, provider: BrowsableProvider, *, has_hidden: bool) -> None:
    """Put one of the worlds into an empty Redis: all that is visible, and what is hidden too."""
    with client.pipeline(transaction=False) as pipe:
        pipe.flushall()
        for name, members in (VISIBLE | (HIDDEN if has_hidden else {})).items():
            for member in members:
                _add(pipe, name, member)
        if has_hidden:
            # A key of another type, names that none can have, and so many overrides of no member
            # that a walk through all keys takes more steps.
            for number in range(2500):
                key = f"repository::secret/vault::blobs::sha256:{number:064x}"
                pipe.hset(key, "mediatype", "hidden/type")
            pipe.set("repository::secret/wrong::blobs", "text")
            pipe.sadd("repository::NO NAME::blobs", SHARED)
            pipe.sadd(b"repository::te\xff::blobs", SHARED)
        for digest, size in SIZES.items():
            length = 7 if digest == BROKEN else size
            facts = {"digest": digest, "size": size, "length": length, "mediatype": MEDIA_TYPE}
            pipe.hset(f"blobs::{digest}", mapping=facts)  # type: ignore[arg-type]
        pipe.execute()
    provider.catalog.reindex()
    cursor: str | None = ""
    while cursor is not None:
        cursor = provider.figures.refresh(cursor).next


def descriptor(digest: str) -> Descriptor:
    """What a user sets."""
    return Descriptor(digest, SIZES.get(digest, 8), MEDIA_TYPE)


def _add(pipe: Pipeline, name: str, member: str) -> None:
    pipe.sadd(f"repository::{name}::blobs", member)
    if member.startswith("sha256:"):
        pipe.hset(f"repository::{name}::blobs::{member}", "mediatype", MEDIA_TYPE)
