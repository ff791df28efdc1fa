"""One change put to the tests: built, the nearest tests run one after another, until one fails."""
import re

from mutation.tree import Broken

MOST_FAILURES = 3
MIRRORS = "specs: "
UNIT_LIMIT, SPEC_LIMIT, END_LIMIT = 60, 120, 300  # seconds; more than anything takes, on a busy machine too


class Trial:
    """tree     the copy to work in
    nearest  which tests are nearest
    limit    seconds for the end-to-end files of one change
    """

    def __init__(self, tree, nearest, limit=END_LIMIT):
        self.tree, self.nearest, self.limit = tree, nearest, limit

    def run(self, mutant):
        """(outcome, who noticed it): outcome is noticed, survived, late or invalid."""
        original = (self.tree.folder / mutant.file).read_text()
        steps = self._unit_steps(mutant.file) + self._spec_steps(mutant.file)
        self._must_pass(mutant.file, steps)
        self.tree.write(mutant.file, mutant.apply(original))
        try:
            if mutant.file.endswith(".lua") and self.tree.run(["luac5.4", "-p", mutant.file], 20)[0] != 0:
                return "invalid", ""
            return self._put(mutant, steps + [("end to end", "perigee", None)])
        finally:
            self.tree.write(mutant.file, original)

    def _put(self, mutant, steps):
        file = mutant.file
        for name, target, words in steps:
            # specs read a changed Lua file where it is
            if file.endswith(".c") or not words:
                self.tree.stale[self.tree.build_of(file)] = file
                if not self.tree.make(target, file):
                    return "invalid", ""
            if not words:
                return self._ends(file, self.nearest.ends(file, mutant.before))
            code, _ = self._run_step(target, words)
            if code != 0:
                return "noticed", name + ("" if code is not None else " (it did not end)")

    def _run_step(self, target, words):
        if target != "perigee":
            return self.tree.run(words, UNIT_LIMIT)
        return self.tree.run(words, SPEC_LIMIT, PERIGEE_LUA=self.tree.folder / "lua")

    # ---- steps: (name, target to be built first, words) ------------------------------------------------

    def _unit_steps(self, file):
        return [(name, name, [f"build/dev/unit/{name}"]) for name in self.nearest.units(file)]

    def _spec_steps(self, file):
        if not self.nearest.has_specs(file):
            return []
        perigee = [str(self.tree.program(file)), "test", "-o", "TAP", "--no-keep-going"]
        mirrors = self.nearest.specs(file)
        steps = [(MIRRORS + " ".join(name.split("/")[-1] for name in mirrors), "perigee", perigee + mirrors)] if mirrors else []
        return steps + [("specs", "perigee", perigee + ["tests/spec"]), ("specs of apps", "perigee", perigee + ["apps"])]

    def _must_pass(self, file, steps):
        """The steps pass without the change, or nothing could be learned from them."""
        self.tree.prepare(file)
        for name, target, words in steps:
            known = (name, self.tree.build_of(file))
            if known in self.tree.is_passing or name.startswith(MIRRORS):
                continue  # mirrors are among all specs
            if not self.tree.make(target, file, is_alone=False):
                raise Broken(f"{target} does not compile")
            code, output = self._run_step(target, words)
            if code != 0:
                raise Broken(f"{name} fails without a change ({file}):\n{output[-3000:]}")
            self.tree.is_passing.add(known)

    # ---- end to end --------------------------------------------------------------------------------------

    def _ends(self, file, names):
        """A busy machine lets a test fail too: it must fail again, and pass without the change."""
        code, output = self._pytest(file, names)
        failed = re.findall(r"^(?:FAILED|ERROR) (test_\w+\.py::\S+?(?:\[.*?\])?)(?: - |$)", output, re.M)
        for name in failed:
            if self._pytest(file, [name])[0] != 0 and self._pytest(file, [name], "perigee.unchanged")[0] == 0:
                return "noticed", name
        if code not in (0, None) and not failed:
            return "noticed", "end to end: " + output.strip().splitlines()[-1][:100]
        is_settled = code is not None and len(failed) < MOST_FAILURES
        return "survived" if is_settled else "late", f"(but {', '.join(failed)} failed once)" if failed else ""

    def _pytest(self, file, words, program="perigee"):
        return self.tree.run(["/usr/bin/python3", "-B", "-m", "pytest", f"--maxfail={MOST_FAILURES}", "-q", "-p", "no:cacheprovider", "--tb=no", *words],
                             self.limit, "tests/e2e", E2E_KILLS="3", E2E_PATIENCE="15", PERIGEE=self.tree.program(file, program))
