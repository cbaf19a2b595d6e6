"""Ids of objects in the admin and in Django's history: a name or a digest, with its registry.

In the registry `default` the id is the name or the digest itself, in others it is
``<alias>::<name>`` or ``<alias>::<digest>``. Neither a name nor a digest has ``::`` in it.
"""

from __future__ import annotations

from blobcache.conf import DEFAULT_REGISTRY

__all__ = ["object_id", "parse_object_id"]

_SEPARATOR = "::"


def object_id(registry: str, key: str) -> str:
    """Return the id of the repository or blob with this name or digest."""
    return key if registry == DEFAULT_REGISTRY else f"{registry}{_SEPARATOR}{key}"


def parse_object_id(text: str) -> tuple[str, str]:
    """Return the alias of the registry, and the name or digest. Neither is checked.

    ``default::`` is not the beginning of an id, so that each object has one id alone.
    """
    alias, separator, key = text.partition(_SEPARATOR)
    if not separator or alias == DEFAULT_REGISTRY:
        return DEFAULT_REGISTRY, text
    return alias, key
