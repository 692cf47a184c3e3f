"""`litecast dev-proxy`: one door in front of several nodes, for development and for compose. Not for the open internet.

`pool` decides which node gets a request, `wishes` what the client would like and how far it is, `replaying` what
`fly-replay` asks for, `watch` finds the nodes and asks whether they are ready, `headers` says which
headers go through, `proxy` passes requests and responses on, `running` puts it together.
"""
