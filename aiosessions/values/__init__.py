"""What a session holds: its type, its bytes, when two are equal, and how two writes merge."""
