"""The journal: every change of the cache, in the host's database.

| module | what it has |
|---|---|
| `recording` | `journaled`: collects the changes made in a block, and turns them into entries |
| `storing` | writes entries, so that no failure of the database reaches the caller |
| `reading` | `Journal`: filters, pages, and who may see what |
| `pruning` | deletes old entries |
| `metrics` | how many entries were written, and lost |

The model is `blobcache.models.JournalEntry`. The entrances do not use `journaled` themselves if
they have a user of the project: `blobcache.history.recorded` does that, and writes Django's own
history as well.
"""
