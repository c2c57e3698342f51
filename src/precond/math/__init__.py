"""Pure batched functions on tensors; the leading axis is the batch."""
