"""Files and the network: bounded reading of untrusted files, atomic writes, downloads, error messages."""
