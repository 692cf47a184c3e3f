"""`litecast demo`: real nodes on loopback, real requests, five acts, and what became of the counts.

plan              all that the seed decides: nodes, pages, who is asked in which order    pure
story             what an act gave, and the sentences that follow from its numbers         pure
config_files      the configuration of the nodes, ports and secret
processes, child  one node process, which cannot outlive the demo
cluster           the nodes together: start, kill, bring back, ask, stop
traffic           views over HTTP, and how each of them ended
counts            what each node's SQLite file says, also over time
acts              the five acts
terminal, report  what a person sees; the report draws with `chart`
run               the whole, and its end, whatever happens
"""
