import http.client
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from realtime.frames import Frame
from realtime.hotkeys import Action, Command
from realtime.sinks import web
from realtime.sinks.web import Page


class Show:
    """A page that is given a new picture 50 times a second."""

    def __init__(self) -> None:
        self.page, self.stop = Page(), threading.Event()
        self.thread = threading.Thread(target=self._play)
        self.thread.start()

    def _play(self) -> None:
        index = 0
        while not self.stop.wait(0.02):
            pixels = np.full((48, 64, 3), index % 200, np.uint8)
            self.page.write(Frame(pixels, index, time.monotonic()))
            index += 1

    def ask(self, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.page.port, timeout=5)
        connection.request(method, path, headers=headers)
        self.connections.append(connection)
        return connection.getresponse()

    connections: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        self.page.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def show() -> Iterator[Show]:
    show = Show()
    yield show
    show.close()


def read_picture(response: http.client.HTTPResponse) -> np.ndarray:
    assert response.readline() == b"--frame\r\n"
    response.readline()
    length = int(response.readline().split(b":")[1])
    response.readline()
    jpeg = response.read(length)
    response.readline()
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_the_page_shows_the_picture_and_the_keys(show: Show):
    response = show.ask("GET", "/")
    text = response.read().decode()
    assert response.status == 200 and 'src="stream"' in text and "next style" in text


def test_the_picture_moves_and_a_slow_viewer_gets_the_newest(show: Show):
    fast = show.ask("GET", "/stream")
    values = [int(read_picture(fast).mean()) for _ in range(5)]
    assert len(set(values)) == 5
    slow = show.ask("GET", "/stream")
    first = int(read_picture(slow).mean())
    time.sleep(0.5)
    assert show.page._viewers == 2 and int(read_picture(slow).mean()) != first


def test_keys_become_commands(show: Show):
    assert show.ask("POST", "/key?name=ArrowRight").status == 204
    assert show.ask("POST", "/key?name=3").status == 204
    assert show.ask("POST", "/key?name=F5").status == 400
    assert show.page.commands() == [Command(Action.NEXT_STYLE), Command(Action.CHOOSE_STYLE, 3)]
    assert show.page.commands() == []


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/stream"), ("POST", "/key?name=q")])
def test_other_sites_are_refused(show: Show, headers: dict[str, str], method: str, path: str):
    assert show.ask(method, path, **headers).status == 403
    assert show.page.commands() == []


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/etc/passwd", "//etc/passwd", "/%2e%2e/x", "/stream/../../x"])
def test_no_file_can_be_read(show: Show, path: str):
    assert show.ask("GET", path).status == 404


def test_there_is_a_limit_on_viewers_and_who_leaves_makes_room(show: Show):
    viewers = [show.ask("GET", "/stream") for _ in range(web.VIEWERS)]
    assert {viewer.status for viewer in viewers} == {200}
    assert show.ask("GET", "/stream").status == 503
    for connection in show.connections:
        connection.close()
    for viewer in viewers:
        viewer.close()
    deadline = time.monotonic() + 5
    while show.page._viewers and time.monotonic() < deadline:
        time.sleep(0.05)
    assert show.ask("GET", "/stream").status == 200


def test_a_second_page_takes_another_port(show: Show):
    other = Page()
    assert other.port != show.page.port
    other.close()
    other.close()
