"""What a registry tells about pushes, mounts and deletes, through its ``notifications`` endpoints.

Mount `blobcache.notifications.urls`, set ``NOTIFICATIONS_TOKEN``, and name the address in the
registry's configuration. `events` reads what arrives, `handling` decides what it means for the
cache, `views` is the address itself.
"""
