"""Registry tokens: JWTs that a registry's token server signs, as credentials for the API.

distribution, "Token Authentication Specification" and "Token Scope Documentation". A token names
its caller and what that may do in which repository. It is verified without a database and without
the network. `blobcache.api.tokens` has the authentication class for REST framework.

| module | what it has |
|---|---|
| `options` | the setting ``TOKENS`` of a registry |
| `keys` | the keys that sign tokens: a JWKS, certificates, and their ids |
| `chains` | certificates in a token (``x5c``), up to a configured root |
| `parsing` | a token's text and JSON, strictly |
| `signatures` | checks of signatures |
| `scopes` | what a token allows |
| `verifier` | all of it: from the text of a token to a `Grant`, which is kept until it expires |
| `callers` | a token's caller: the user object, and what it may do |
| `checks` | the system checks of ``TOKENS`` |

`keys`, `chains`, `signatures` and `verifier` need the extra ``tokens``; the other modules do not.
"""
