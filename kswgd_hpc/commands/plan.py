"""python -m kswgd_hpc plan config.yaml -n 256: memory, work, time and messages of a run, before it is submitted."""

from __future__ import annotations

import argparse

from kswgd_hpc.commands import configuration_errors


def main(argv: list[str]) -> int:
    """Print what a run will need on some number of ranks. Returns 0, or 2 for what cannot be run or cannot fit."""
    parser = argparse.ArgumentParser(prog="kswgd-hpc plan", description=__doc__)
    parser.add_argument("config", help="configuration file (YAML)")
    parser.add_argument("-n", "--ranks", type=int, default=1)
    parser.add_argument("--ranks-per-node", type=int, help="ranks that share a node; all of them, if not said")
    parser.add_argument("--memory-per-node", type=float, help="in GB; that of this machine, if not said")
    parser.add_argument("--latency", type=float, default=2e-6, help="of the network, in seconds (2e-6)")
    parser.add_argument("--bandwidth", type=float, default=10e9, help="of the network, in bytes a second (10e9)")
    parser.add_argument("--no-time", action="store_true", help="leave out the calibration, which takes half a minute")
    options = parser.parse_args(argv)
    if options.ranks < 1 or (options.ranks_per_node is not None and options.ranks_per_node < 1):
        parser.error("a run has at least one rank")
    if options.memory_per_node is not None and not options.memory_per_node > 0:
        parser.error("--memory-per-node is a number of GB")
    if not (options.latency >= 0 and options.bandwidth > 0):
        parser.error("--latency and --bandwidth are those of a network")
    return configuration_errors(lambda: _plan(options))


def _plan(options) -> int:
    from kswgd_hpc.machine import start_petsc

    start_petsc()
    from kswgd_hpc import memory, work
    from kswgd_hpc.config import load
    from kswgd_hpc.plan import build
    from kswgd_hpc.sizes import sizes

    config, text = load(options.config)
    size, ranks = sizes(config), options.ranks
    on_node = min(options.ranks_per_node or ranks, ranks)
    available = options.memory_per_node * 1e9 if options.memory_per_node else memory.of_machine()
    parts = memory.per_rank(config, size, ranks)
    print(f"{config.title}: {ranks} rank{'s' * (ranks > 1)}, {on_node} on a node of {memory.readable(available)}")
    if not options.ranks_per_node and ranks > 1:
        print("(if they are on several nodes, say so: --ranks-per-node 64 --memory-per-node 256)")
    print()
    print(
        f"{size.trajectories} trajectories in R^{size.dimension}, {size.steps} steps; {size.coordinates} coordinates, "
        f"{size.functions} functions, {size.trajectories * size.pairs.starts:.4g} pairs; {size.particles} particles\n"
    )
    for name, needed in sorted(parts.items(), key=lambda part: -part[1]):
        print(f"  {name:<22} {memory.readable(needed):>10} a rank")
    print(f"  {'memory, at most':<22} {memory.readable(sum(parts.values())):>10} a rank\n")
    memory.check(config, ranks, on_node, available)
    build(config)
    if ranks > size.blocks:
        print(f"only {size.blocks} ranks have trajectories to run: more ranks than that make nothing faster\n")
    for name, flops in work.flops(config, size).items():
        print(f"  {name:<22} {flops:>10.3g} floating point operations, {flops / ranks:.3g} a rank")
    if not options.no_time:
        _times(options, config, text)
    return 0


def _times(options, config, text: str) -> None:
    from kswgd_hpc import memory, scaling
    from kswgd_hpc.errors import KswgdError
    from spde.errors import SpdeError

    network = scaling.Network(options.latency, options.bandwidth)
    try:
        models = scaling.calibrate(config, text)
    except (KswgdError, SpdeError) as error:
        print(f"\nno times: {error}")
        return
    predictions = scaling.predict(models, config, options.ranks, network)
    print(f"\n  {'stage':<22} {'work s':>10} {'messages':>10} {'sending s':>10} {'bytes':>10}")
    for p in predictions:
        sent = memory.readable(p.sent)
        print(f"  {p.stage:<22} {p.work:>10.3g} {p.calls:>10} {p.messages:>10.2g} {sent:>10}")
    seconds, one = scaling.total(predictions), scaling.total(scaling.predict(models, config, 1, network))
    print(
        f"  {'all':<22} {seconds:>10.3g} {sum(p.calls for p in predictions):>10} "
        f"{sum(p.messages for p in predictions):>10.2g} {memory.readable(sum(p.sent for p in predictions)):>10}\n"
    )
    print(f"one rank would take {one:.3g} s: parallel efficiency {one / seconds / options.ranks:.0%}")
    steps = next((model.steps for model in models if model.steps is not None), None)
    moved = "" if config.kswgd is None else f"; transport in {steps or config.kswgd.steps} steps"
    if config.kswgd is not None:
        moved += ", as the small runs" if steps else ", all that it may take"
    print(
        f"calibrated on this machine by two small runs; a network of {1e6 * network.latency:g} us and "
        f"{network.bandwidth / 1e9:g} GB/s{moved}"
    )
