#!/usr/bin/python3
"""Answers through the gateway and the bus, against nghttpd and nginx that serve the same bytes as files: GET /version,
and GET /cluster/resources with 1,000 and 10,000 guests.

usage: bench_http.py [BUILD_FOLDER]     a release build with atoll-api-gateway and gw_fake_backend (build/release)

All over HTTP/2 and TLS with one certificate, driven by h2load, in turns in one run; the medians and their ratios are
printed. Budgets (docs/ARCHITECTURE.md): at least half of nginx for /version with several streams at once; 5 ms and
50 ms for the lists. Exit code 1 when one is not held.
"""
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build", "release"))
os.environ["ATL_BIN"] = os.path.join(BUILD, "bin")
os.environ["ATL_OPENAPI"] = os.path.join(BUILD, "gen", "openapi.json")
sys.path.insert(0, os.path.join(TOP, "tests", "api"))
from measure import end_in_order, undisturbed  # noqa: E402
from gateway_env import TOKEN, Gateway, wait_for  # noqa: E402  (its folders come from the environment)

ROUNDS = 5
BUDGET = 0.5
SHAPES = [("8 connections, 16 streams each", 8, 16, 60000), ("4 connections, 100 streams each", 4, 100, 60000),
          ("32 connections, 1 stream each", 32, 1, 20000), ("1 connection, 1 stream", 1, 1, 5000)]
LISTS = [("/cluster/resources, 1,000 guests", "/cluster/resources?type=node", "thousand", 200, 5),
         ("/cluster/resources, 10,000 guests", "/cluster/resources?type=vm", "ten-thousand", 30, 50)]
NGINX = """worker_processes 1; daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000000; open_file_cache max=100; default_type application/json;
client_body_temp_path {dir}/t; proxy_temp_path {dir}/t; fastcgi_temp_path {dir}/t; uwsgi_temp_path {dir}/t;
scgi_temp_path {dir}/t;
server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {cert}; ssl_certificate_key {key}; root {dir}/www; }} }}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def rate(url, connections, streams, requests):
    done = subprocess.run(["h2load", "-n", str(requests), "-c", str(connections), "-m", str(streams), "-H", TOKEN, url],
                          capture_output=True, text=True, check=True)
    if f"{requests} 2xx" not in done.stdout:
        raise SystemExit(f"not all requests to {url} succeeded:\n{done.stdout}")
    return float(re.search(r"([0-9.]+) req/s", done.stdout).group(1))


def fetch(gateway, path):
    return subprocess.run(["curl", "-sS", "--cacert", gateway.ca, "-H", TOKEN,
                           f"https://127.0.0.1:{gateway.port}/api2/json{path}"], capture_output=True, check=True).stdout


def start_peers(gateway, files, peers):
    """Fills in {name: (process, url)} as they start."""
    folder = gateway.folder.name
    key = gateway.ca.replace("cert.pem", "key.pem")
    os.makedirs(os.path.join(folder, "www"))
    for name, body in files.items():
        with open(os.path.join(folder, "www", name), "wb") as file:
            file.write(body)
    os.chmod(folder, 0o755)
    port = free_port()
    log = open(os.path.join(folder, "peers.log"), "wb")  # pylint: disable=consider-using-with
    process = subprocess.Popen(["nghttpd", "-d", os.path.join(folder, "www"), "-a", "127.0.0.1", str(port), key,
                                gateway.ca], stdout=log, stderr=log)
    peers["nghttpd"] = (process, f"https://127.0.0.1:{port}/")
    if shutil.which("nginx"):
        port = free_port()
        path = os.path.join(folder, "nginx.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(NGINX.format(dir=folder, port=port, cert=gateway.ca, key=key))
        process = subprocess.Popen(["nginx", "-p", folder, "-c", path], stdout=log, stderr=log)
        peers["nginx"] = (process, f"https://127.0.0.1:{port}/")
    for _, url in peers.values():
        number = int(url.split(":")[2].split("/")[0])
        wait_for(url, 10, lambda number=number: listens(number))


def measure(urls, shape):
    """{name: median rate}"""
    rates = {name: [] for name in urls}
    for _ in range(ROUNDS):
        for name, url in urls.items():
            rates[name].append(rate(url, *shape))
    return {name: statistics.median(values) for name, values in rates.items()}


def measure_all(gateway, peers):
    """[(what, {name: median rate}, budget or None, held)]"""
    rows = []
    base = f"https://127.0.0.1:{gateway.port}/api2/json"
    for text, *shape in SHAPES:
        urls = {"atoll": base + "/version", **{name: peer[1] + "version" for name, peer in peers.items()}}
        row = measure(urls, shape)
        rows.append((f"/version, {text}", row))
    for text, path, file, requests, _ in LISTS:
        urls = {"atoll": base + path, **{name: peer[1] + file for name, peer in peers.items()}}
        rows.append((text, measure(urls, (1, 1, requests))))
    return rows


def main():
    end_in_order()
    gateway = Gateway()
    peers = {}
    try:
        files = {"version": fetch(gateway, "/version"), **{file: fetch(gateway, path) for _, path, file, _, _ in LISTS}}
        start_peers(gateway, files, peers)
        rows = measure_all(gateway, peers)
    finally:
        undisturbed()
        for process, _ in peers.values():
            process.terminate()
            process.wait()
        gateway.close()
    print(f"HTTP/2 and TLS, requests per second, median of {ROUNDS} rounds\n")
    print("| load | atoll, ms | atoll | " + " | ".join(peers) + " | " + " | ".join(f"atoll / {n}" for n in peers) + " |")
    print("| --- | --- | --- |" + " --- |" * (2 * len(peers)))
    for text, row in rows:
        cells = [f"{row[name]:.0f}" for name in ("atoll", *peers)]
        ratios = [f"{row['atoll'] / row[name]:.2f}" for name in peers]
        print(f"| {text} | {1000 / row['atoll']:.2f} | " + " | ".join(cells + ratios) + " |")
    return judge(dict(rows))


def judge(rows):
    held = True
    print()
    first = rows[f"/version, {SHAPES[0][0]}"]
    if "nginx" in first:
        good = first["atoll"] >= BUDGET * first["nginx"]
        held = held and good
        print(f"budget {BUDGET} of nginx (/version, {SHAPES[0][0]}): {'held' if good else 'NOT held'}")
    else:
        print("nginx is not installed (package nginx-light): its budget was not checked")
    for text, _, _, _, limit_ms in LISTS:
        good = 1000 / rows[text]["atoll"] <= limit_ms
        held = held and good
        print(f"budget {limit_ms} ms ({text}): {'held' if good else 'NOT held'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
