"""The primary site server: what administrators and devices ask, and the work that follows from it.

One process, wired in ``server`` and run by ``serve``:

- the admin API (``api``) over the use cases ``contents``, ``enrolment``, ``auth`` and the repositories;
- the management point (``managementpoint``, ``locating``, ``snapshot``): trust document, enrolment, policy, locations;
- durable tasks (``tasks``): publishing (``publishing``), deltas (``deltas``), deletions, and those of cloud points;
- the distribution engine (``distribution``, ``sending``), which brings content to points on premises and in the cloud
  alike, through ``holders``;
- single versions (``versions``, ``comparison``); the library (``library``, ``libraryjobs``, ``libraryrepair``,
  ``librarysalvage``) and what points have of it (``pointvalidation``): figures, validation, repair, sweep;
- keys, secrets and their changes (``keys``);
- ``controls`` (control documents for points on premises), ``upkeep``, and everything in ``cloud``.

Invariants:

- Work that was accepted is done: it is a row before the answer is sent, and whatever is killed is taken up again.
- The site opens every connection to points and clouds (R7).
- An answer that opens a content goes to entitled devices only, and tokens name only what the answer is about.
- The hierarchy root is never opened here, except at set-up (``setup``).

What it is not: a holder of objects for clients. Its library (``content``, ``objects``) is the source that points are
filled from.
"""
