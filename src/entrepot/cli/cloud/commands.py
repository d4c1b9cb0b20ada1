"""The group ``entrepot cloud``, with the commands of all its modules. ``points`` and ``care`` add theirs themselves."""

from entrepot.cli.cloud import books, care, drill, ending, orphans

app = care.app

for _command in (
    books.usage,
    ending.stop,
    ending.delete,
    books.metrics,
    books.resources,
    drill.drill,
    drill.drills,
    orphans.orphans,
):
    app.command()(_command)
