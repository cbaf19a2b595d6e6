"""What a hostile visitor, user or writer can try, and what protects against it."""
