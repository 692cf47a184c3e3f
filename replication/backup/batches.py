"""An object with changesets: several of one site, one after the other, as their origin made them. Pure.

The content (msgpack): `[FORM, cluster, site, [changeset, ...]]`. Where it begins and ends, and what comes before it,
its changesets say themselves: each has the hash of the one before, and so the first one has that of the last one of the
object before. Objects are linked by it, and stay so when several are made one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from replication.backup.envelope import BadEnvelope, seal, unseal
from replication.backup.names import Stretch
from replication.engine.changesets import CHANGESET_MAX_BYTES, ChangesetError, digest, header
from replication.engine.received import Malformed, data, listed, name, site, unpacked, whole
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp
from replication.engine.values import pack

FORM: Final = 1
BATCH_BYTES: Final = 4 * 1024 * 1024
"""An object gets changesets until they are so many bytes. One that is larger is alone in its object."""
BATCH_MAX_COUNT: Final = 20_000
CONTENT_MAX_BYTES: Final = CHANGESET_MAX_BYTES + 2 * BATCH_BYTES


class BadBatch(ValueError):
    """The bytes are no object with changesets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A changeset, and its place in its site's chain."""

    after: Stamp
    upto: Stamp
    previous: bytes
    digest: bytes
    encoded: bytes

    @property
    def head(self) -> Head:
        """Where its site is after it."""
        return Head(stamp=self.upto, digest=self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Changesets of a site that join end to end. There is one at least."""

    cluster: str
    site: Site
    links: tuple[Link, ...]

    @property
    def stretch(self) -> Stretch:
        """What its object is named after."""
        return Stretch(self.site, self.links[0].upto, self.links[-1].upto)

    def beyond(self, at: Stamp) -> tuple[Link, ...]:
        """Those that end after a stamp."""
        return tuple(link for link in self.links if link.upto > at)


def batch_of(cluster: str, of: Site, changesets: Sequence[bytes]) -> Batch:
    """The changesets as one. Raises BadBatch if they are not this site's, or do not join."""
    if not changesets:
        raise BadBatch("has no changesets")
    return Batch(cluster=cluster, site=of, links=tuple(_links(cluster, of, changesets)))


def encode(batch: Batch) -> bytes:
    """The object's bytes."""
    return seal(pack((FORM, batch.cluster, batch.site, tuple(link.encoded for link in batch.links))))


def decode(sealed: bytes) -> Batch:
    """What an object holds. Raises BadBatch, and nothing else, if that is not what it should."""
    try:
        content = unpacked(unseal(sealed, max_bytes=CONTENT_MAX_BYTES), bytes_max=CONTENT_MAX_BYTES)
        fields = listed(content, at_most=4)
        if len(fields) != 4:
            raise BadBatch("has not four fields")
        if whole(fields[0], low=1, high=2**31) != FORM:
            raise BadBatch(f"has form {fields[0]}, and form {FORM} is known; upgrade litecast")
        return batch_of(
            name(fields[1]), site(fields[2]), [data(one) for one in listed(fields[3], at_most=BATCH_MAX_COUNT)]
        )
    except BadBatch:
        raise
    except (BadEnvelope, Malformed) as error:
        raise BadBatch(str(error)) from error


def _links(cluster: str, of: Site, changesets: Sequence[bytes]) -> Iterator[Link]:
    before: Link | None = None
    for encoded in changesets:
        try:
            found = header(encoded)
        except ChangesetError as error:
            raise BadBatch(f"has a changeset that cannot be read: {error}") from error
        if (found.cluster, found.site) != (cluster, of):
            raise BadBatch(f"has a changeset of site {found.site} of cluster {found.cluster}, which is another")
        if before is not None and (found.after, found.previous) != (before.upto, before.digest):
            raise BadBatch("has changesets that do not join")
        before = Link(
            after=found.after,
            upto=found.upto,
            previous=found.previous,
            digest=digest(encoded),
            encoded=encoded,
        )
        yield before
