"""What the machine does best: clocks, memory, threads, vectors of the processor, kernels of products."""
