"""The admin API (``protocol.siteapi``): thin routes over the site's use cases, one module per group.

Every route wants a session, except the login. Models are decoded strictly, errors become problem details in one place,
and the documentation page is served from this package: nothing is fetched from elsewhere.
"""
