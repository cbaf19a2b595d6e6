"""Warming: fill the cache from what the registry really stores.

A membership in the cache lets a repository read a blob, so one is written only where the storage
has the link of that repository and the data that it leads to. A registry deletes a blob from its
cache first and from its storage second: a link that is read just in between is about to go. So
whatever was written is looked at a second time, some seconds later, and taken back if it is gone.

1. `reading`: read the links and look at the data; `readers`: the threads that do it.
2. `warm` compares with the cache and writes what is missing. It changes nothing that is there.
3. `journal`: what was written and waits for its second look, and how far everything is. It is kept
   in Redis, so that a warm which was killed goes on, and makes up for its second looks.
4. `taking_back`: the second look, and the guarded removal of what is gone.
5. `report`: what became of each link.
"""
