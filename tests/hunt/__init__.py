"""A hunt for wrong answers under faults: `python -m tests.hunt`, or `make hunt`.

Processes of many threads read, write and list on real servers while faults happen. What is written
says what it is, so that every answer can be judged; see `oracle`. It runs against one server,
Sentinels or a cluster, and ends with a table.

| module | holds |
|---|---|
| `oracle` | the values, and which answers are right |
| `grounds` | the servers of each mode |
| `faults` | what goes wrong, and how often it did |
| `worker` | a process of callers |
| `crew` | all those processes |
| `director` | the main process |
| `report` | the table |
"""
