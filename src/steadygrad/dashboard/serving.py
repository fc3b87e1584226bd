"""The server of the live page."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import webbrowser
from importlib import resources
from pathlib import Path
from typing import Any

import dash
from dash import Input, Output, State
from werkzeug.serving import BaseWSGIServer, make_server

from steadygrad.dashboard import page
from steadygrad.dashboard.following import Follower
from steadygrad.errors import InputError, StoreError
from steadygrad.store import list_runs

#: Followers kept at once; the one not asked for longest goes.
FOLLOWED = 4
_INDEX = """<!doctype html>
<html lang="en"><head>{%metas%}<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{%title%}</title>{%favicon%}{%css%}<style>STYLE</style></head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body></html>"""


class Serving:
    """The page and what it follows.

    Args:
        place: a run folder, or the folder that holds run folders: then the newest one is shown until another is chosen.

    Raises:
        StoreError: ``place`` is a run that cannot be read.
    """

    def __init__(self, place: Path) -> None:
        self._only = place if (place / "run.db").is_file() else None
        self._root = place
        self._followers: dict[Path, Follower] = {}
        self._lock = threading.Lock()
        if self._only is not None:
            self._follower(self._only)
        style = resources.files("steadygrad.report").joinpath("page.css").read_text(encoding="utf-8")
        style += resources.files("steadygrad.dashboard").joinpath("page.css").read_text(encoding="utf-8")
        index = _INDEX.replace("STYLE", style)
        self.app = dash.Dash("steadygrad", title="SteadyGrad", update_title="", index_string=index)
        self.app.layout = page.skeleton()
        self.app.callback(
            Output("run", "options"),
            Output("run", "value"),
            Input("tick", "n_intervals"),
            State("run", "options"),
            State("run", "value"),
        )(self.choices)
        self.app.callback(
            *[Output(name, "children") for name in ("answer", "findings", "causes", "figures")],
            Output("seen", "data"),
            Input("tick", "n_intervals"),
            Input("run", "value"),
            State("seen", "data"),
        )(self.refresh)

    def choices(self, _: Any, known: list[str] | None, chosen: str | None) -> tuple[Any, Any]:
        """The runs there are. A new one is followed if the newest was being followed."""
        names = self.runs()
        followed_newest = not known or chosen is None or chosen == known[0]
        value = names[0] if names and followed_newest else chosen
        return (names if names != known else dash.no_update), (value if value != chosen else dash.no_update)

    def runs(self) -> list[str]:
        """Names of run folders, newest first."""
        return [self._only.name] if self._only is not None else [run.folder.name for run in list_runs(self._root)]

    def refresh(self, _: Any, name: str | None, seen: dict[str, Any] | None) -> tuple[Any, ...]:
        """Everything on the page, where something has changed since it was ``seen``."""
        nothing: tuple[Any, ...] = ([], [], [])
        if name is None:
            waiting = page.empty(f"Waiting for a run in {self._root}: `steadygrad run SCRIPT` makes one.")
            return waiting, *nothing, {}
        folder = self._only or self._root / name
        try:
            shown = self._follower(folder).now()
        except StoreError as error:
            return page.empty(str(error)), *nothing, {}
        now = {"run": name, "version": shown.version}
        if now == seen:
            return page.answer(shown, folder), *[dash.no_update] * 3, now
        found = page.findings(shown.diagnosis.symptoms)
        return page.answer(shown, folder), found, page.causes(shown), page.figures(shown.charts, folder), now

    def _follower(self, folder: Path) -> Follower:
        with self._lock:
            follower = self._followers.pop(folder, None) or Follower(folder)
            self._followers[folder] = follower  # the last one in
            while len(self._followers) > FOLLOWED:
                del self._followers[next(iter(self._followers))]
            return follower

    def server(self, host: str, port: int) -> BaseWSGIServer:
        """Listening, but not yet serving.

        Raises:
            InputError: the address cannot be had.
        """
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request says nothing to a user
        try:
            with socket.create_server((host, port)) as listening:
                return make_server(host, port, self.app.server, threaded=True, fd=listening.fileno())
        except OSError as error:
            raise InputError(
                f"the page needs an address of this machine and a free port, but {host}:{port} cannot be had: {error}; "
                "choose another one with --port"
            ) from None


def serve(place: Path, *, host: str, port: int, browse: bool) -> int:
    """Serve the live page until interrupted.

    Args:
        place: a run folder, or the folder that holds run folders.
        host: address to listen at; anybody who can reach it can read the runs.
        port: 0 for any that is free.
        browse: open a browser.
    """
    server = Serving(place).server(host, port)
    address = f"http://{host}:{server.port}"
    print(f"steadygrad: {address} shows {place}; Ctrl-C ends it", flush=True)
    if browse:
        webbrowser.open(address)
    try:
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            server.serve_forever()
    finally:
        server.server_close()
    return 0
