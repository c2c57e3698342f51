"""The torch optimizer driver and the drop-in classes."""
