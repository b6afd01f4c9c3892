"""Packages outside of the repository, and what files may have imported: tests/outside holds such a package."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import pytest

from rlexp.testing import check_algorithm
from rlexp.util import checkpoint
from rlexp.util.errors import UserError
from tests.helpers import ROOT

QUICK = ["seeds=[0]", "video=none", "logger=none", "train.eval_episodes=5"]
SHORT = ["algo=reinforce", "env=corridor", "train.budget=1000", *QUICK]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """tests/outside/rlexp_reinforce, installed by pip into a folder of its own."""
    place = tmp_path_factory.mktemp("outside")
    source = shutil.copytree(ROOT / "tests" / "outside" / "rlexp_reinforce", place / "source")
    return install(source, place / "site")


def install(source, site):
    flags = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, str(source)], check=True, capture_output=True)
    return site


def run(*words, cwd, site=None):
    """`python *words` from `cwd`, with rlexp and the packages in `site`."""
    path = os.pathsep.join([*([str(site)] if site else []), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300, env=environment
    )


def good(*words, **where):
    done = run(*words, **where)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(*words, **where):
    """The one line that a command answers with, exit code 2."""
    done = run(*words, **where)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


MAIN, MAIN_MP, RLEXP = ROOT / "main.py", ROOT / "main_mp.py", ("-m", "rlexp.cli.main")


def folders(place):
    return sorted(file.parent for file in place.glob("runs/*/*/config.yaml"))


def package(site, name, files, entry=None):
    """A package in `site`, as an installer leaves it: its files, and an entry point."""
    for file, text in {"__init__.py": "", **files}.items():
        (site / name / file).parent.mkdir(parents=True, exist_ok=True)
        (site / name / file).write_text(textwrap.dedent(text))
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[rlexp.plugins]\n{entry or name} = {name}\n")


def test_a_plugins_algorithm_environment_and_policy_train_resume_and_are_evaluated(site, tmp_path):
    good(MAIN, *SHORT, cwd=tmp_path, site=site)
    (folder,) = folders(tmp_path)
    good(MAIN_MP, f"resume={folder}", "train.budget=2000", "seeds=[0,1]", cwd=tmp_path, site=site)
    assert json.loads((folder / "run.json").read_text())["final"]["n"] == 2
    scores = json.loads(good(*RLEXP, "eval", folder, "--episodes", 5, "--json", cwd=tmp_path, site=site))
    kind = checkpoint.load(folder / "seed_0" / "checkpoints" / "final.safetensors", "policy")["kind"]
    assert (len(scores["policies"]), kind) == (2, "rlexp_reinforce.reinforce:LinearPolicy")

    said = refused(*RLEXP, "eval", folder, cwd=tmp_path)  # where the package is not installed
    assert "names 'rlexp_reinforce.reinforce:LinearPolicy'" in said
    assert "names 'rlexp_reinforce.reinforce.Reinforce'" in refused(MAIN, f"resume={folder}", cwd=tmp_path)


def test_a_sweep_and_a_study_of_ones_own_compose_plugins_and_config_dirs(site, tmp_path):
    (tmp_path / "mine" / "study").mkdir(parents=True)
    (tmp_path / "mine" / "algo").mkdir()
    text = (ROOT / "tests/outside/rlexp_reinforce/rlexp_reinforce/conf/algo/reinforce.yaml").read_text()
    (tmp_path / "mine" / "algo" / "slow.yaml").write_text(text.replace("0.1", "0.01"))
    (tmp_path / "mine" / "study" / "rates.yaml").write_text(
        "title: rates\nmetric: eval/return_mean\ncommon: [env=corridor]\n"
        "arms: {slow: [algo=slow], fast: [algo=reinforce]}\n"
    )
    mine = ["--config-dir", "mine", *QUICK, "train.budget=500"]
    table = good(MAIN, "-m", "algo=slow,reinforce", "env=corridor", *mine, cwd=tmp_path, site=site)
    assert len(re.findall(r"^\| (?:\*\*)?(slow|reinforce)", table, re.MULTILINE)) == 2
    table = good(MAIN, "+study=rates", *mine, cwd=tmp_path, site=site)
    assert len(re.findall(r"^\| (slow|fast) \| 1 ", table, re.MULTILINE)) == 2
    assert "did you mean 'slow'" in refused(MAIN, "algo=slo", "--config-dir=mine", cwd=tmp_path, site=site)


def test_a_simulator_by_its_path_trains_also_where_it_can_only_step_all(site, tmp_path):
    backend = "env.backend=rlexp_reinforce.corridor:Corridors"
    for algo in ("reinforce", "ppo"):
        good(MAIN, *SHORT, f"algo={algo}", backend, cwd=tmp_path, site=site)
    assert len(folders(tmp_path)) == 2
    assert "has no Backend called 'Corridor'" in refused(MAIN, backend.removesuffix("s"), cwd=tmp_path, site=site)
    assert "did you mean 'gymnasium'" in refused(MAIN, "env.backend=gymnasum", cwd=tmp_path)


def test_a_plugins_engine_runs_new_and_resumed_runs(site, tmp_path):
    words = ["env=lineworld", "train.budget=2048", "seeds=[0,1]", *QUICK[1:]]
    done = good(MAIN, *words, "engine=reversed", cwd=tmp_path, site=site)
    assert done.index("seed 1") < done.index("seed 0")
    (folder,) = folders(tmp_path)
    assert "engine" not in (folder / "config.yaml").read_text(), "how a run is run is no part of what it is"
    again = good(
        MAIN, f"resume={folder}", "train.budget=4096", "engine=reversed", "engine.most=1", cwd=tmp_path, site=site
    )
    assert again.index("seed 0") < again.index("seed 1")
    assert "engine.mots" in refused(
        MAIN, f"resume={folder}", "engine=reversed", "engine.mots=1", cwd=tmp_path, site=site
    )
    assert "reversed" not in refused(MAIN, "engine=reversed", cwd=tmp_path).split("there are")[1]


def test_a_plugins_algorithm_passes_the_contract_tests(site, tmp_path):
    code = "import sys; from rlexp.testing import check_algorithm; assert 'pytest' not in sys.modules; "
    good("-c", code + "check_algorithm('reinforce')", cwd=tmp_path, site=site)


def test_the_contract_tests_of_what_is_not_there_are_one_line():
    with pytest.raises(UserError, match="algo=cmaess: no such algo; did you mean 'cmaes'"):
        check_algorithm("cmaess")
    with pytest.raises(UserError, match=r"algo\.popsiz: unknown option; did you mean"):
        check_algorithm("cmaes", "algo.popsiz=3")


def test_the_contract_tests_find_state_that_is_not_named(tmp_path):
    source = ROOT / "tests" / "outside" / "rlexp_reinforce" / "rlexp_reinforce"
    files = {file.relative_to(source).as_posix(): file.read_text() for file in source.rglob("*.[py]*")}
    files["reinforce.py"] = files["reinforce.py"].replace('"rng", "iteration")', '"rng")')
    package(tmp_path / "site", "rlexp_reinforce", files)
    code = "from rlexp.testing import check_algorithm; check_algorithm('reinforce')"
    done = run("-c", code, cwd=tmp_path, site=tmp_path / "site")
    assert "AssertionError: resumed, it differs: does `state` name all that changes" in done.stderr


ALGO = {"conf/algo/one.yaml": "_target_: faulty.algo.One\n"}
FAULTY = {
    "import": ({**ALGO, "algo.py": "x = 1\nimport nowhere_at_all\n"}, "algo.py, line 2: ModuleNotFoundError"),
    "syntax": ({**ALGO, "__init__.py": "def\n"}, "plugin faulty: 'faulty' cannot be imported:"),
    "no class": ({**ALGO, "algo.py": ""}, "'faulty.algo' has no Algorithm called 'One'"),
    "ours": ({"conf/algo/ppo.yaml": ""}, "plugin faulty: algo/ppo.yaml is already one of rlexp's configs"),
    "no group": ({"conf/one.yaml": ""}, "plugin faulty: one.yaml lies in no group"),
    "misspelt": ({"conf/algoo/one.yaml": ""}, "algoo/one.yaml: there is no group 'algoo'; did you mean 'algo'?"),
    "empty": ({"conf/readme.txt": ""}, "plugin faulty: has no group of configs"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_plugin_is_one_line(fault, tmp_path):
    files, said = FAULTY[fault]
    package(tmp_path / "site", "faulty", files)
    assert said in refused(MAIN, "algo=one", cwd=tmp_path, site=tmp_path / "site")
    assert not (tmp_path / "runs").exists()


def test_two_plugins_with_one_name_or_one_config_are_one_line(tmp_path):
    for name in ("first", "second"):
        package(tmp_path / "config", name, {"conf/env/one.yaml": ""})
        package(tmp_path / "name", name, {}, entry="same")
    said = refused(MAIN, cwd=tmp_path, site=tmp_path / "config")
    assert "plugin second: env/one.yaml is already one of plugin first's configs" in said
    assert "plugin same: 'first' and 'second' are both called that" in refused(
        MAIN, cwd=tmp_path, site=tmp_path / "name"
    )


def test_a_broken_plugin_that_is_not_asked_for_is_nobodys_trouble(tmp_path):
    package(tmp_path / "site", "faulty", {"__init__.py": "raise SystemExit(7)\n"})
    good(MAIN, "env=lineworld", "train.budget=2048", *QUICK, cwd=tmp_path, site=tmp_path / "site")
    said = refused(MAIN, "env=gym", "env.id=Unknown-v0", cwd=tmp_path, site=tmp_path / "site")
    assert "plugin faulty: 'faulty' cannot be imported" in said


EVIL = """
    from pathlib import Path
    import gymnasium
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv
    Path("mark").touch()
    gymnasium.register("Env-v0", entry_point=CartPoleEnv, max_episode_steps=20)
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A folder with the module `evil`, not installed, and two runs that a stranger made with it: of its environment,
    and of its algorithm."""
    place = tmp_path_factory.mktemp("stranger")
    package(place, "evil", {"__init__.py": EVIL, "algo.py": "from rlexp.algos.vpg import VPG\nclass Evil(VPG): pass\n"})
    shutil.rmtree(place / "evil-1.0.dist-info")
    (place / "env").mkdir()
    (place / "algo").mkdir()
    short = ["algo=vpg", "train.budget=2000", *QUICK]
    good(MAIN, "env=gym", "env.id=evil:Env-v0", "env.name=evil", *short, cwd=place / "env", site=place)
    good(MAIN, "algo._target_=evil.algo.Evil", "env=lineworld", *short, cwd=place / "algo", site=place)
    assert (place / "env" / "mark").exists(), "what is typed is trusted"
    return place


def test_a_policy_file_has_no_module_imported_that_is_not_admitted(stranger, tmp_path):
    file = folders(stranger / "env")[0] / "seed_0" / "checkpoints" / "final.safetensors"
    said = refused(*RLEXP, "eval", file, "--episodes", 2, cwd=tmp_path, site=stranger)
    assert "names 'evil:Env-v0', which is neither rlexp's own nor an installed plugin's" in said
    assert not (tmp_path / "mark").exists()
    good(*RLEXP, "eval", file, "--episodes", 2, "--trust", cwd=tmp_path, site=stranger)
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("key", ["algo", "env"])
def test_a_strangers_run_has_no_module_imported_that_is_not_admitted(key, stranger, tmp_path):
    folder = shutil.copytree(folders(stranger / key)[0], tmp_path / "run")
    said = refused(MAIN, f"resume={folder}", "train.budget=3000", cwd=tmp_path, site=stranger)
    assert {"algo": "'evil.algo.Evil'", "env": "'evil:Env-v0'"}[key] in said
    assert not (tmp_path / "mark").exists()
    good(MAIN_MP, f"resume={folder}", "train.budget=3000", "trust=true", cwd=tmp_path, site=stranger)
    assert (tmp_path / "mark").exists()


def test_the_readmes_package_is_installed_trains_and_passes_the_contract_tests(tmp_path):
    section = (ROOT / "README.md").read_text().split("\n## Plug in a package\n")[1].split("\n## ")[0]
    files = dict(re.findall(r"`([\w./]+\.\w+)`[^`]*:\n\n```\w+\n(.*?)```", section, re.DOTALL))
    assert len(files) == 4
    for name, text in files.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(text)
    site = install(tmp_path / "source", tmp_path / "site")
    (commands,) = re.findall(r"has it:\n\n```\n(.*?)```", section, re.DOTALL)
    for line in commands.splitlines():
        _, *words = shlex.split(line)
        if words[0] == "main.py":
            words = [MAIN, *words[1:], "train.budget=3000", *QUICK]
        good(*words, cwd=tmp_path, site=site)
