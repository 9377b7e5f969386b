"""Files and the network: limits of what a file may ask, whole writes, downloads, errors in a sentence."""
