"""The demo as users run it: a separate process, tested through its output and its pages."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ECONNREFUSED
from html.parser import HTMLParser
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from pathlib import Path
from stat import S_IMODE
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import pytest
from redis import Redis

from blobcache.redis import keys
from blobcache.services import get_browsable
from project import embedded, sample
from project.demo import DemoError, address_of, main, prepare
from project.demo import run as run_demo
from project.files import read_or_create, write_secret
from project.pushes import collected
from tests.interop.client import RegistryClient
from tests.interop.copying import Skopeo
from tests.interop.oci import read_layout
from tests.interop.processes import Server, wait_until
from tests.servers import commands, in_memory, installed

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "demo.md"
OURS = ("DJANGO_", "BLOBCACHE_")
SECONDS = 180
"""How long a demo may take to start or to stop, on a machine with much else to do."""

READ_COMMANDS = {
    *("hello", "client|setinfo", "select", "info", "config|get", "scan"),
    *("scard", "sismember", "smismember", "sscan", "hget", "hmget"),
}
"""All that a Redis is asked that is only read."""


class Demo:
    """A running demo."""

    def __init__(self, data: Path, log: Path, *arguments: str, **env: str) -> None:
        rest = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.data = data
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "project.demo", "--data", str(data), *arguments],
                cwd=ROOT,
                env={**rest, **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                umask=0,
            )

    @property
    def printed(self) -> str:
        return self._log.read_text()

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(SECONDS)

    def shown(self, what: str) -> str:
        """Return the text after a word in the greeting."""
        found = re.search(rf"^  {what} +(\S.*)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    @property
    def url(self) -> str:
        return self.shown("Admin").removesuffix("admin/")

    @property
    def curls(self) -> list[str]:
        return re.findall(r"^  (curl .+)$", self.printed, re.MULTILINE)

    @property
    def token(self) -> str:
        return self.curls[0].split("'")[1]

    def get(self, path: str, **headers: str) -> Any:
        """Return the JSON at the path, requested with the printed token."""
        name, _, value = self.token.partition(": ")
        request = Request(urljoin(self.url, path), headers={name: value, **headers})  # noqa: S310
        with build_opener().open(request) as response:
            return json.load(response)


@contextmanager
def running(
    data: Path, log: Path, how: signal.Signals = signal.SIGINT, /, **env: str
) -> Iterator[Demo]:
    """Run a demo on a free port within the block, and wait until it is ready.

    After the block it is stopped in the given way: this must leave nothing running.
    """
    demo = Demo(data, log, "--port", "0", **env)
    try:
        wait_until(
            lambda: "Ctrl-C" in demo.printed or demo.process.poll() is not None, "demo", SECONDS
        )
        assert demo.process.poll() is None, demo.printed
        yield demo
        assert demo.end(how) == 0, demo.printed
        assert "\nThe demo has stopped.\n" in demo.printed
        assert processes_in(data) == []
    finally:
        demo.process.terminate()
        demo.process.wait(SECONDS)


def run(line: str) -> None:
    """Run a printed command in a shell."""
    installed("curl")
    line += " --silent --show-error --fail-with-body"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.returncode == 0, (line, done.stdout, done.stderr)


def processes_in(directory: Path) -> list[int]:
    """Return the ids of the processes with this working directory, as a Valkey has.

    Only Linux tells them, through /proc.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == directory:
                found.append(int(process.name))
    return found


def signed_in(demo: Demo, password: str) -> OpenerDirector:
    """Return an HTTP client with cookies in which `admin` has signed in."""
    jar = CookieJar()
    browser = build_opener(HTTPCookieProcessor(jar))
    login = urljoin(demo.url, "admin/login/")
    browser.open(login).close()
    (csrf,) = (cookie.value for cookie in jar if cookie.name == "csrftoken")
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": csrf}
    browser.open(login, urlencode({**form, "next": "/admin/"}).encode()).close()
    return browser


