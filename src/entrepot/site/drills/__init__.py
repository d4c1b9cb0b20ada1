"""Load drills of cloud points: the site's part.

A drill is a number of synthetic devices that download from one cloud point of this site, for as long and as much as an
administrator allowed beforehand. They run where the administrator is; the site plans, prices, permits and remembers.

Invariants:

- Tokens are for one content on one cloud point, name synthetic devices only, and end soon after the drill.
- A drill is noted, with who began it, before its first token is made; one at a time for each cloud point.
- Its transfers are real: they count towards transfer figures, thresholds, budgets and cost. They are no trend, so
  forecasts leave them out; nobody was spared anything, so savings know nothing of them.
- Where a budget bounds the cloud point, the whole drill has one allowance, granted as any download's.
"""
