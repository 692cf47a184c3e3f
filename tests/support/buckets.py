"""A bucket in memory, whose answers fail as those of a real one do."""

import time
from collections.abc import Callable, Sequence

from replication.backup.bucket import Lying
from replication.backup.errors import BackupDamaged, BackupUnreachable


class FakeBucket:
    """`fails` is asked before each request what becomes of it: "" for nothing, "before" or "after" it was done."""

    def __init__(self, fails: Callable[[str, str], str] = lambda what, name: "") -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.fails = fails
        self.written_ms: dict[str, int] = {}
        self.now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        """The store's own clock."""

    async def create(self, name: str, content: bytes) -> bool:
        how = self._begin("create", name)
        is_new = name not in self.objects
        if is_new:
            self.objects[name], self.written_ms[name] = content, self.now_ms()
        self._end(how, name)
        return is_new

    async def get(self, name: str, *, max_bytes: int) -> bytes | None:
        how = self._begin("get", name)
        found = self.objects.get(name)
        if found is not None and len(found) > max_bytes:
            raise BackupDamaged(self.place(name), "is too large")
        self._end(how, name)
        return found

    async def names(self, prefix: str) -> Sequence[str]:
        how = self._begin("names", prefix)
        found = sorted(name for name in self.objects if name.startswith(prefix))
        self._end(how, prefix)
        return found

    async def listed(self, prefix: str) -> Sequence[Lying]:
        return [Lying(name, len(self.objects[name]), self.written_ms.get(name, 0)) for name in await self.names(prefix)]

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            how = self._begin("delete", name)
            self.objects.pop(name, None)
            self._end(how, name)

    async def put(self, name: str, content: bytes) -> None:
        how = self._begin("put", name)
        self.objects[name], self.written_ms[name] = content, self.now_ms()
        self._end(how, name)

    def place(self, name: str = "") -> str:
        return f"memory/{name}"

    def _begin(self, what: str, name: str) -> str:
        self.requests.append((what, name))
        how = self.fails(what, name)
        if how == "before":
            raise BackupUnreachable(self.place(name), "it failed before")
        return how

    def _end(self, how: str, name: str) -> None:
        if how == "after":
            raise BackupUnreachable(self.place(name), "the answer was lost")
