"""Wait until services answer: all after a start, or those that a command needs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from terraflow.console import command, say, table
from terraflow.errors import ServiceError
from terraflow.settings import Settings
from terraflow.stack import minio
from terraflow.stack.services import SERVICES, Service, is_ready
from terraflow.stack.status import START_S, memory_mb, total_mb
from terraflow.state import read_all, read_state

__all__ = ["wait_for", "wait_until_ready", "watched"]

REMIND_S = 10.0
#: Between two looks at services that something needs; how long one may be silent untold.
LOOK_S, SILENT_S = 2.0, 6.0


def wait_until_ready(
    settings: Settings,
    services: list[Service],
    began: float,
    *,
    alive: Callable[[], bool],
    when_ready: Callable[[Settings], None] = lambda _: None,
) -> None:
    """Print a line as each service becomes ready, then the table.

    Parameters
    ----------
    began : float
        Seconds since the epoch, from which the times count.
    alive : callable
        Tells whether the stack is still being started.
    when_ready : callable
        Done when no service is waited for any more.

    Raises
    ------
    ServiceError
        Services failed, or did not answer within 300 seconds.
    """
    say(f"Starting {', '.join(service.name for service in services)}")
    took: dict[str, float] = {}
    failed: dict[str, str] = {}
    reminded = time.monotonic()
    deadline = reminded + START_S
    while len(took) + len(failed) < len(services):
        for service in services:
            if service.name in took or service.name in failed:
                continue
            state = read_state(settings.run_dir, service.name)
            cause = next((name for name in service.after if name in failed), None)
            if cause or (state and state.phase == "failed"):
                reason = f"it needs {cause}" if cause else state.reason  # type: ignore[union-attr]
                failed[service.name] = reason
                say(f"  {service.name:<22} failed: {reason}")
            elif is_ready(service, settings, state):
                seconds = took[service.name] = time.time() - began
                ready = f"  {service.name:<22} ready after {seconds:.1f} s  {service.url(settings)}"
                say(ready.rstrip())
        missing = [s.name for s in services if s.name not in took and s.name not in failed]
        if missing and not alive():
            raise ServiceError(
                f"The stack was stopped before {', '.join(missing)} answered; see "
                f"{settings.log_dir}, or `{command('logs', missing[0])}`."
            )
        if time.monotonic() > deadline and not _is_building(missing):
            raise _late(missing)
        if missing and time.monotonic() - reminded > REMIND_S:
            reminded = time.monotonic()
            told = f"  still starting after {time.time() - began:.0f} s: {', '.join(missing)}"
            say(told + _progress(settings, missing))
        time.sleep(0.2)
    when_ready(settings)
    states = read_all(settings.run_dir)
    table(
        ("service", "seconds", "MB", "URL"),
        [
            (s.name, f"{took[s.name]:.1f}", f"{memory_mb(states[s.name].pid):.0f}", s.url(settings))
            for s in services
            if s.name in took
        ],
    )
    say(f"All of it: {time.time() - began:.1f} s, {total_mb(settings):.0f} MB.")
    if failed:
        raise ServiceError(f"{', '.join(failed)} failed; the other services go on.")


def wait_for(settings: Settings, names: Iterable[str]) -> None:
    """Wait for services that are being started, and tell so; leave those that nobody started.

    Parameters
    ----------
    names : iterable of str
        Services; those that the settings have no use for are left out.

    Raises
    ------
    ServiceError
        One failed, or did not answer within 300 seconds.
    """
    began = time.monotonic()
    told = began - REMIND_S
    while missing := [name for name in names if _is_coming(SERVICES[name], settings)]:
        now = time.monotonic()
        if now > began + START_S and not _is_building(missing):
            raise _late(missing)
        if now > told + REMIND_S:
            told = now
            say(f"Waiting for {', '.join(missing)}{_progress(settings, missing)}")
        time.sleep(0.2)


@contextmanager
def watched(settings: Settings, names: Iterable[str]) -> Iterator[None]:
    """Tell, while something is done, which of the services that it needs has ceased to answer.

    What is done waits for it, or tries again, without a word of its own.
    """
    services = [SERVICES[name] for name in names if SERVICES[name].has_use(settings)]
    running = [s for s in services if (state := read_state(settings.run_dir, s.name)) and state.pid]
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(settings, running, ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()


def _watch(settings: Settings, services: list[Service], ended: threading.Event) -> None:
    silent: dict[str, float] = {}
    told: set[str] = set()
    while not ended.wait(LOOK_S):
        for service in services:
            name, state = service.name, read_state(settings.run_dir, service.name)
            if is_ready(service, settings, state):
                silent.pop(name, None)
                if name in told:
                    told.remove(name)
                    say(f"{name} answers again.")
                continue
            since = silent.setdefault(name, time.monotonic())
            if name not in told and time.monotonic() - since >= SILENT_S:
                told.add(name)
                reason = f" ({state.reason})" if state and state.reason else ""
                say(
                    f"{name} has not answered for {time.monotonic() - since:.0f} s{reason}; this "
                    f"waits for it. See `{command('status')}`."
                )


def _is_coming(service: Service, settings: Settings) -> bool:
    """Tell whether it has been started and does not answer yet."""
    if not service.has_use(settings):
        return False
    state = read_state(settings.run_dir, service.name)
    if not state or state.phase == "stopped" or is_ready(service, settings, state):
        return False
    if state.phase == "failed":
        name = service.name
        raise ServiceError(f"{name} failed: {state.reason}; see `{command('logs', name)}`.")
    return True


def _late(missing: list[str]) -> ServiceError:
    return ServiceError(
        f"{', '.join(missing)} did not answer within {START_S:.0f} s; see "
        f"`{command('logs', missing[0])}`."
    )


def _is_building(missing: list[str]) -> bool:
    return "minio" in missing and not minio.find()


def _progress(settings: Settings, missing: list[str]) -> str:
    """Tell what keeps the services, where something tells."""
    if _is_building(missing):
        return f" ({minio.last_word(settings.log_dir)})"
    states = [read_state(settings.run_dir, name) for name in missing]
    told = [f"{s.service} {s.reason}" for s in states if s and s.reason and s.phase != "waiting"]
    return f" ({'; '.join(told)})" if told else ""
