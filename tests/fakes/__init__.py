"""Upstreams of our own: real servers on loopback ports, strict about what they are sent."""
