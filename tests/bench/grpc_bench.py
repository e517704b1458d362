"""`./x bench grpc`: the same reads and writes over HTTP and gRPC on one server, and what gRPC itself costs.

The floor is grpc.health.v1's Check on the same port: a call that does nothing. Protocols take turns
for ROUNDS rounds and a figure is the median.
"""

import json
import statistics
import subprocess

from bench import CONNECTIONS, KEYS, RELEASE, Onggi, load, prepare

GRPC_LOAD = RELEASE / "tests" / "bench" / "onggi_grpc_load"


def grpc_load(address, method, seconds, calls=CONNECTIONS, connections=2, warmup=1.0):
    """One line of figures, as load() of bench.py."""
    arguments = [GRPC_LOAD, "--port", address.rsplit(":", 1)[1], "--calls", calls, "--connections", connections,
                 "--duration", seconds, "--warmup", warmup, "--method", method, "--table", "bench", "--keys", KEYS]
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True,
                            timeout=seconds + warmup + 60)
    if result.returncode != 0:
        raise RuntimeError(f"{method}: {result.stdout}{result.stderr}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def bench_grpc(seconds, rounds):
    """Lines of a table, and prints each round."""
    server = Onggi()
    try:
        prepare(server.port)
        address = server.server.grpc
        runs = {
            ("GetItem", "HTTP"): lambda: load(server.port, "GetItem", seconds),
            ("GetItem", "gRPC"): lambda: grpc_load(address, "get", seconds),
            ("PutItem", "HTTP"): lambda: load(server.port, "PutItem", seconds),
            ("PutItem", "gRPC"): lambda: grpc_load(address, "put", seconds),
            ("nothing", "gRPC"): lambda: grpc_load(address, "floor", seconds),
        }
        results = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                result = run()
                results[name].append(result)
                print(f"  {name[0]:<8} {name[1]:<5} {result['requests_per_second']:>9.0f}/s  "
                      f"p50 {result['p50_us']:.0f}  p99 {result['p99_us']:.0f} us", flush=True)
    finally:
        server.close()

    def median(name, key):
        return statistics.median(r[key] for r in results[name])

    floor = median(("nothing", "gRPC"), "requests_per_second")
    lines = ["| operation | over | requests/s | p50 ms | p99 ms | of gRPC's floor |",
             "| --- | --- | ---: | ---: | ---: | ---: |"]
    for name in runs:
        own = median(name, "requests_per_second")
        share = f"{own / floor:.2f}x" if name[1] == "gRPC" else ""
        lines.append(f"| {name[0]} | {name[1]} | {own:,.0f} | {median(name, 'p50_us') / 1000:.2f} | "
                     f"{median(name, 'p99_us') / 1000:.2f} | {share} |")
    return lines
