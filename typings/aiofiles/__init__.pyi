"""What we use of aiofiles, which ships no types."""
