"""The site's adapter to Azure, by Microsoft's own SDKs (extra ``azure``): Container Apps in front of Blob storage.

A cloud point is: a resource group (unless one is given), a storage account with one container, a Container Apps
environment with the service certificate, and one container app: the gateways. Everything carries the marks of
``names``: they tell whose it is, so nothing of others is changed or deleted, and what a crash left is found again.

Rules:

- Every step looks at what is there before it makes anything: a creation may be killed anywhere and is run again.
- The site goes straight to Blob storage with its own identity, the gateways with the app's managed identity: there is
  no account key (the account refuses keys).
- Nothing here is imported, and no SDK loaded, before a cloud point of kind ``azure`` is used.
- SDK calls are synchronous and run in worker threads; no vendor's error leaves this room (``errors``).

What it is not: a proof against Azure itself. ``docs/azure.md`` says what was tested against what.
"""
