"""itemdex as the peers' scripts run it: built from a dump, measured by `itemdex eval`."""

import json
import subprocess
from functools import cache

RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 1)
EFS = (20, 30, 40, 50, 100, 200, 400, 800)


class Program:
    def __init__(self, path):
        self.path = path

    def run(self, *command):
        done = subprocess.run([self.path, *map(str, command), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return json.loads(done.stdout)

    @cache
    def has(self, command, option):
        """Whether this itemdex has the option, so that the scripts can measure older ones too."""
        return option in subprocess.run([self.path, command, "--help"], stdout=subprocess.PIPE, text=True).stdout.split()

    def build(self, data, sample, index, *options):
        """What `itemdex build` reports of the index file it made."""
        users = ["--users", sample] if sample else []
        return self.run("build", "--items", data.items_path, *users, "--model-version", "peers", "--out", index, *options)

    def plans(self):
        """Names of what is measured and the options of eval for it: the planner's choice, and each plan where one can be asked for."""
        named = {plan: ["--plan", plan] for plan in ("graph", "partitions")} if self.has("eval", "--plan") else {}
        return {"": []} | named

    def eval(self, index, data, k, options=(), recalls=RECALLS, efs=EFS):
        """The points of a sweep of beams, wider where k is greater, and of recalls that are asked for."""
        beams = ",".join(str(ef * max(1, k // 100)) for ef in efs)
        recalls = ",".join(map(str, recalls))
        command = ["eval", index, "--users", data.users_path, "-k", k, "--ef", beams, "--recall", recalls, *options]
        return [point(one) for one in self.run(*command)["points"]]


def point(measured):
    """A point as the peers have them, with what only itemdex says: its plan and the recall that was asked for."""
    asked = measured.get("target")
    setting = measured["ef"] if asked is None else f"recall {asked:.4g}"
    kept = {name: measured[name] for name in ("recall", "recall_p5", "qps", "p50_us", "p99_us", "plan") if name in measured}
    return {"setting": setting, "asked": asked and round(asked, 4)} | kept
