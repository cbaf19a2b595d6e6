"""The command line: ``manage.py blobcache SUBCOMMAND``.

A module has one subcommand, or a few that belong together. It parses its arguments, asks a
provider, and hands rows and sentences to its `Session`. The session does what is the same
everywhere: the registry, output for people and programs, questions, progress, the audit log.

| module | what it has |
|---|---|
| `subcommand` | the base class `Subcommand`, and `Exit`: the exit codes |
| `session` | `Session`: what a subcommand gets |
| `reading` | digests, and pairs of a repository and a digest, from arguments or standard input |
| `writing` | tables, lines of JSON, and escaping what others wrote |
| `progress` | the line that shows how far long work is |
| `commands/blobcache` | the list of subcommands, and how a process ends |

To add a subcommand:

1. Write a subclass of `Subcommand` in a module here: `name`, `help`, `description`, `example`,
   `add_arguments` and `run`. `run` returns an `Exit`. It raises `BlobCacheError` or a
   `CommandError` if it fails: both end the process with `Exit.FAILED`.
2. Write rows by `Session.table`, and sentences by `Session.say`. Print nothing in another way: what
   others wrote must be escaped.
3. Make changes within `Session.changing`, and after `Session.confirm` if they cannot be undone.
4. Add the class to `SUBCOMMANDS` in `commands/blobcache.py`, and a section to
   ``docs/command-line.md``. The tests run the example and the commands of that page.
"""
