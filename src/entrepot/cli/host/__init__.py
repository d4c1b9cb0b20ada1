"""``entrepot host``: the cloud host on this machine.

- ``commands``: the whole group, in the order in which its help lists it: set up, show, serve;
- ``subscription``, ``certificate``, ``identity``: groups below it, for who may use the host and how sites know it;
- ``home``: where a host keeps everything, and what commands do there; ``owner``: what root orders is done as the
  account that runs the host (POSIX only).
"""
