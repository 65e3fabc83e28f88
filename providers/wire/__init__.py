"""Bytes to and from upstreams: connections, frames, faults, and who may be reached."""
