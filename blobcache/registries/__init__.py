"""Questions to several registries at once.

| module | has |
|---|---|
| `asking` | ask each registry in a thread of its own, so that none waits for another |
| `everywhere` | what the registries know of a digest, and who holds it |
| `compare` | what a repository has in one registry and not in another |

Nothing here checks permissions: callers name only registries and repositories that the user may
view.
"""
