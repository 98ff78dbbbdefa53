"""Time to the same loss when workers are slow or pause, by what a worker waits for: on processes and in the simulator."""

import json
import random
import statistics
import tempfile
from pathlib import Path

import common

TITLE = "Stragglers: what a worker waits for"
WORKERS, SERVERS = 4, 2
STEPS = 100  # of a run, in one epoch: at its end all meet
BATCH, MODEL, RATE = 1024, "mlp:64", 0.4  # so many that an eighth of them, a microshard of dynamic balancing, costs mostly computing
EACH = 20  # times slower than this machine is every worker: it sleeps, and leaves the cores to others
DATA = f"digits:train={BATCH * (STEPS + 1)},test=500"
CALM = 50  # the loss to reach is that of so many calm synchronous steps
SMOOTH = 9  # losses that are averaged
SLOW = 5  # times slower, the last worker, always
CHANCE, PAUSE, SEED = 0.05, 20, 1  # a step's chance of a pause of so many steps' time
NETWORK = "10gigabit"
WORLDS = ("processes", "simulated")
WORSE = 0.8  # a rate at which asynchronous training is worse
MODES = {  # name: strategy, microshards, part of the rate
    "BSP": ("mode=bsp", WORKERS, 1),
    "BSP, dynamic balancing": ("mode=bsp,deal=dynamic", 2 * WORKERS, 1),
    "backup worker (1)": ("mode=backup,spare=1", WORKERS, 1),
    "SSP, bound 2": ("mode=ssp,staleness=2", WORKERS, 1),
    "SSP, bound 4": ("mode=ssp,staleness=4", WORKERS, 1),
    "SSP, bound 16": ("mode=ssp,staleness=16", WORKERS, 1),
    "GSSP, bound 4": ("mode=gssp,staleness=4", WORKERS, 1),
    "async": ("mode=async", WORKERS, 1 / WORKERS),
}
GOALS = (f"One worker of {WORKERS} always {SLOW} times slower: at least 2 times as fast as BSP",
         f"Each of {WORKERS} workers stands still for {PAUSE} steps' time with probability {CHANCE:.0%} a step: SSP with bound 16 at least 1.5 times as fast as BSP",
         "Asynchronous training can be worse: at a rate at which BSP learns, its loss is at least twice BSP's")


def compare(quick):
    times = 1 if quick else max(3, common.rounds)
    result = common.Result(TITLE, quick, note())
    result.rounds = times  # on processes; a simulation comes out the same each time
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        scripts = {n: d / f"{n}.txt" for n in ("calm", "slow", "pauses")}
        scripts["calm"].write_text(script([[1] * WORKERS] * STEPS))
        scripts["slow"].write_text(script([[1] * (WORKERS - 1) + [SLOW]] * STEPS))
        scripts["pauses"].write_text(script([[1 + PAUSE if is_one else 1 for is_one in step] for step in draws()]))
        goal = smooth(run(d, "simulated", "BSP", scripts["calm"]))[CALM - 1][1]  # synchronous training has the same losses in every world
        took = {(w, s): measure(d, w, script, goal, times) for w in WORLDS for s, script in scripts.items()}
        faster = lambda w, s, m: took[w, s]["BSP"] / took[w, s][m]
        result.table(f"Seconds to a loss of {goal:.3f}, and in brackets how many times as fast as BSP", ["mode", *(f"{w}: {s}" for w, s in took)],
                     [[m, *(f"{took[k][m]:.3g} ({faster(*k, m):.2f})" for k in took)] for m in MODES])
        for w in WORLDS:
            for m in ("BSP, dynamic balancing", "backup worker (1)", "GSSP, bound 4"):
                check(result, GOALS[0], f"{m}, {w}", took[w, "slow"][m], took[w, "slow"]["BSP"], 2.0)
            check(result, GOALS[1], w, took[w, "pauses"]["SSP, bound 16"], took[w, "pauses"]["BSP"], 1.5)
        last = {rate: [smooth(run(d, "simulated", m, None, rate, True))[-1][1] for m in ("BSP", "async")] for rate in (0.05, 0.2, WORSE, 1.6)}
        result.table(f"Where asynchronous training is worse: loss of the last {SMOOTH} of {STEPS} simulated steps without slow workers, at one rate for both", ["rate", "BSP", "async"],
                     [[rate, *losses] for rate, losses in last.items()])
        bsp, free = last[WORSE]
        result.check(GOALS[2], f"at {WORSE}, simulated", f"BSP {bsp:.3g}", f"async {free:.3g}", free / bsp, 2.0)
    return result


