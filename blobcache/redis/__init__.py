"""Descriptors in Redis, under the keys of CNCF distribution's cache.

To understand the service alone, read in this order; none of these files opens a connection:

1. `keys`: every key and field, and how a key is parsed.
2. `commands`: what is sent to Redis for a stat, a set and a clear; `clears`: its scripts.
3. `replies`: what the replies mean.
4. `service`: the descriptor service and the provider, which put these together; `aio` has their
   calls for coroutines, which share all this.

`blobcache.transport` sends the commands; `wrong_types` and `cluster` have rare cases of a write,
`fills` has the write of read-through, and `additions` that of a warm, whose notes `work` keeps.
Lists need `index` and `index_build`, the index of repository names, and `listings`, the catalog.
Checks and repairs need `records`, `walk` and `removals`. `options`, `checks` and `status` are about
the configuration and the server.

What the calls do. A membership is a digest in a repository's set; an override is the repository's
own media type of a blob.

==============  ====================================  ==============================================
call            global scope                          repository scope
==============  ====================================  ==============================================
stat            The hash. Unknown without ``digest``  Unknown unless the digest is a member. Then
                or a size; a missing media type is    the global descriptor; unknown if the override
                allowed.                              is missing. A non-empty override replaces the
                                                      media type.
set_descriptor  Writes ``digest`` and the size;       Writes the membership, the global hash as in
                ``mediatype`` only if it is not set.  the global scope, and the override. For an
                                                      alias, the same for the canonical digest.
clear           Deletes the fields. Unknown if there  Unknown unless the digest is a member, or an
                are none.                             override is left of an interrupted clear.
                                                      Deletes the membership, in the role ``cache``
                                                      the global fields, and the override.
add_many        Writes the hash if it is missing.     Writes what is missing: the hash, the
                Changes nothing that is there.        override, the membership.
fill            Writes the hash with an expiry, only  There is none.
                if a stat cannot read one.
stat_many       The known ones, by digest: one round  The same.
                trip for each chunk.
==============  ====================================  ==============================================

Other programs write these keys too, and Redis may evict any of them. So every combination of keys
that are present, missing or of the wrong type has a defined result. Data that does not parse raises
`DescriptorCorrupt`, which is a `BlobUnknown`; the next `set_descriptor` repairs it.
"""
