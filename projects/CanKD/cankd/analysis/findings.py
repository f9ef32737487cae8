import contextlib
import dataclasses
from collections.abc import Callable, Iterator

from cankd.utils import UserError

__all__ = ["Findings"]


@dataclasses.dataclass
class Findings:
    """What a user is told about a run.

    Attributes:
        show: takes each piece of text as it is found.
        notes: what the run can do with, but the user should know.
        problems: what has to be mended.
    """

    show: Callable[[str], object]
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Gives a context in which a :class:`UserError` becomes a problem, so that others are found, too."""
        try:
            yield
        except UserError as error:
            self.problems.append(str(error))

    def conclude(self) -> None:
        """Shows notes and problems, and whether the run is ready."""
        self.show("")
        for note in self.notes:
            self.show(f"Note: {note}")
        for problem in self.problems:
            self.show(f"To mend: {problem}")
        self.show(f"Not ready: {len(self.problems)} to mend." if self.problems else "Ready.")
