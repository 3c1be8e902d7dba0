"""`slipway serve | demo | check | migrate | why | doctor | report | audit`; `bot.cli` is where it begins."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bot import __version__, serving
from bot.lean import starting

app = typer.Typer(help="Release management from your chat.", no_args_is_help=True, add_completion=False)
audit_app = typer.Typer(help="The append-only audit log.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
policy_app = typer.Typer(help="Try the rules: cases, past deployments, other systems.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
manifest_app = typer.Typer(help="What to paste where an app is made.", no_args_is_help=True)
app.add_typer(manifest_app, name="manifest")

Config = Annotated[Path | None, typer.Option("--config", help="The catalog's directory; default SLIPWAY_CONFIG.")]
Data = Annotated[Path | None, typer.Option("--data", help="Where state is kept; default SLIPWAY_DATA.")]
Port = Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 picks a free one.")]


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def serve(
    config: Config = None,
    data: Data = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Port = None,
    console: Annotated[bool | None, typer.Option("--console/--no-console", help="The browser chat.")] = None,
) -> None:
    """Run Slipway for a catalog directory."""
    serving.serve(config=config, data=data, host=host, port=port, console=console)


@app.command()
def demo(
    directory: Annotated[Path, typer.Option("--dir", help="The workspace; made if it is not there.")] = Path(
        "slipway-demo"
    ),
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 picks a free one.")] = 8377,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")] = False,
) -> None:
    """Try everything on this machine: three real services, a chat in the browser, no account."""
    with starting() as settled:
        from bot.demo.run import run_demo

        def ready(host: str, port: int) -> None:
            settled()
            serving.say_ready(host, port)

        serving.run(run_demo(directory.absolute(), port, not no_browser, ready))


@app.command()
def check(
    directory: Annotated[Path | None, typer.Argument(help="The catalog's directory.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema for editors.")] = False,
) -> None:
    """Check a catalog directory; every mistake is named with file, line, field and what is allowed."""
    from bot.catalog.check import check as check_directory
    from bot.catalog.check import render_report
    from bot.catalog.schema import json_schema
    from bot.providers import known_everywhere

    if schema:
        typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return
    chosen = directory or serving.directory_of(None)
    if chosen is None:
        _fail("Which directory? Type slipway check DIR, or set SLIPWAY_CONFIG.")
    report = check_directory(chosen, known_everywhere())
    typer.echo(render_report(report))
    if report.problems:
        raise typer.Exit(1)


@app.command()
def migrate(config: Config = None, data: Data = None) -> None:
    """Bring the database to the schema this version needs. `serve` does it by itself."""
    from bot.settings import read_settings
    from bot.store.database import Database
    from bot.store.migrate import migrate as migrate_database

    settings = read_settings(os.environ, config=serving.directory_of(config), data=data)
    settings.data_directory.mkdir(parents=True, exist_ok=True)
    db = Database(settings.database)
    try:
        db.claim_file()
        typer.echo("migrated" if migrate_database(db) else "nothing to do")
    finally:
        db.close()


@app.command()
def archive(
    days: Annotated[int, typer.Option("--days", min=93, help="What ended longer ago.")] = 400,
    config: Config = None,
    data: Data = None,
) -> None:
    """Put away deployments of long ago, for a server whose account may not; /why, /status and /history still know."""
    from bot.clock import utc_now
    from bot.settings import read_settings
    from bot.store.database import Database
    from bot.store.put_away import put_away

    settings = read_settings(os.environ, config=serving.directory_of(config), data=data)
    db = Database(settings.database)
    try:
        db.claim_file()
        typer.echo(f"archived {asyncio.run(put_away(db, utc_now() - timedelta(days=days)))} deployments")
    finally:
        db.close()


@app.command()
def why(
    service: str,
    environment: str,
    when: Annotated[str, typer.Argument(help="now, +2h, tomorrow 10:00, 2026-11-24T10:00")] = "now",
    person: Annotated[str, typer.Option("--as", help="For whom.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="normal, hotfix, rollback or promotion.")] = "normal",
    config: Config = None,
    data: Data = None,
) -> None:
    """Explain a verdict by the catalog, and by the locks and freezes of a Slipway that ran on it."""
    from bot.catalog.find import find_environment, find_person, find_service
    from bot.catalog.load import load_catalog
    from bot.catalog.model import Kind
    from bot.deployments.facts import permission_for, standing_facts
    from bot.policy.decide import decide
    from bot.policy.model import Facts, PolicyRequest
    from bot.times import parse_when, say_when

    directory = serving.directory_of(config)
    if directory is None:
        _fail("Which catalog? Give --config DIR, or set SLIPWAY_CONFIG.")
    catalog = load_catalog(directory)
    known, place = find_service(catalog, service), find_environment(catalog, environment)
    caller = find_person(catalog, person or next(iter(known.owners), ""))
    at = parse_when(when, datetime.now(UTC), caller.zone or catalog.zone)
    if kind not in tuple(Kind):
        _fail(f"'{kind}' is no kind of deployment. There are {', '.join(Kind)}.")
    request = PolicyRequest(caller.id, permission_for(Kind(kind)), known.name, place.name, Kind(kind))
    now = datetime.now(UTC)
    kept = _has_database(config, data)
    facts = _read_database(config, data, lambda tx: standing_facts(tx, now)) if kept else Facts()
    verdict = decide(catalog, request, facts, at)
    typer.echo(f"{caller.name}, {known.name} to {place.name}, {say_when(at, catalog.zone)}: {verdict.outcome.value}")
    for reason in verdict.reasons:
        where = f" [{reason.rule} {reason.where}]".replace(" ]", "]") if reason.rule else ""
        typer.echo(f"{'x' if reason.blocking else '-'} {reason.code.value}: {reason.text}{where}")
    if verdict.next_change_at is not None:
        typer.echo(f"changes {say_when(verdict.next_change_at, catalog.zone)}")
    typer.echo(f"by {f'commit {catalog.commit}, ' if catalog.commit else ''}files {catalog.digest[:12]}")


@manifest_app.command("slack")
def manifest_slack(
    url: Annotated[str, typer.Option("--url", help="Public address of Slipway; empty for Socket Mode.")] = "",
) -> None:
    """Print the manifest to paste where a Slack app is made (api.slack.com/apps, From a manifest)."""
    import yaml

    from bot.app import COMMANDS, LATER_COMMANDS
    from bot.chat.slack_manifest import manifest

    known = (*COMMANDS, *LATER_COMMANDS)
    commands = [(one.name, one.summary, one.example.removeprefix(f"/{one.name}").strip()) for one in known]
    address = f"{url.rstrip('/')}/slack/events" if url else ""
    typer.echo(yaml.safe_dump(manifest(commands, address), sort_keys=False, allow_unicode=True).rstrip())


@manifest_app.command("feishu")
def manifest_feishu() -> None:
    """Print the scopes to import where a Feishu or Lark app is made (Permissions & Scopes, Batch import)."""
    import json

    from bot.chat.feishu_scopes import to_import

    typer.echo(json.dumps(to_import(), indent=2))


@app.command()
def doctor(config: Config = None, data: Data = None) -> None:
    """Check every configured system, scope and permission, and say what to fix; exit code 1 if anything is."""
    from bot.catalog.load import load_catalog
    from bot.doctor import examine, said
    from bot.settings import read_settings

    settings = read_settings(os.environ, config=serving.directory_of(config), data=data)
    catalog = load_catalog(settings.config)
    wrong = asyncio.run(examine(settings, catalog, lambda finding: typer.echo(said(finding))))
    typer.echo(f"{wrong} to fix" if wrong else "all is well")
    if wrong:
        raise typer.Exit(1)


@app.command("pass")
def give_pass(
    service: str,
    environment: str,
    release: Annotated[str, typer.Argument(help="Version, commit or digest; left out: whatever comes first.")] = "",
    person: Annotated[str, typer.Option("--as", help="Who deploys; must have the right to.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the audit log.")] = "",
    length: Annotated[str, typer.Option("--for", help="How long it is good for, at most 24h.")] = "60m",
    deploy: Annotated[bool, typer.Option("--deploy", help="Start the deployment too, and follow it.")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Break the glass when chat is down: let one deployment through closed windows, freezes and open approvals."""
    from bot.catalog.units import parse_duration
    from bot.server_pass import PassWish, break_glass

    try:
        lasts = parse_duration(length)
    except ValueError as error:
        _fail(f"--for {error}.")
    if not person:
        _fail("Who deploys? Add --as PERSON.")
    catalog = _catalog(config)
    wish = PassWish(service, environment, release, person, lasts, reason, deploy)
    db = _open_database(config, data)
    try:
        good = asyncio.run(break_glass(db, catalog, wish, datetime.now(UTC), typer.echo))
    finally:
        db.close()
    if not good:
        raise typer.Exit(1)


