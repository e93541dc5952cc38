"""An endpoint on Ray Serve over the shards of a catalog: HTTP in, JSON out.

    pip install 'itemdex[serve]'
    CATALOG=/shared/catalog serve run endpoint:app
    curl localhost:8000/search -d '{"users": [0.1, ...], "k": 100, "filter": "price < 10", "partial": true}'
    curl localhost:8000/rank -d '{"user": [0.1, ...], "candidates": [7, 8], "k": 10}'

The fields of a request are the arguments of ``Serving.search`` and ``Serving.rank``. What is wrong with a
request is status 400; 503 is for shards that do not answer and for more requests than may wait: the caller
tries later, or elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ray import serve
from starlette.responses import JSONResponse

from itemdex.ray import Answered, Busy, Serving, ShardsMissing

if TYPE_CHECKING:
    from starlette.requests import Request

THREADS = 16


@serve.deployment(max_ongoing_requests=THREADS, max_queued_requests=1_000)
class Endpoint:
    """Starts the processes of the shards, and takes up what is published every so many seconds."""

    def __init__(self, catalog: str, every: float = 10.0, **options: Any) -> None:
        self.serving = Serving(catalog, **options)
        self.threads = ThreadPoolExecutor(THREADS)  # A request waits for its shards on one of these.
        threading.Thread(target=self.follow, args=(every,), daemon=True).start()

    def follow(self, every: float) -> None:
        while not threading.Event().wait(every):
            try:
                self.serving.refresh()
            except Exception:
                logging.getLogger("ray.serve").exception("the generation before goes on")

    async def __call__(self, request: Request) -> JSONResponse:
        try:
            asked = await request.json()
            calls = {"/search": self.serving.search, "/rank": self.serving.rank}
            call = calls.get(request.url.path)
            if call is None:
                return JSONResponse({"error": f"ask {' or '.join(calls)}"}, 404)
            answered = await asyncio.get_running_loop().run_in_executor(self.threads, lambda: call(**asked))
            return JSONResponse(described(answered))
        except (ValueError, TypeError) as error:
            return JSONResponse({"error": str(error)}, 400)
        except (Busy, ShardsMissing) as error:
            return JSONResponse({"error": str(error)}, 503)


def described(answered: Answered) -> dict[str, Any]:
    answer = answered.answer
    return {
        "ids": answer.ids.tolist(),
        "scores": answer.scores.tolist(),
        "generation": answered.generation,
        "missing": answered.missing,
    }


def app(_: dict[str, str] | None = None) -> serve.Application:
    return Endpoint.bind(os.environ["CATALOG"])
