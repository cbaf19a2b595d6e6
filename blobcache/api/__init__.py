"""The REST API: ``path("api/", include("blobcache.api.urls"))``.

It needs ``rest_framework`` in ``INSTALLED_APPS``, and uses the authentication, the throttles and
the schema class that the host project configured there. Everything else it brings along.
"""