@policy_app.command("report")
def policy_report(
    since: Annotated[str, typer.Option("--since", help="How far back: 90d, 12h.")] = "90d",
    config: Config = None,
    data: Data = None,
) -> None:
    """List the emergencies of a time and what became of their reviews."""
    from bot.catalog.units import parse_duration
    from bot.deployments.reviews import report
    from bot.store import emergencies

    now = datetime.now(UTC)
    try:
        start = now - parse_duration(since)
    except ValueError as error:
        _fail(f"--since {error}.")
    found = _read_database(config, data, lambda tx: emergencies.since(tx, start))
    for line in report(found, now, "UTC"):
        typer.echo(line)


@app.command()
def report(
    team: Annotated[str, typer.Option("--team", help="Of one team; left out: of all.")] = "",
    days: Annotated[str, typer.Option("--days", help="How many days up to now.")] = "7",
    config: Config = None,
    data: Data = None,
) -> None:
    """Print how releases went as JSON: the four keys, emergency passes, slowest stages, of all and of each team."""
    from bot.app import report_once
    from bot.settings import read_settings

    settings = read_settings(os.environ, config=serving.directory_of(config), data=data)
    typer.echo(json.dumps(asyncio.run(report_once(settings, team, days)), indent=2, ensure_ascii=False))


