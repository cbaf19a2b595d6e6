"""The same commands and replies on asyncio: one connection for all callers of an event loop.

Read `server` first: its methods are those of `blobcache.transport.server.Server` that the
descriptor service needs. Below it, `multiplexer` has a connection to one server, which callers of
one event loop share, and opens it again when it was closed; `link` is that connection's socket, and
hands out the replies in the order of the requests; `cluster` sends each command to the node of its
slot; `reader` parses replies; `threads` runs what blocks.
"""
