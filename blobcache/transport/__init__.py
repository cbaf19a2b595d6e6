"""Commands to Redis and their replies, over the clients and pools of django-redis."""
