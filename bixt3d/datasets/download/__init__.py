"""Download of public data sets: mirrors, checksums, unpacking."""
