"""The stores: one keeps the state in a storer, the other with the client."""
