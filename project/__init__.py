"""The demo: a small registry portal that hosts blobcache. Not part of the distribution."""
