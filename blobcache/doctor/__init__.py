"""The doctor: finds what is wrong with a registry's cache, tells what it means, and repairs it."""
