"""Durable local files: what is written here survives SIGKILL and power loss, whole or not at all.

Temporary file, fsync, rename, fsync of the folder (as borg does). On Windows folders cannot be synced; there
the rename itself is the barrier. All functions are synchronous: call them from worker threads.
"""