@policy_app.command("test")
def policy_test(file: Annotated[Path, typer.Argument(help="YAML file of cases.")], config: Config = None) -> None:
    """Judge a table of cases; every one that is not as expected is named with file and line, and the exit code is 1."""
    from bot.policy.cases import check_cases, read_cases

    catalog = _catalog(config)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{file} cannot be read: {error}.")
    document, found = read_cases(str(file), text, catalog)
    checked = check_cases(document, found, catalog)
    wrong = [one for one in checked if one.problem]
    for one in wrong:
        typer.echo(f"{file}:{one.line}: {one.name}: {one.problem}")
    typer.echo(f"{len(checked) - len(wrong)} of {len(checked)} cases are as expected")
    if wrong:
        raise typer.Exit(1)


@policy_app.command("explain")
def policy_explain(
    deployment: Annotated[str, typer.Argument(help="Such as d-12.")],
    config: Config = None,
    data: Data = None,
    with_: Annotated[
        Path | None, typer.Option("--with", help="Another catalog; left out: the one of then, if it is in Git.")
    ] = None,
) -> None:
    """Show what the rules said of a deployment, and judge it again; exit code 1 if the answer is another one."""
    from bot.deployments.explain import explain
    from bot.deployments.model import parse_ref
    from bot.store import deployments as rows

    number = parse_ref(deployment)
    if number is None:
        _fail(f"'{deployment}' is no deployment. Deployments look like d-12.")
    seen = _read_database(config, data, lambda tx: rows.get(tx, number))
    if seen is None:
        _fail(f"There is no deployment d-{number}.")
    directory = serving.directory_of(config)
    if with_ is None and directory is None:
        _fail("Which catalog? Give --config DIR, or set SLIPWAY_CONFIG.")
    same = True
    for line, agrees in explain(seen, directory or Path(), with_.absolute() if with_ is not None else None):
        typer.echo(line)
        same = same and agrees
    if not same:
        raise typer.Exit(1)


@policy_app.command("replay")
def policy_replay(
    with_: Annotated[Path, typer.Option("--with", help="Directory of the catalog to try.")],
    since: Annotated[str, typer.Option("--since", help="How far back: 90d, 12h.")] = "90d",
    config: Config = None,
    data: Data = None,
) -> None:
    """List past deployments that the rules of another catalog would have stopped or let through."""
    from bot.catalog.load import load_catalog
    from bot.catalog.units import parse_duration
    from bot.deployments import past
    from bot.policy.replay import replay

    try:
        start = datetime.now(UTC) - parse_duration(since)
    except ValueError as error:
        _fail(f"--since {error}.")
    catalog = load_catalog(with_.absolute())
    known = _read_database(config, data, lambda tx: list(past.since(tx, start)))
    found = list(replay(catalog, known))
    for one in found:
        typer.echo(one.sentence())
    typer.echo(f"{len(found)} of {len(known)} deployments would be judged otherwise")


