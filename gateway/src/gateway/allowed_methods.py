"""Which methods a path takes, for the `Allow` header: a router only knows those of one of the path's routes."""

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods that `app` takes at `path`, sorted."""
    methods: set[str] = set()
    for route in iter_route_contexts(app.routes):
        if route.path is not None and route.methods and compile_path(route.path)[0].match(path):
            methods |= route.methods
    return sorted(methods)
