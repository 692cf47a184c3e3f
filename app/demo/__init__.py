"""`litecast demo`: real nodes on loopback, real requests, six acts in three modes, and what became of the counts.

plan              all that the seed decides: nodes, pages, who is asked in which order      pure
results           what a run of an act gave, and what may be concluded from its numbers      pure
story             the sentences that follow: `story_naive`, `story_convergent`, `wording`    pure
config_files      the configuration of the nodes, ports and secret
processes, child  one node process, which cannot outlive the demo
cluster           the nodes of one mode together: start, kill, bring back, ask, stop
clusters          a cluster for each mode
traffic           views over HTTP, and how each of them ended
counts, settling  what each node's SQLite file says, over time; since when that is right
measures          what the nodes' own counters gained                                        pure
acts              the acts, as one cluster plays them
disaster          `--disaster`: all nodes and disks are lost; `lost` has what its numbers say      pure
terminal, report  what a person sees, run beside run; the report draws with `chart`
run, ending       the whole, and its end, whatever happens
"""
