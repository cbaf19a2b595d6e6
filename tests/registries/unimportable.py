"""A module that looks for something that is not there when it is imported."""

raise KeyError("hunter2")
