"""The command line: one module per command group; a folder for a large one (``cloud``, ``host``, ``demo``).

Two kinds of commands live here. *Administrator* commands (``content``, ``cloud``, ``point list`` …) speak only the
site's REST API, with the models of ``protocol.siteapi``: they work from any machine and import nothing of a server.
*Role* commands (``site``, ``host``, ``point``, ``gateway``, ``client``) construct a role from the settings in its
home and run it on this machine: this is where adapters are chosen and wired; nothing below the command line knows
which database, store or provider it was given.

Promises of every command: ``--help`` teaches with examples; a result can be had as JSON; what destroys asks first
unless ``--yes``; passwords come from a prompt, a file or standard input, never from the arguments; an error is one
message and one next step, with the exit code of its family (``core.errors.Family``), and a traceback only when
``ENTREPOT_DEBUG=1``.
"""

import sys

from entrepot.core.loading import end_without_a_look, load_without_a_look


def main() -> None:
    """Entry point of the ``entrepot`` command."""
    load_without_a_look()
    from entrepot.cli.failures import run  # late: a broken installation can still say what is missing

    code = run(sys.argv[1:])
    end_without_a_look()
    sys.exit(code)
