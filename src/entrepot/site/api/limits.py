"""Bounds of query parameters."""

from typing import Annotated

from litestar.params import QueryParameter

Limit = Annotated[int, QueryParameter(ge=1, le=10_000, description="At most so many.")]
