"""Imported by the server that loader processes are forked from, and by nothing else.

SIGTERM is often sent to all processes of a job at once: by ``timeout``, by Slurm, by a container that stops. The main process
then finishes its step and writes a checkpoint, for which it needs batches; so the server and what it forks do not end before
it. They end when it does: the server's pipe to it closes, and loader processes see their parent gone.
"""

import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
