"""Between a process and PostgreSQL: what happens to a question, or to its answer, at a certain place."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Relay:
    """An address of the same database. After the message with these bytes the process sends no more: it was stopped.

    lose: in place of that, the answer to the first such message is lost with the connection; others are as usual.
    """

    url: str
    after: bytes
    lose: bool = False
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: str) -> None:
        """Somebody connected."""
        self._tasks.append(asyncio.create_task(self._serve(reader, writer, server)))

    async def over(self) -> None:
        """Until all have hung up; who does not, in a test that failed, is left."""
        self.ended.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=5)
            for task in late:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: str) -> None:
        """Pass both ways on."""
        answers, questions = await asyncio.open_unix_connection(server)
        losing = asyncio.Event()
        back = asyncio.create_task(_pass_on(answers, writer, losing))
        while said := await _next(reader):
            is_it = self.after in said and not self.stopped.is_set()
            if is_it and self.lose:
                losing.set()
            if is_it or self.lose or not self.stopped.is_set():
                questions.write(said)
            if is_it:
                self.stopped.set()
                self._tasks.append(asyncio.create_task(self._end(questions)))
        questions.close()
        await back

    async def _end(self, questions: asyncio.StreamWriter) -> None:
        await self.ended.wait()
        questions.close()


async def _next(reader: asyncio.StreamReader) -> bytes:
    """What comes next, nothing if nobody is there any more, however they went."""
    with suppress(ConnectionError):
        return await reader.read(65536)
    return b""


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event) -> None:
    while said := await _next(reader):
        if losing.is_set():
            break
        writer.write(said)
    writer.close()


@asynccontextmanager
async def relayed(url: str, after: bytes, lose: bool = False) -> AsyncIterator[Relay]:
    """One until the end of the context."""
    address, _, server = url.partition("?host=")
    with tempfile.TemporaryDirectory() as directory:
        made = Relay(f"{address}?host={directory}", after, lose)
        path = Path(directory) / ".s.PGSQL.5432"
        listening = await asyncio.start_unix_server(
            lambda reader, writer: made.begin(reader, writer, f"{server}/{path.name}"), path
        )
        try:
            yield made
        finally:
            listening.close()
            await made.over()
