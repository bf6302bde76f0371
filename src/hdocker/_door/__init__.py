"""The door through which all clients of an engine come: a proxy of its API on the session's socket.

The proxy passes on every byte as it is, but for requests that create a container, or a command in
one. `requests` (where a request ends), `creation` (what is changed in it) and `labels` (compose's
mark) are pure. At the edges are `proxy` (connections), `api` (our own requests), `peer` (who asks),
`launcher` (the process) and `opening` (start and end, in hcov's own process). `engine_socket` is
the engine's own socket; if the engine has none on this machine, it is that of a `relay`.

Left to others: what an image needs (`_inject`), and what runs in a process (hcoverage). So that the
first client need not wait, the proxy imports this without the package's `__init__`, and modules
here import only the standard library and modules that do the same.
"""
