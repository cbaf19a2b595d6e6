"""A hunt for wrong answers under faults: `python -m tests.hunt`, or `make hunt`.

Processes of many threads read, write and list on real servers while faults happen. Every value that
is written contains its blob, its repository and its turn, so that every answer can be judged; see
`oracle`. A hunt runs against one server, Sentinels or a cluster, and ends with a table.

| module | content |
|---|---|
| `oracle` | the values that are written, and which answers are right |
| `grounds` | the servers of each mode |
| `faults` | the faults, and how often each happened |
| `worker` | one process of callers |
| `crew` | all those processes |
| `director` | the main process |
| `report` | the table |
"""
