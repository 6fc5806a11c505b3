"""What a job decorator costs on an empty function, against the field; and what a whole run costs with and without it.

    python tests/bench/job.py [--rounds 30] [--calls 2000]

Each variant runs in a process of its own; a round asks each process, in random order, for the CPU time (all threads)
of a number of calls, less that of a loop which calls nothing. Lines go to a pipe that is read, spans to a sink in
another process. Medians over rounds, as ratios to autometrics, which counts and times and does nothing else.

Peers: pip install logfire autometrics opentelemetry-exporter-prometheus (autometrics pins versions of 2023; --no-deps).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from sink import collector

Call = Callable[..., Any]


def bare() -> tuple[Call, Call]:
    async def empty() -> None:
        return None

    def plain() -> None:
        return None

    return empty, plain


def decorated(decorator: Callable[[Call], Call]) -> tuple[Call, Call]:
    empty, plain = bare()
    return decorator(empty), decorator(plain)


def ours() -> tuple[Call, Call]:
    import connectsoft_obs as obs

    obs.configure(service="bench").serve()
    return decorated(obs.job)


def ours_unsampled() -> tuple[Call, Call]:
    os.environ["OTEL_TRACES_SAMPLER"] = "always_off"
    return ours()


def ours_quiet() -> tuple[Call, Call]:
    os.environ["CONNECTSOFT_OBS_ACCESS_LOG"] = "errors"
    return ours()


def ours_message() -> tuple[Call, Call]:
    import connectsoft_obs as obs

    obs.configure(service="bench").serve()
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    @obs.consumer("orders", system="rabbitmq", headers=lambda _: headers)
    async def consume(message: object) -> None:
        return None

    @obs.consumer("orders", system="rabbitmq", headers=lambda _: headers)
    def consume_plain(message: object) -> None:
        return None

    return lambda: consume(headers), lambda: consume_plain(headers)


def ours_block() -> tuple[Call, Call]:
    import connectsoft_obs as obs

    obs.configure(service="bench").serve()

    async def empty() -> None:
        with obs.operation("empty"):
            pass

    def plain() -> None:
        with obs.operation("empty"):
            pass

    return empty, plain


def autometrics() -> tuple[Call, Call]:
    import autometrics

    peer: Any = autometrics
    peer.init(tracker="prometheus")
    return decorated(peer.autometrics)


def logfire() -> tuple[Call, Call]:
    import logfire as peer

    peer.configure(send_to_logfire=False, console=False, additional_span_processors=[_exporting()], metrics=False)
    return decorated(peer.instrument())


def otel_span() -> tuple[Call, Call]:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    provider.add_span_processor(_exporting())
    tracer = provider.get_tracer("bench")

    async def empty() -> None:
        with tracer.start_as_current_span("run empty"):
            return None

    def plain() -> None:
        with tracer.start_as_current_span("run plain"):
            return None

    return empty, plain


def by_hand() -> tuple[Call, Call]:
    """Span, labels() and a structlog line, as a careful engineer writes them today."""
    import prometheus_client
    import structlog
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    provider.add_span_processor(_exporting())
    tracer = provider.get_tracer("bench")
    duration = prometheus_client.Histogram("job_seconds", "d", ["job", "trigger", "outcome"])
    active = prometheus_client.Gauge("job_active", "a", ["job"])
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ]
    )
    log = structlog.get_logger()

    class Observed:
        def __enter__(self) -> None:
            self.start = time.perf_counter()
            active.labels("empty").inc()
            self.span = tracer.start_as_current_span("run empty", attributes={"job": "empty", "trigger": "timer"})
            self.span.__enter__()

        def __exit__(self, *error: Any) -> None:
            seconds = time.perf_counter() - self.start
            duration.labels("empty", "timer", "success").observe(seconds)
            active.labels("empty").dec()
            log.info("run empty", job="empty", outcome="success", duration=seconds)
            self.span.__exit__(*error)

    async def empty() -> None:
        with Observed():
            return None

    def plain() -> None:
        with Observed():
            return None

    return empty, plain


def _exporting() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=os.environ["SINK"] + "/v1/traces"))


VARIANTS = {
    "bare function": bare,
    "autometrics (metrics)": autometrics,
    "obs.job (metrics, trace, line)": ours,
    "obs.job, unsampled": ours_unsampled,
    "obs.job, access_log=errors": ours_quiet,
    "obs.consumer, message with a trace": ours_message,
    "obs.operation() block": ours_block,
    "OpenTelemetry span by hand (trace)": otel_span,
    "logfire.instrument (trace)": logfire,
    "span + labels() + structlog by hand": by_hand,
}


def serve(variant: str, control: socket.socket, calls: int) -> None:
    """The process of one variant: a byte in, a measurement out."""
    asynchronous, plain = VARIANTS[variant]()

    async def looped(call: Call) -> int:
        began = time.process_time_ns()
        for _ in range(calls):
            await call()
        return time.process_time_ns() - began

    def straight(call: Call) -> int:
        began = time.process_time_ns()
        for _ in range(calls):
            call()
        return time.process_time_ns() - began

    with asyncio.Runner() as runner:
        runner.run(looped(asynchronous))
        straight(plain)
        gc.collect()
        gc.freeze()
        while kind := control.recv(1):
            if kind == b"a":
                spent = runner.run(looped(asynchronous))
            else:
                spent = straight(plain)
            control.sendall(json.dumps(spent / calls).encode() + b"\n")


def child(variant: str, calls: int, sink: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    near, far = socket.socketpair()
    env = {**os.environ, "SINK": sink, "OTEL_EXPORTER_OTLP_ENDPOINT": sink, "OTEL_TRACES_EXPORTER": "otlp"}
    command = [sys.executable, __file__, "--serve", variant, "--fd", str(far.fileno()), "--calls", str(calls)]
    process = subprocess.Popen(command, env=env, pass_fds=[far.fileno()], stdout=subprocess.PIPE)
    far.close()
    threading.Thread(target=_swallow, args=[process.stdout], daemon=True).start()
    return process, near


def _swallow(stream: Any) -> None:
    while stream.read1(1 << 20):
        pass


def measure(rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """By variant: nanoseconds that it adds to an async and to a sync function, and the same over autometrics'."""
    with collector() as sink:
        children = {name: child(name, calls, sink) for name in VARIANTS}
        spent: dict[tuple[str, bytes], list[float]] = {}
        for _ in range(rounds):
            order = [(name, kind) for name in children for kind in (b"a", b"s")]
            random.shuffle(order)
            for name, kind in order:
                spent.setdefault((name, kind), []).append(ask(children[name][1], kind))
        for process, control in children.values():
            control.close()
            process.kill()
    found: dict[str, dict[str, float]] = {}
    for kind, word in ((b"a", "async"), (b"s", "sync")):
        empty = statistics.median(spent["bare function", kind])
        least = statistics.median(spent["autometrics (metrics)", kind]) - empty
        for name in children:
            added = statistics.median(spent[name, kind]) - empty
            found.setdefault(name, {}).update({word: added, f"{word} ratio": added / least})
    return found


def ask(control: socket.socket, kind: bytes) -> float:
    control.sendall(kind)
    answer = b""
    while not answer.endswith(b"\n"):
        piece = control.recv(64)
        if not piece:
            message = "a variant ended"
            raise SystemExit(message)
        answer += piece
    return float(answer)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--serve")
    parser.add_argument("--fd", type=int)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, socket.socket(fileno=options.fd), options.calls)
        return
    print(f"{'variant':<40}{'async ns':>10}{'x autometrics':>15}{'sync ns':>10}{'x autometrics':>15}")
    for name, row in measure(options.rounds, options.calls).items():
        cells = [f"{row[word]:>10.0f}{row[f'{word} ratio']:>15.2f}" for word in ("async", "sync")]
        print(f"{name:<40}{''.join(cells)}")


if __name__ == "__main__":
    main()
