"""What a hostile visitor, or a user with few permissions, tries, and what comes of it."""
