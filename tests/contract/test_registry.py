"""A real OCI registry: the same bytes under another name, in the same repository and in another one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from bot.catalog.load import load_catalog
from bot.delivery.registry import Registries, parse_repository
from bot.delivery.registry_doctor import check
from bot.doctor import said
from bot.errors import ProviderRejected, ProviderUnavailable
from tests.support.registry import PASSWORD, PROGRAM, USER, RealRegistry, docker_config, running_registry
from tests.support.running import settings_for
from tests.support.world import make_world

needs_registry = pytest.mark.skipif(
    not PROGRAM, reason="needs docker-registry (Debian: apt-get install docker-registry)"
)


@asynccontextmanager
async def both(
    directory: Path, *, locked: bool = False, auth_file: Path | None = None
) -> AsyncIterator[tuple[RealRegistry, Registries]]:
    async with running_registry(directory, locked=locked) as registry:
        ours = Registries(auth_file)
        try:
            yield registry, ours
        finally:
            await ours.close()


@needs_registry
async def test_a_digest_gets_a_name_and_keeps_its_bytes(tmp_path: Path) -> None:
    """Doing it again changes nothing; the name of a version is never moved, that of an environment is."""
    async with both(tmp_path) as (registry, ours):
        first = await registry.push("shop/pay", "one", "build-1")
        second = await registry.push("shop/pay", "two")
        image = f"{registry.host}/shop/pay"
        for _ in range(2):
            await ours.tag(image, first, {"1.4.2": False, "prod": True})
        assert await registry.digest_of("shop/pay", "1.4.2") == first
        with pytest.raises(ProviderRejected, match=r"pay:1\.4\.2 is another image already"):
            await ours.tag(image, second, {"1.4.2": False, "prod": True})
        assert await registry.digest_of("shop/pay", "prod") == first
        await ours.tag(image, second, {"1.4.3": False, "prod": True})
        assert await registry.digest_of("shop/pay", "prod") == second


@needs_registry
@pytest.mark.parametrize("mounted", [True, False])
async def test_an_image_moves_to_another_repository_whole(tmp_path: Path, mounted: bool) -> None:
    """All platforms and layers, by mounting within one registry and by bytes between two; the digest is the same."""
    async with both(tmp_path / "a") as (source, ours), running_registry(tmp_path / "b") as other:
        target = source if mounted else other
        images = [await source.push("dev/pay", text) for text in ("amd64", "arm64")]
        index = await source.push_index("dev/pay", images)
        await ours.tag(f"{target.host}/prod/pay", index, {"1.4.2": False}, f"{source.host}/dev/pay")
        assert await target.digest_of("prod/pay", "1.4.2") == index
        assert [await target.layer_of("prod/pay", one) for one in images] == ["amd64", "arm64"]


@needs_registry
async def test_credentials_are_those_of_docker_login(tmp_path: Path) -> None:
    """Without them it is one clear sentence, and no password is ever in it."""
    async with running_registry(tmp_path, locked=True) as registry:
        digest = await registry.push("shop/pay", "one")
        image = f"{registry.host}/shop/pay"
        stranger = Registries()
        with pytest.raises(ProviderRejected, match="lets Slipway not write") as refused:
            await stranger.tag(image, digest, {"prod": True})
        assert PASSWORD not in str(refused.value)
        known = Registries(docker_config(tmp_path / "config.json", registry.host, PASSWORD))
        await known.tag(image, digest, {"prod": True})
        assert await registry.digest_of("shop/pay", "prod") == digest
        await stranger.close()
        await known.close()


@needs_registry
async def test_the_doctor_says_whether_images_may_be_written(tmp_path: Path) -> None:
    """Before the first promotion finds it out; nothing is left in the registry."""
    async with running_registry(tmp_path / "registry", locked=True) as registry:
        world = make_world(tmp_path / "world")
        world.change_environment("prod", promote={"image": f"{registry.host}/shop/{{service}}"})
        auth = docker_config(tmp_path / "config.json", registry.host, PASSWORD)

        async def findings(auth_file: Path | None) -> list[str]:
            settings = settings_for(world).model_copy(update={"registry_auth_file": auth_file})
            return [said(one) async for one in check(settings, load_catalog(world.directory))]

        assert await findings(auth) == [f"ok  registry: {registry.host}/shop/app may be written."]
        (refused,) = await findings(None)
        assert refused.startswith(
            f"FIX registry: The registry {registry.host} lets Slipway not write to shop/app (401)."
        )


@needs_registry
async def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """An unknown digest, a registry that is down, and names that are none."""
    async with both(tmp_path) as (registry, ours):
        await registry.push("shop/pay", "one")
        with pytest.raises(ProviderRejected, match="has no image sha256:0000"):
            await ours.tag(f"{registry.host}/shop/pay", f"sha256:{'0' * 64}", {"prod": True})
        with pytest.raises(ProviderRejected, match="no image digest"):
            await ours.tag(f"{registry.host}/shop/pay", "latest", {"prod": True})
    dead = Registries()
    with pytest.raises(ProviderUnavailable, match="is not reached"):
        await dead.tag(f"{registry.host}/shop/pay", f"sha256:{'0' * 64}", {"prod": True})
    await dead.close()


@pytest.mark.parametrize("image", ["pay", "shop/pay", "registry.example/Pay", "registry.example/pay:1", "https://x/y"])
def test_an_image_without_its_registry_is_refused(image: str) -> None:
    """Nothing is guessed: `shop/pay` would be somebody else's on the public registry."""
    with pytest.raises(ProviderRejected, match="no image with its registry"):
        parse_repository(image)


