"""Backends: what a registry really stores, read from its storage or asked over HTTP.

`services.base.Backend` is their protocol, `services.truth` what they answer. Only this package
knows the paths of a registry's storage and the addresses of its API. Nothing in it writes.
"""
