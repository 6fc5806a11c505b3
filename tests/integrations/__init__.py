"""Each integration against the real library and a real broker."""
