"""How commands get to Redis and replies come back.

Read `server` first: its docstring lists the methods, and the modules below it. Nothing here knows
what the commands are about.
"""
