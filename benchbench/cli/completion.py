"""Completion in bash, which takes '=' for the end of a word: values such as ``variant=after``."""

from __future__ import annotations

from click.shell_completion import BashComplete, CompletionItem, add_completion_class

_PLAIN = "elif [[ $type == 'plain' ]]; then"


@add_completion_class
class Bash(BashComplete):
    """Joins ``variant = a`` to one word again, and offers what comes behind its '='."""

    source_template = BashComplete.source_template.replace(
        _PLAIN, f"{_PLAIN}\n            [[ $value == *= ]] && compopt -o nospace;"
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one at the cursor, and that one."""
        args, begun = super().get_completion_args()
        line = "\0".join([*args, begun]).replace("\0=\0", "=").replace("\0=", "=")
        *words, last = line.split("\0")
        return words, last

    def format_completion(self, item: CompletionItem) -> str:
        """What bash puts in the place of the word at the cursor."""
        return f"{item.type},{item.value.partition('=')[2] or item.value}"
