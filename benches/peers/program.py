"""itemdex as the peers' scripts run it: built from a dump, measured by `itemdex eval`."""

import json
import subprocess
from functools import cache

RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 1)
EFS = (20, 50, 100, 200, 400, 800, 1600)
WALKED_K = 1000  # Beyond it a walk is no plan.


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
        """What is measured: the planner's choice, and each plan where one can be asked for."""
        return ["", "graph", "partitions"] if self.has("eval", "--plan") else [""]

    def every_plan(self, index, data):
        """The points by plan and k, and what failed."""
        points, failures = {}, []
        for plan in self.plans():
            ks = [k for k in data.ks if plan != "graph" or k <= WALKED_K]
            try:
                points[plan] = {str(k): self.eval(index, data, k, plan) for k in ks}
            except RuntimeError as error:
                failures.append(f"{plan}: {error}")
        return points, failures

    def eval(self, index, data, k, plan="", *options, recalls=RECALLS):
        """The points of walks at beams, wider where k is greater; of other plans, and the planner's, at recalls that are asked for.

        A walk is not asked for recalls: where a graph cannot reach one it goes through all rows.
        """
        beams = ",".join(str(ef * max(1, k // 100)) for ef in EFS)
        command = ["eval", index, "--users", data.users_path, "-k", k, *options]
        command += ["--plan", plan] if plan else []
        planned = self.has("eval", "--plan") and not plan
        if plan != "partitions":
            command += ["--ef", EFS[0] if planned else beams]  # It would try beams of its own without.
        if plan != "graph":
            command += ["--recall", ",".join(map(str, recalls))]
        points = map(point, self.run(*command)["points"])
        return [one for one in points if one["asked"] or not planned]


def point(measured):
    """A point as the peers have them, with what only itemdex says: its plan and the recall that was asked for."""
    asked = measured.get("target")
    setting = measured["ef"] if asked is None else f"recall {asked:.4g}"
    kept = {name: measured[name] for name in ("recall", "recall_p5", "qps", "p50_us", "p99_us", "plan") if name in measured}
    return {"setting": setting, "asked": asked and round(asked, 4)} | kept