@policy_app.command("export")
def policy_export(
    system: Annotated[str, typer.Argument(help="argocd")],
    config: Config = None,
    application: Annotated[
        str, typer.Option("--application", help="Pattern of the applications' names.")
    ] = "{service}-{environment}",
) -> None:
    """Print our windows and freezes as Argo CD sync windows, which never allow more than we do."""
    import yaml

    from bot.policy.argocd import sync_windows

    if system != "argocd":
        _fail(f"There is no export for '{system}'; write argocd.")
    found = sync_windows(_catalog(config), application, now=datetime.now(UTC))
    typer.echo(yaml.safe_dump({"spec": {"syncWindows": [one.written() for one in found]}}, sort_keys=False))


@policy_app.command("compare")
def policy_compare(
    service: Annotated[str, typer.Argument(help="Left out: all.")] = "",
    environment: Annotated[str, typer.Argument(help="Left out: all.")] = "",
    config: Config = None,
    data: Data = None,
) -> None:
    """Warn where Argo CD's sync windows or GitLab's freeze periods would block what we allow in the next 14 days."""
    from bot.compare import compare
    from bot.deployments.facts import standing_facts
    from bot.policy.model import Facts
    from bot.settings import read_settings

    settings = read_settings(os.environ, config=serving.directory_of(config), data=data)
    catalog, now = _catalog(config), datetime.now(UTC)
    kept = _has_database(config, data)
    facts = _read_database(config, data, lambda tx: standing_facts(tx, now)) if kept else Facts()
    warned = asyncio.run(compare(settings, catalog, facts.freezes, service, environment, now, typer.echo))
    typer.echo(f"{warned} to look at" if warned else "nothing there blocks what we allow")
    if warned:
        raise typer.Exit(1)


def _catalog(config: Path | None) -> Any:
    from bot.catalog.load import load_catalog

    directory = serving.directory_of(config)
    if directory is None:
        _fail("Which catalog? Give --config DIR, or set SLIPWAY_CONFIG.")
    return load_catalog(directory)


@audit_app.command("verify")
def audit_verify(config: Config = None, data: Data = None) -> None:
    """Walk the whole chain; a changed or missing entry is named and the exit code is 1."""
    from bot.store import audit

    count, problem = _read_database(config, data, audit.verify)
    if problem:
        _fail(f"The audit log is broken after {count} whole entries: {problem}.")
    typer.echo(f"{count} entries, the chain is whole")


@audit_app.command("export")
def audit_export(config: Config = None, data: Data = None) -> None:
    """Print every entry as a line of JSON, with its number and hash."""
    from dataclasses import asdict

    from bot.store import audit

    def work(tx: Any) -> None:
        after = 0
        while rows := audit.entries(tx, after):
            for row in rows:
                record = {"seq": row.seq, **asdict(row.entry), "at": row.entry.at.isoformat(), "hash": row.hash}
                print(json.dumps(record, ensure_ascii=False))
            after = rows[-1].seq

    _read_database(config, data, work)


def _has_database(config: Path | None, data: Path | None) -> bool:
    from bot.settings import read_settings

    settings = read_settings(os.environ, config=serving.directory_of(config), data=data)
    return settings.database_url is not None or (settings.data_directory / "slipway.db").exists()


def _open_database(config: Path | None, data: Path | None) -> Any:
    """The database of a Slipway that ran, or runs."""
    from bot.settings import read_settings
    from bot.store.database import Database

    settings = read_settings(os.environ, config=serving.directory_of(config), data=data)
    if settings.database_url is None and not (settings.data_directory / "slipway.db").exists():
        _fail(f"There is no database in {settings.data_directory}. Give --config or --data of a Slipway that ran.")
    return Database(settings.database)


def _read_database(config: Path | None, data: Path | None, work: Any) -> Any:
    from bot.store.migrate import HEAD, current

    db = _open_database(config, data)
    try:
        if (revision := asyncio.run(db.read(current))) != HEAD:
            _fail(
                f"The database has the tables of another Slipway ({revision or 'none'} instead of {HEAD}). "
                "Run `slipway migrate` if it is older, or use the version that made it."
            )
        return asyncio.run(db.read(work))
    finally:
        db.close()


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"slipway: {sentence}", err=True)
    raise SystemExit(1)
