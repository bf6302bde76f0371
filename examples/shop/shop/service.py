"""The web service: `GET /price?product=kettle&quantity=2&country=de`, answered in JSON."""

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from shop import catalogue, pricing

PORT = 8000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/health":
            self.answer(HTTPStatus.OK, {"status": "up"})
        elif url.path == "/price":
            self.answer(*price(dict(parse_qsl(url.query))))
        else:
            self.answer(HTTPStatus.NOT_FOUND, {"error": f"nothing at {url.path}"})

    def answer(self, status: HTTPStatus, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def price(query: dict[str, str]) -> tuple[HTTPStatus, dict[str, object]]:
    try:
        product = catalogue.find(query["product"])
        quote = pricing.quote(product, int(query.get("quantity", "1")), query.get("country", ""))
    except catalogue.UnknownProductError as error:
        return HTTPStatus.NOT_FOUND, {"error": str(error)}
    except (KeyError, ValueError) as error:
        return HTTPStatus.BAD_REQUEST, {"error": f"bad query: {error}"}
    return HTTPStatus.OK, {"net": quote.net, "tax": quote.tax, "total": quote.total}


def main() -> None:
    with ThreadingHTTPServer(("", PORT), Handler) as server:
        print(f"shop: serving on port {PORT}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
