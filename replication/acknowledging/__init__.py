"""How sure a write is: on how many nodes it has to be durable before who made it is told that it is written."""
