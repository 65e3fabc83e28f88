"""One file per wire format, both directions: the server half is what callers speak, the client half
is what upstreams speak."""