def is_signed_in(browser: OpenerDirector, demo: Demo) -> bool:
    with browser.open(demo.url) as page:
        return bool(page.url == urljoin(demo.url, "admin/"))


OTHERS = {
    "DJANGO_DEBUG": "1",
    "DJANGO_HTTPS": "1",
    "DJANGO_BEHIND_PROXY": "1",
    "DJANGO_BASIC_AUTH": "0",
    "DJANGO_STATIC_FINDERS": "0",
    "DJANGO_ALLOWED_HOSTS": "portal.example",
}
"""Variables that the user has exported for another portal."""


class First(NamedTuple):
    """A demo that has been stopped, and what it left."""

    demo: Demo
    browser: OpenerDirector
    """Has signed in."""

    password: str
    token: str

    has_left_variables: bool
    """Whether the file with the variables was still there."""


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory for the demo's thousands of files."""
    with in_memory() as path:
        yield path


@pytest.fixture(scope="module")
def first(directory: Path) -> First:
    """The first start of a demo, under the worst of circumstances.

    The variables `OTHERS` are set, and its directory, which others may read, has files of an
    earlier demo.
    """
    data = directory / "var"
    data.mkdir(mode=0o755)
    for name in ("password", "portal.sqlite3"):
        (data / name).touch(mode=0o644)
        (data / name).chmod(0o644)
    OTHERS["DJANGO_DATABASE_PATH"] = str(directory / "another.sqlite3")
    OTHERS["BLOBCACHE_STORAGE"] = str(directory / "another")
    with running(data, directory / "log", signal.SIGHUP, **OTHERS) as demo:
        if sys.platform == "linux":
            assert len(processes_in(data)) == 1, "its Valkey"
        put = next(line for line in demo.curls if "-X PUT" in line)
        run(put.replace("demo/hello", "demo/kept"))
        browser = signed_in(demo, demo.shown("Password"))
        assert (data / "env").exists()
    is_left = (data / "env").exists()
    return First(demo, browser, demo.shown("Password"), demo.token, is_left)


@pytest.fixture(scope="module")
def demo(first: First) -> Iterator[Demo]:
    """The second start, with the same data."""
    data = first.demo.data
    with running(data, data.parent / "log2", signal.SIGTERM, **OTHERS) as demo:
        yield demo


@pytest.fixture(scope="module")
def browser(demo: Demo) -> OpenerDirector:
    """An HTTP client in which `admin` has signed in to the second start."""
    return signed_in(demo, demo.shown("Password"))


@pytest.fixture
def redis(valkey: embedded.Server) -> Iterator[Redis]:
    """A Redis for the demo to use: the session's embedded one, with one blob."""
    with valkey.client() as client:
        client.flushall()
        digest = "sha256:" + "a" * 64
        client.hset("blobs::" + digest, mapping={"digest": digest, "size": 5, "mediatype": "x/y"})
        client.hset(f"repository::some/app::blobs::{digest}", "mediatype", "x/y")
        client.sadd("repository::some/app::blobs", digest)
        yield client


def test_the_printed_password_opens_the_admin(demo: Demo, browser: OpenerDirector) -> None:
    assert demo.shown("User") == "admin"
    assert is_signed_in(browser, demo)
    assert not is_signed_in(signed_in(demo, "another"), demo)


def test_every_printed_command_works_as_printed(demo: Demo) -> None:
    assert len(demo.curls) == 7
    for line in demo.curls:
        run(line)


