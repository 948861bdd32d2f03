"""What a terminal shows: results, tables, progress and errors. The only place that prints.

Results go to the output, everything else to the error stream, so that ``kk … --json | jq`` sees nothing but the result.
"""

from kaggle_kit.show.ask import ask
from kaggle_kit.show.progress import Progress, bar, status
from kaggle_kit.show.result import result
from kaggle_kit.show.table import table
from kaggle_kit.show.terminal import console, error, line, quiet, set_up_logging

__all__ = ["Progress", "ask", "bar", "console", "error", "line", "quiet", "result", "set_up_logging", "status", "table"]
