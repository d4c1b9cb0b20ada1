"""``entrepot cloud``: cloud distribution points.

- ``commands``: the whole group, in the order in which its help lists it;
- ``points``: creating and changing them, how they run; ``care``: what keeps one in order;
- ``ending``: stop and delete, with what ends with them; ``orphans``: what was left behind in a cloud;
- ``books``: what was used and what it costs; ``drill``: how much one can serve;
- ``output``: how cloud points and their usage are shown to people.
"""
