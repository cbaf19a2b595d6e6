"""What a hostile visitor, and a user with few permissions, can do and learn: nothing."""
