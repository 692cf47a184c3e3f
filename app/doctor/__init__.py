"""What is wrong or unwise with a database or a node: facts are gathered first, and then judged by pure functions."""
