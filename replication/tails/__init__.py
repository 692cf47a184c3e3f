"""What a former primary wrote and nobody else had: looked at, and written again or dropped, as somebody decides."""
