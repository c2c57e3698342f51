"""The shapes and the codes of tensors: modes, tiles, stacks, packed triangles, few bits."""