def note():
    return (f"{MODEL} on {DATA}, batches of {BATCH}, plain SGD at {RATE} (async at a quarter of that: each of its pushes is a step), {WORKERS} workers of one "
            f"thread and {SERVERS} servers, over TCP on loopback, and simulated on {NETWORK}. Each computation is followed by a sleep of {EACH - 1} times as long, so that workers do not share the two cores. The time is that at which the mean loss of {SMOOTH} steps first is "
            f"as low as that of BSP after {CALM} calm steps, which is the same in both worlds. Slow is a worker whose computations take {SLOW} times as long as the others'; a pause is one step that takes "
            f"{PAUSE + 1} times as long. By pace alone, without losses and messages, pauses leave SSP with bound 16 {paces(16):.2f} times the steps of BSP, and no "
            f"bound {paces(10 ** 6):.2f} times. Beside a worker that is always slow SSP gains little: its pace is the slowest worker's in the long run, and a bound only lends it so many steps.")


def check(result, goal, what, ours, bsp, least):
    result.check(goal, what, f"{ours:.2f} s", f"BSP {bsp:.2f} s", bsp / ours, least)


def draws():
    """Of each step and worker, whether it pauses."""
    draw = random.Random(SEED)
    return [[draw.random() < CHANCE for _ in range(WORKERS)] for _ in range(STEPS)]


def script(times):
    """A script of faults that makes each worker's computing in each step take so many times as long."""
    lines = []
    for w in range(WORKERS):
        since = 0
        for t in range(1, STEPS + 1):
            if t == STEPS or times[t][w] != times[since][w]:
                lines.append(f"slow {w} x{EACH * times[since][w]} from step {since + 1} to step {t + 1}")
                since = t
    return "\n".join(lines) + "\n"


def paces(bound):
    """How many times as fast as BSP all steps would be over, if computing took one unit of time and messages none."""
    def end(bound):
        over = [[0.0] * WORKERS]  # by step, when each worker has finished it
        for t, all_of in enumerate(draws()):
            gate = max(over[t - bound]) if t >= bound else 0.0
            over.append([max(over[t][w], gate) + (1 + PAUSE if is_one else 1) for w, is_one in enumerate(all_of)])
        return statistics.mean(over[-1])
    return end(0) / end(bound)


def measure(d, world, script, goal, times):
    """By mode, the median of the seconds to the goal; the modes take turns."""
    sides = {m: (lambda m=m: {"s": reached(run(d, world, m, script), goal, m)}) for m in MODES}
    return {m: v["s"] for m, v in common.alternate(sides, times if world == "processes" else 1).items()}


def reached(lines, goal, mode):
    for at, loss in smooth(lines):
        if loss <= goal:
            return at
    raise common.Failed(f"{mode} did not come to a loss of {goal:.3f} in {STEPS} steps: {smooth(lines)[-1]}")


def smooth(lines):
    """Of each line that ends a run of so many, when it was and the mean loss of these."""
    return [(lines[i][0], statistics.mean(l for _, l in lines[max(0, i - SMOOTH + 1):i + 1])) for i in range(len(lines))]


def run(d, world, mode, script, rate=RATE, same_rate=False):
    """The seconds and the loss of each step of which the loss is known."""
    strategy, shards, part = MODES[mode]
    folder = Path(tempfile.mkdtemp(dir=d))
    words = ["--data", DATA, "--model", MODEL, "--optimizer", "sgd", "--lr", rate * (1 if same_rate else part), "--batch", BATCH, "--microshards", shards, "--workers", WORKERS,
             "--steps", STEPS, "--strategy", f"ps:servers={SERVERS},{strategy}" + (",guard=off" if same_rate and mode == "async" else ""), "--test", "none", "--run", folder / "run"]
    if script:
        words += ["--faults", script]
    if world == "processes":
        words = ["train", "--transport", "tcp", "--threads", 1, *words]
    else:
        words = ["sim", "--network", NETWORK, *words]
    common.covey(*words)
    lines = [json.loads(l) for l in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [(l["at_s"], l["loss"]) for l in lines if "step" in l and "epoch_end" not in l and not l.get("quiet")]
