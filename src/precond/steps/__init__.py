"""Step rules and ways to decay weights, one file each."""
