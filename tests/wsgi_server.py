"""What a service of the tests ends with: it serves an `application`, each request by a thread."""

from __future__ import annotations

from typing import Final

# It prints the port, and goes on until it is interrupted or killed.
SERVE: Final = """\
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from hcoverage.middleware import wsgi
class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass
class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
server = Server(("127.0.0.1", 0), Quiet)
server.set_app(wsgi(application))
print(server.server_address[1], flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    pass
"""
