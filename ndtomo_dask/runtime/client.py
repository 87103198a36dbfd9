"""A Dask client that ends what was started for it. Imports Dask, so import it where it is used."""

from contextlib import ExitStack, suppress
from typing import Any

from distributed import Client


class ConnectedClient(Client):
    """A client that, when it is closed, ends its cluster and puts back what `connect` has set."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.undo = ExitStack()
        """What is done after the client is closed."""
        self.farewell = ExitStack()
        """What is done before, while the scheduler can still be spoken to."""
        super().__init__(*arguments, **options)

    def close(self, *arguments: Any, **options: Any) -> Any:
        """Close the client, then its cluster."""
        try:
            if self.status == "running":
                with suppress(OSError):  # of a worker that has just died
                    self.farewell.close()
            return super().close(*arguments, **options)
        finally:
            self.undo.close()
