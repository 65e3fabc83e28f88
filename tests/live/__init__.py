"""Tests against the real gunicorn, from outside."""