@needs_registry
async def test_a_token_service_is_asked_for_exactly_what_is_needed(tmp_path: Path) -> None:
    """The token flow of public registries; mounting from another repository needs the right to read that one too."""
    async with running_registry(tmp_path / "real") as registry:
        digest = await registry.push("dev/pay", "one")
        async with token_front(registry) as (host, asked):
            ours = Registries(docker_config(tmp_path / "config.json", host, PASSWORD))
            await ours.tag(f"{host}/prod/pay", digest, {"1.4.2": False}, f"{host}/dev/pay")
            await ours.close()
        assert await registry.digest_of("prod/pay", "1.4.2") == digest
    assert ["repository:prod/pay:pull,push", "repository:dev/pay:pull"] in asked


@asynccontextmanager
async def token_front(registry: RealRegistry) -> AsyncIterator[tuple[str, list[list[str]]]]:
    """In front of a registry: who has no token for these scopes is sent to `/token` for one."""
    asked: list[list[str]] = []
    runner = web.AppRunner(_front(registry, asked))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def _front(registry: RealRegistry, asked: list[list[str]]) -> web.Application:
    client = httpx.AsyncClient(base_url=f"http://{registry.host}", trust_env=False)

    async def token(request: web.Request) -> web.Response:
        from aiohttp import BasicAuth

        who = BasicAuth.decode(request.headers["Authorization"])
        assert (who.login, who.password, request.query["service"]) == (USER, PASSWORD, "front")
        asked.append(request.query.getall("scope"))
        return web.json_response({"access_token": " ".join(asked[-1]), "expires_in": 60})

    async def forward(request: web.Request) -> web.StreamResponse:
        repository = request.path.split("/manifests/")[0].split("/blobs/")[0].removeprefix("/v2/")
        needed = [f"repository:{repository}:{'pull' if request.method in ('GET', 'HEAD') else 'pull,push'}"]
        needed += [f"repository:{request.query['from']}:pull"] if "from" in request.query else []
        if request.headers.get("Authorization") != f"Bearer {' '.join(needed)}":
            realm = f'Bearer realm="http://{request.host}/token",service="front",scope="{" ".join(needed)}"'
            return web.json_response(
                {"errors": [{"code": "UNAUTHORIZED"}]}, status=401, headers={"WWW-Authenticate": realm}
            )
        kept = {name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers}
        body = await request.read()
        answer = await client.request(request.method, request.path_qs, headers=kept, content=body)
        headers = {n: v for n, v in answer.headers.items() if n.casefold() not in ("content-length", "connection")}
        return web.Response(status=answer.status_code, body=answer.content, headers=headers)

    async def close(_app: web.Application) -> None:
        await client.aclose()

    app = web.Application()
    app.router.add_get("/token", token)
    app.router.add_route("*", "/v2/{rest:.*}", forward)
    app.on_cleanup.append(close)
    return app
