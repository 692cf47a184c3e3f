"""Mode primary: the node that holds the lease writes, the others forward their writes to it."""
