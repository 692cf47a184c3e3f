"""Pages and notes."""
