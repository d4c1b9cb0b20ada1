"""What cloud points cost, and what they will: forecasts, price sheets, quotes, budgets and savings.

Decisions are in ``rules`` (``forecast``, ``prices``, ``quote``, ``budgets``, ``savings``, ``plan``); figures are in
``database``; here the two meet, and the admin API of all this. The figures themselves are collected by ``site.cloud``.

Invariants:

- Money is ``Decimal``; no float ever holds an amount. What is estimated and not measured says so.
- A forecast, a price or a quote never changes what is served. Only a budget does, and only where an administrator set
  one (R23).
"""
