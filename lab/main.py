"""What `lab/lab` starts: the package beside this file."""
import signal
import sys

from meshlab.commands import main

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `lab/lab status | head` is no error
sys.exit(main())