def test_the_printed_lines_let_manage_py_use_the_same_portal(demo: Demo) -> None:
    lines = re.findall(r"^  (\. .+|.+ manage\.py .+)$", demo.printed, re.MULTILINE)
    set_variables, check, status = lines
    rest = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    done = subprocess.run(  # noqa: S602 - what the demo prints
        f"{set_variables} && {check} --quick",
        shell=True,
        cwd=ROOT,
        env=rest,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Problems: " in done.stdout, "there are some in the sample data"
    assert status.endswith("manage.py blobcache status --all-registries")
    assert demo.shown("Viewer") == "stella, of staging alone"


def test_the_file_with_the_variables_is_gone_with_the_demo(first: First, demo: Demo) -> None:
    assert f"  . {first.demo.data}/env\n" in first.demo.printed
    assert not first.has_left_variables
    assert (demo.data / "env").exists()


def test_nothing_is_written_between_the_steps(first: First) -> None:
    before = first.demo.printed.partition("\n  Admin")[0].split("\n")
    assert before == ["Writing the storage of a registry ...", "Filling the cache from it ...", ""]


def test_requests_are_answered_by_granian(demo: Demo) -> None:
    """Django's own server takes 44 ms for each request of a kept connection."""
    with build_opener().open(urljoin(demo.url, "admin/login/")) as page:
        assert page.headers["Server"] == "granian"


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux tells the worker.")
def test_a_killed_demo_leaves_nothing_running(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "var", tmp_path / "log", "--port", "0", **DOWN)
    wait_until(lambda: "Ctrl-C" in demo.printed, "demo", SECONDS)
    address = urlsplit(demo.url)
    demo.process.kill()
    demo.process.wait(SECONDS)

    def is_refused() -> bool:
        with socket.socket() as client:
            return client.connect_ex((address.hostname, address.port)) == ECONNREFUSED

    wait_until(is_refused, "end of the worker", SECONDS)


def test_the_api_knows_a_token_a_password_and_a_session(
    demo: Demo, browser: OpenerDirector
) -> None:
    api = urljoin(demo.url, "api/repositories/")
    password = demo.shown("Password")
    basic = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    assert demo.get("api/repositories/")["count"] > 30
    assert demo.get("api/repositories/", Authorization=basic)["count"] > 30
    with browser.open(api) as response:
        assert response.status == 200


def test_an_unauthenticated_request_is_refused_with_a_challenge(demo: Demo) -> None:
    with pytest.raises(HTTPError) as refused:
        build_opener().open(urljoin(demo.url, "api/repositories/"))
    with refused.value as response:
        assert response.code == 401
        assert response.headers["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize(("path", "to"), [("", "admin/"), ("api/", "api/docs/")])
def test_short_addresses_lead_to_a_page(
    demo: Demo, browser: OpenerDirector, path: str, to: str
) -> None:
    with browser.open(urljoin(demo.url, path)) as page:
        assert page.url == urljoin(demo.url, to)


class Sources(HTMLParser):
    """Collect the addresses that a page makes a browser load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "src" or (tag == "link" and name == "href")):
                self.found.append(value)


@pytest.mark.parametrize("path", ["admin/", "api/docs/", "api/repositories/"])
def test_every_part_of_a_page_loads_from_the_same_host(
    demo: Demo, browser: OpenerDirector, path: str
) -> None:
    asked = Request(urljoin(demo.url, path), headers={"Accept": "text/html"})  # noqa: S310
    with browser.open(asked) as page:
        assert isinstance(page, HTTPResponse)
        assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")
        found = Sources(page.read().decode()).found
    assert found
    for source in found:
        url = urljoin(urljoin(demo.url, path), source)
        assert url.startswith((demo.url, "data:")), source
        browser.open(url).close()


def test_only_the_owner_can_read_the_files_that_it_writes(
    demo: Demo, browser: OpenerDirector
) -> None:
    """Under any umask, in a directory that others may read, and for files of an earlier demo."""
    assert is_signed_in(browser, demo)
    modes = {}
    for folder, _, names in os.walk(demo.data):  # pathlib takes long for thousands of files
        for name in names:
            modes[name] = S_IMODE(os.stat(f"{folder}/{name}").st_mode)  # noqa: PTH116 - as above
    assert {"lock", "password", "portal.sqlite3", "registry.json", "secret-key"} <= modes.keys()
    assert {oct(mode) for mode in modes.values()} == {"0o600"}


def test_variables_exported_for_another_portal_are_ignored(
    demo: Demo, browser: OpenerDirector
) -> None:
    assert is_signed_in(browser, demo)
    with pytest.raises(HTTPError) as missed:
        build_opener().open(urljoin(demo.url, "nowhere/"))
    with missed.value as page:
        assert "DEBUG" not in page.read().decode(), "Django's page for developers"
    assert not (demo.data.parent / "another.sqlite3").exists()
    assert not (demo.data.parent / "another").exists()


@pytest.fixture
def umask() -> Iterator[None]:
    """An umask of zero."""
    before = os.umask(0)
    yield
    os.umask(before)


def unexpected() -> str:
    raise AssertionError("The secret is there already.")


class TestASecret:
    def test_is_created_once(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        assert read_or_create(path, lambda: "made up") == "made up"
        assert read_or_create(path, unexpected) == "made up"

    def test_is_read_without_surrounding_white_space(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("by hand\n")
        assert read_or_create(tmp_path / "secret", unexpected) == "by hand"

    @pytest.mark.parametrize("content", ["", " ", "\n\n"])
    def test_is_missing_in_an_empty_file(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "secret"
        path.write_text(content)
        assert read_or_create(path, lambda: "made up") == "made up"
        assert path.read_text() == "made up"

    def test_is_readable_only_by_its_owner(self, tmp_path: Path, umask: None) -> None:
        path = tmp_path / "secret"
        read_or_create(path, lambda: "made up")
        assert path.stat().st_mode & 0o777 == 0o600

    def test_becomes_readable_only_by_its_owner_again(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text("open")
        path.chmod(0o644)
        assert read_or_create(path, unexpected) == "open"
        assert path.stat().st_mode & 0o777 == 0o600

    def test_is_written_completely_or_not_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        with pytest.raises(UnicodeEncodeError):
            read_or_create(path, lambda: "half of it \udc80")
        assert list(tmp_path.iterdir()) == []
        write_secret(path, "before")
        with pytest.raises(UnicodeEncodeError):
            write_secret(path, "half of it \udc80")
        assert [each.read_text() for each in tmp_path.iterdir()] == ["before"]

    def test_is_never_seen_half_written(self, tmp_path: Path) -> None:
        """A process that has the old file open still reads it: a new file replaces it."""
        path = tmp_path / "secret"
        path.write_text("")
        with path.open() as opened:
            read_or_create(path, lambda: "made up")
            assert opened.read() == ""
        assert path.read_text() == "made up"


def test_a_second_start_keeps_everything(first: First, demo: Demo) -> None:
    assert "Writing the storage" in first.demo.printed
    assert "Writing the storage" not in demo.printed
    assert demo.shown("Password") == first.password
    assert demo.token == first.token
    assert demo.get("api/repositories/?prefix=demo/kept")["count"] == 1
    assert is_signed_in(first.browser, demo), "still"


def test_a_cache_of_an_earlier_version_is_emptied(
    default_cache: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was filled without a storage, so nothing in it would be in the storage."""
    default_cache.sadd(keys.members("old"), "x")
    monkeypatch.setattr(sample, "write", lambda storage: storage.mkdir())
    monkeypatch.setattr(sample, "fill", lambda provider, progress: None)
    prepare(get_browsable(), tmp_path / "storage")
    assert not default_cache.exists(keys.members("old"))
    default_cache.sadd(keys.members("new"), "x")
    monkeypatch.setattr(sample, "write", lambda storage: None)
    prepare(get_browsable(), tmp_path / "storage")
    assert default_cache.exists(keys.members("new")), "after an interrupted start"


@pytest.fixture(scope="module")
def registry(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryClient]:
    """The demo's registry, as the page says in "With a registry", on another port."""
    installed("docker-registry")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    arguments = ["-m", "project.registry", "--data", str(demo.data), "--port", str(port)]
    log = tmp_path_factory.mktemp("registry") / "log"
    server = Server([sys.executable, *arguments], log, {**os.environ, "PYTHONPATH": str(ROOT)})
    client = RegistryClient(f"127.0.0.1:{port}")
    server.wait_until(client.is_up)
    yield client
    server.stop()


def follow(block: str, demo: Demo, registry: RegistryClient, home: Path) -> str:
    """Run the commands of a block, and return what they print."""
    places = {
        "http://127.0.0.1:8000/": demo.url,
        "127.0.0.1:5000": registry.address,
        "admin:letmein": f"admin:{demo.shown('Password')}",
    }
    for written, meant in places.items():
        block = block.replace(written, meant)
    env = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    done = subprocess.run(  # noqa: S602 - our own
        block, shell=True, cwd=home, env=env, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_a_pull_and_a_push_do_what_the_page_says(
    demo: Demo, browser: OpenerDirector, registry: RegistryClient, tmp_path: Path
) -> None:
    installed("skopeo")
    (copies,) = [each for each in blocks_of("With a registry") if "skopeo copy" in each]
    follow(copies, demo, registry, tmp_path)
    pushed = demo.get("api/repositories/demo/cart/blobs/")["results"]
    assert len(pushed) == 9
    assert {each["mediaType"] for each in pushed} == {"application/octet-stream"}
    image = json.loads(registry.get_manifest("demo/cart", "1").body)
    parts = [image["config"], *image["layers"]]
    assert {each["digest"] for each in pushed} == {each["digest"] for each in parts}
    (address,) = re.findall(r"`http://127.0.0.1:8000/(admin/\S+)`", PAGE.read_text())
    with browser.open(urljoin(demo.url, address)) as page:
        text = page.read().decode()
    assert all(each["digest"] in text for each in pushed)


def test_a_collected_blob_does_what_the_page_says(
    demo: Demo, registry: RegistryClient, tmp_path: Path
) -> None:
    installed("curl")
    (requests,) = [each for each in blocks_of("With a registry") if "BLOB=" in each]
    (digest,) = re.findall(r"^BLOB=(\S+)$", requests, re.MULTILINE)
    assert digest in {push.blob.digest for push in collected()}
    printed = follow(requests, demo, registry, tmp_path)
    assert re.findall(r"HTTP/1.1 (\d+)", printed) == ["200", "404"]
    assert "bytes missing" in printed or "bytes remaining" in printed
    assert '"certain":"everywhere"' in printed


def test_every_image_can_be_pulled(registry: RegistryClient, tmp_path: Path) -> None:
    """Of each kind one: an index of OCI, one of Docker, a manifest, layers of zstd."""
    skopeo = Skopeo(tmp_path / "home")
    for name in ("shop/backend/api", "ops/node-exporter", "data/etl-nightly", "shop/search"):
        tag = "nightly" if name == "data/etl-nightly" else "latest"
        skopeo.pull(registry.address, name, tag, tmp_path / name)
        assert len(read_layout(tmp_path / name)) > 2


def blocks_of(heading: str) -> list[str]:
    """Return the shell commands of a section of the page about the demo."""
    _, _, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    return re.findall(r"^```sh\n(.*?)^```$", rest.partition("\n##")[0], re.DOTALL | re.MULTILINE)


def test_a_port_in_use_is_reported_before_anything_starts(demo: Demo, tmp_path: Path) -> None:
    port = int(demo.url.rpartition(":")[2].strip("/"))
    with pytest.raises(DemoError) as refused:
        run_demo(port, tmp_path / "var")
    assert str(refused.value) == (
        f"The demo cannot listen on 127.0.0.1:{port}: Address already in use. "
        f"Choose another port: make demo PORT={port + 1}"
    )
    assert not (tmp_path / "var").exists()


def test_two_demos_do_not_share_their_data(demo: Demo) -> None:
    with pytest.raises(DemoError) as refused:
        run_demo(0, demo.data)
    assert str(refused.value) == f"Another demo is running with the data in {demo.data}."


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_an_invalid_port_is_reported_in_one_line(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", f"--port={port}"])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert f"'{port}' is not a port" in capsys.readouterr().err


DOWN = {"BLOBCACHE_REDIS_URL": "redis://127.0.0.1:1/0"}
"""A Redis that is down: so nothing has to be written first."""

GIVEN = "given for this test"


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo whose Redis is down, with a given password for `admin`."""
    directory = tmp_path_factory.mktemp("lonely")
    env = {
        "BLOBCACHE_REDIS_URL": "redis://user:secret@127.0.0.1:1/0",
        "DJANGO_SUPERUSER_PASSWORD": GIVEN,
    }
    with running(directory / "var", directory / "log", **env) as demo:
        yield demo


def test_it_starts_even_if_another_redis_is_down(lonely: Demo) -> None:
    assert "The cache is not available" in lonely.printed
    assert len(lonely.curls) == 2


def test_a_given_password_is_used_and_not_shown(lonely: Demo) -> None:
    assert GIVEN not in lonely.printed
    assert is_signed_in(signed_in(lonely, GIVEN), lonely)


def test_no_password_of_a_redis_is_shown(lonely: Demo) -> None:
    assert lonely.shown("Redis") == "127.0.0.1:1, read only"
    assert "secret" not in lonely.printed


def test_a_redis_on_a_unix_socket_is_shown_by_its_path() -> None:
    assert address_of("unix://user:secret@/run/redis?db=0") == "/run/redis"
    assert address_of("redis://user:secret@redis.example/0") == "redis.example:6379"


def test_an_invalid_variable_is_reported_in_one_line(tmp_path: Path) -> None:
    env = {"BLOBCACHE_REDIS_URL": "redis://127.0.0.1:1/0", "BLOBCACHE_READ_ONLY": "no"}
    demo = Demo(tmp_path / "var", tmp_path / "log", "--port", "0", **env)
    assert demo.process.wait(SECONDS) == 1
    assert demo.printed == "BLOBCACHE_READ_ONLY must be 0 or 1, not 'no'.\n"


def test_another_redis_is_read_and_never_written(
    redis: Redis, valkey: embedded.Server, tmp_path: Path
) -> None:
    with commands(redis) as traffic:
        env = {"BLOBCACHE_REDIS_URL": valkey.url}
        with running(tmp_path / "var", tmp_path / "log", **env) as demo:
            assert demo.shown("Redis") == f"127.0.0.1:{valkey.port}, read only"
            assert len(demo.curls) == 5
            for line in demo.curls:
                run(line)
            assert demo.get("api/repositories/")["results"] == [{"name": "some/app", "blobs": 1}]
            browser = signed_in(demo, demo.shown("Password"))
            for page in ("repository", "blob", "repository/some_2Fapp/change"):
                browser.open(urljoin(demo.url, f"admin/blobcache/{page}/")).close()
    assert set(traffic.calls) <= READ_COMMANDS
    assert redis.dbsize() == 3


def test_another_redis_is_written_if_that_is_allowed(
    redis: Redis, valkey: embedded.Server, tmp_path: Path
) -> None:
    env = {"BLOBCACHE_REDIS_URL": valkey.url, "BLOBCACHE_READ_ONLY": "0"}
    with running(tmp_path / "var", tmp_path / "log", **env) as demo:
        assert demo.shown("Redis") == f"127.0.0.1:{valkey.port}"
        if sys.platform == "linux":
            assert processes_in(demo.data) == [], "no Valkey beside it"
        assert demo.get("api/repositories/")["count"] == 1
        run(next(line for line in demo.curls if "-X PUT" in line))
    assert redis.exists(keys.members("demo/hello"))
    assert redis.zrange(keys.CatalogKeys.of().names, 0, -1) == [b"demo/hello", b"some/app"]
