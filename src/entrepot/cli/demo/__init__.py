"""The demonstration: the product's main job on this machine, with real processes, and every claim checked.

``processes`` starts and surely ends the children, ``topology`` sets the roles up below one folder, ``software`` finds
real content, ``evidence`` looks into stores and compares trees, ``steps`` tells the story in eight steps, each of
which raises when its claim does not hold, ``narration`` prints, ``runner`` wires them. It is no test double of
anything: what it starts, an administrator could start by hand with the same commands.
"""
