"""How commands get to Redis and replies come back.

Read `server` first: its docstring lists the methods, and the modules below it. The modules
here do not know what the commands mean.
"""
