"""Where a token travels: in cookies, or in a header of its own."""
