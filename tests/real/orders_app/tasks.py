"""What the worker does: a task that works, one that works the second time, one that never does."""

from __future__ import annotations

from celery import Celery  # type: ignore[import-not-found]

app = Celery("orders", broker="redis://redis:6379/0", backend="redis://redis:6379/0")


@app.task  # type: ignore[untyped-decorator]
def total(prices: list[int]) -> int:
    result = 0
    for price in prices:
        result += price
    return result


@app.task(bind=True, max_retries=1, default_retry_delay=0)  # type: ignore[untyped-decorator]
def charge(self, amount: int) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    if not self.request.retries:
        reason = ConnectionError("the bank is busy")
        raise self.retry(exc=reason)
    return f"charged {amount}"


@app.task  # type: ignore[untyped-decorator]
def deliver(address: str) -> None:
    raise ValueError(f"no such address: {address}")
