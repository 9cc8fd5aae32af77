"""IR in, a function to call out: machine code, its cache on disk, and threads. It knows nothing of convolution."""
