"""Messages of nodes about running cells, held until the driver takes them.

It knows nothing else of benchbench, so that its process is small and starts at once.
"""

from __future__ import annotations


class Mailbox:
    """The newest message of each name about running cells, held until the driver takes it.

    A Ray actor. Names are ``<key>/<what>``, of a cell's ``node``, ``sign`` and ``checkpoint``.
    """

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    def post(self, name: str, content: bytes) -> None:
        """Keep this message in place of an earlier one of the name."""
        self._held[name] = content

    def take(self) -> dict[str, bytes]:
        """All messages by name; the mailbox is empty afterwards."""
        held, self._held = self._held, {}
        return held
