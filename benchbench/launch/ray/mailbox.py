"""Where nodes leave what they have to tell while a cell runs, until the driver takes it.

It knows nothing else of benchbench, so that its process is small and starts at once.
"""

from __future__ import annotations


class Mailbox:
    """What nodes tell of cells while they run: the newest of each thing, until the driver takes it.

    A Ray actor. Names are ``<key>/<what>``, of a cell's ``node``, ``sign`` and ``checkpoint``.
    """

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    def post(self, name: str, content: bytes) -> None:
        """Hold this in place of an earlier one of the name."""
        self._held[name] = content

    def take(self) -> dict[str, bytes]:
        """Everything that is held, by name; it is held no longer."""
        held, self._held = self._held, {}
        return held
