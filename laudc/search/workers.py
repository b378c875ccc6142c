"""Spreads independent tasks over the cores of this machine, or over machines with Dask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, TypeVar

from laudc.devices import detect_host
from laudc.errors import UserError

Result = TypeVar("Result")

_GREETING_S = 10  # for a scheduler to answer


def run_all(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Result]:
    """`function(*task)` for every task, in their order.

    Args:
        workers: processes of this machine, at least 1; None: one per usable core; 1: none, everything here.
        scheduler: address of a Dask scheduler whose workers have laudc installed.
        progress: called with the finished share.

    Raises:
        UserError: `workers` is less than 1, Dask is not installed, or its scheduler cannot be reached.
    """
    if workers is not None and workers < 1:
        raise UserError(f"{workers} processes cannot predict anything", "it takes at least one", "use --workers 1")
    if scheduler is not None:
        return _on_dask(function, tasks, scheduler, progress)
    count = workers or detect_host().usable_threads
    if count <= 1 or len(tasks) < 8:
        return [_counted(function(*task), index, len(tasks), progress) for index, task in enumerate(tasks)]
    results: dict[int, Result] = {}
    with ProcessPoolExecutor(min(count, len(tasks)), mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(function, *task): index for index, task in enumerate(tasks)}
        for done in as_completed(waiting):
            results[waiting[done]] = done.result()
            progress(len(results) / len(tasks))
    return [results[index] for index in range(len(tasks))]


def _counted(result: Result, index: int, total: int, progress: Callable[[float], None]) -> Result:
    progress((index + 1) / total)
    return result


def _on_dask(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    scheduler: str,
    progress: Callable[[float], None],
) -> list[Result]:
    with _dask_client(scheduler) as client:
        futures = [client.submit(function, *task, pure=False) for task in tasks]
        return [_counted(future.result(), index, len(tasks), progress) for index, future in enumerate(futures)]


@contextlib.contextmanager
def _dask_client(scheduler: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(
            "the search cannot be spread over machines",
            "Dask is not installed",
            "install it: pip install 'laudc[dask]'",
        ) from error
    try:
        asyncio.run(asyncio.wait_for(_greeted(scheduler), _GREETING_S))
        client = Client(scheduler, timeout=_GREETING_S)
    except (OSError, TimeoutError, asyncio.TimeoutError, ValueError) as error:
        raise UserError(
            f"there is no Dask scheduler at '{scheduler}'",
            str(error) or f"nothing that it understands was answered within {_GREETING_S} s",
            "start one with 'dask scheduler', or leave --scheduler out",
        ) from error
    try:
        yield client
    finally:
        client.close()


async def _greeted(scheduler: str) -> None:
    """Opens a connection, until both sides have introduced themselves. A client alone waits for that without an end."""
    from distributed.comm import connect
    from distributed.security import Security

    comm = await connect(scheduler, timeout=_GREETING_S, **Security().get_connection_args("client"))
    await comm.close()
