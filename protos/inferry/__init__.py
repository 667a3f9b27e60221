"""Our own messages, by version of the contract."""
