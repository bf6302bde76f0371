"""The door where all clients meet: a proxy of the engine's API on a socket of the session.

What comes through is passed on as it is, but for the body of a container's creation. Pure are
`requests` (where a request ends), `creation` (what is changed in it), `labels` (compose's own
mark); at the edges are `proxy` (connections), `api` (questions to the engine), `peer` (who asked),
`launcher` (the process) and `opening` (its beginning and end, in hcov's own process). All of them
talk to a socket; `engine_socket` has it be the engine's own, or that of a `relay` to where it is.

What an image needs is `_injection`'s business, and what is put into a process hcoverage's.
Imported by the proxy without the package's `__init__`, so that its first client need not wait:
modules here import the standard library and what does the same.
"""
