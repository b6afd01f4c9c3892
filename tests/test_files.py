"""Files that others wrote or changed: each is read, or refused in one line that names it, within a second."""

import json
import shutil
import struct

import pytest
from omegaconf import OmegaConf

from rlexp.cli.main import main
from rlexp.experiment import compose, status
from rlexp.experiment.config import stored
from rlexp.experiment.folder import Folder
from rlexp.loggers import jsonl
from rlexp.policies.files import load_policy, save_policy
from rlexp.report import history, references
from rlexp.report.records import read_config, read_record, read_study
from rlexp.util import checkpoint, configs, paths
from rlexp.util.errors import UserError
from rlexp.util.files import read_json, read_yaml
from tests.datasets import policy_file
from tests.helpers import built

LATIN = "# gr\xfc\xdfe\n".encode("latin1")


def refused(call, *words):
    """The one line in which `call` refuses, which has all `words`."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert text.strip()
    assert "\n" not in text
    for word in words:
        assert str(word) in text, text
    return text


YAML = {
    "a bracket": (b"a: 1\nb: [1,\nc: 2\n", "line"),
    "another encoding": (b"a: 1\n" + LATIN, "line 2 is not UTF-8"),
    "aliases": (b"a: &a [x, x]\nb: &b [*a, *a]\n", "line 2: aliases"),
    "a list": (b"- 1\n", "no mapping"),
    "an object": (b"a: !!python/object/apply:os.system [ls]\n", "line 1"),
    "depth": (b"a: " + b"[" * 100_000, "nested too deeply"),
    "a zero byte": (b"a: 1\x00", "cannot be read"),
    "twice": (b"a: 1\na: 2\n", "line 2"),
    "size": (b"a: 1\n" * 100_000, "is no config"),
    "many keys": (b"".join(b"a%d: 1\n" % i for i in range(12_000)), "is no config"),
}


@pytest.mark.parametrize("case", YAML)
def test_yaml_that_is_none_is_one_line(case, tmp_path):
    content, said = YAML[case]
    (tmp_path / "config.yaml").write_bytes(content)
    (tmp_path / "study.yaml").write_bytes(content)
    for read in (read_config, stored, lambda place: Folder.open(place) if _record(place) else None):
        refused(lambda read=read: read(tmp_path), tmp_path / "config.yaml", said)
    for read in (read_study, history.folders):
        refused(lambda read=read: read(tmp_path), tmp_path / "study.yaml", said)
    refused(lambda: read_yaml(tmp_path), "is no file")


def test_yaml_is_read_as_omegaconf_reads_it(tmp_path):
    file = tmp_path / "own.yaml"
    words = "1e-4 1E5 -1.5e3 .5 1_000 0x1f 1:30 2026-01-31 yes null ~ ??? ${a.b} .inf -.nan 1e 'x' 007 1.2.3 [1,{}]"
    file.write_text("a:\n" + "".join(f"- {word}\n" for word in words.split()) + "1: 2\n0.5: true\n")
    for path in (file, *sorted(paths.CONF.rglob("*.yaml"))):
        assert str(read_yaml(path)) == str(OmegaConf.to_container(OmegaConf.load(path)))


@pytest.mark.parametrize("text", ["a: !!set {x}", "a: !!binary YQ==", "null: 1", "? [1]\n: 2", "a: !!omap [b: 1]"])
def test_yaml_of_other_kinds_is_one_line(text, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    refused(lambda: read_yaml(tmp_path / "own.yaml"), tmp_path / "own.yaml", "cannot be read as yaml")


def _record(place):
    (place / "run.json").write_text('{"clock": "updates", "command": "x", "eval": {}}')
    return True


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "[" * 100_000,
        '{"seeds": []}',
        '{"seeds": {"0": {}}}',
        '{"seeds": {"../x": {"status": "done", "step": 1}}}',
        '{"seeds": {"0": {"status": 3, "step": 1}}}',
        '{"seeds": {"0": {"status": "done", "step": 1, "final": {"return_mean": "high"}}}}',
        '{"final": {"return_mean": {"mean": "high"}}}',
        '{"final": 3}',
        '{"clock": 3}',
        '"\xff"',
    ],
)
def test_records_that_are_none_are_one_line(text, tmp_path, capsys, monkeypatch):
    """And a list of runs goes on without them."""
    bad = tmp_path / "runs" / "bad"
    bad.mkdir(parents=True)
    (bad / "run.json").write_bytes(text.encode("latin1"))
    refused(lambda: read_record(bad), bad / "run.json")
    good = tmp_path / "runs" / "good"
    good.mkdir()
    (good / "run.json").write_text('{"seeds": {"0": {"status": "done", "step": 1}}}')
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    said = capsys.readouterr()
    assert "runs/good" in said.out
    assert "runs/bad" not in said.out
    assert (said.err.count("\n"), said.err.startswith("warning: runs/bad/run.json: ")) == (1, True)


def test_a_status_or_metrics_that_are_none_are_one_line(tmp_path):
    for text in ("[]", '{"status": "asleep", "step": 1}', '{"status": "done"}', "[" * 100_000):
        (tmp_path / "status.json").write_text(text)
        refused(lambda: status.read(tmp_path), tmp_path / "status.json")
    file = tmp_path / "metrics.jsonl"
    for line in (b"3", b"{}", b'{"step": "x"}', b"[" * 100_000, b'{"step": 1, "x": [1]}'):
        file.write_bytes(b'{"step": 1}\n' + line + b"\n")
        refused(lambda: jsonl.read(file), f"{file}: line 2")
    file.write_bytes(b'{"step": 1}\n' + LATIN)
    refused(lambda: jsonl.read(file), f"{file}: line 2 is not UTF-8")
    (tmp_path / "j").write_text("[" * 100_000)
    refused(lambda: read_json(tmp_path / "j"), "nested too deeply")


def test_one_bad_data_set_does_not_end_the_list(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    texts = {"a": "{", "b": "[]", "c": '{"total_steps": "many"}', "d": "{}", "e": '{"total_steps": 5, "rlexp": 3}'}
    fine = {"total_steps": 12_345, "total_episodes": 3}
    texts |= {"f": json.dumps({**fine, "rlexp": {"returns": {"mean": "x"}}}), "fine": json.dumps(fine)}
    for name, text in texts.items():
        folder = tmp_path / "mine" / f"{name}-v0" / "data"
        folder.mkdir(parents=True)
        (folder / "metadata.json").write_text(text)
    assert main(["data", "list"]) == 0
    said = capsys.readouterr()
    assert "12,345" in said.out
    assert said.err.count("warning: ") == said.err.count("\n") == 6


def test_a_mistake_in_a_config_of_ones_own_names_file_and_line(tmp_path):
    file = tmp_path / "env" / "mine.yaml"
    file.parent.mkdir()
    with configs.forgetting():
        file.write_bytes(b"")
        words = compose.take([f"--config-dir={tmp_path}", "env=mine"])
        for content, said in (
            (b"id: CartPole-v1\nname: [mine\nkwargs: {}\n", "line 3"),
            (b"id: CartPole-v1\n" + LATIN, "line 2 is not UTF-8"),
            (b"id: ${x\n", "cannot be read"),
        ):
            file.write_bytes(content)
            refused(lambda: compose.compose(words), file, said)


def test_policy_files_that_are_none_are_one_line(tmp_path):
    """Among them such as ask for more memory than there is, or name one tensor for many."""
    good = policy_file(tmp_path / "good.safetensors")
    tree = checkpoint.load(good, "policy")
    actor = tree["spec"]["actor"]
    changes = [
        {"kind": 3},
        {"kind": "nobody"},
        {"kind": "cmaes"},
        {"spec": []},
        {"spec": {}},
        {"spec": {**tree["spec"], "actor": {**actor, "hidden": [10**12]}}},
        {"spec": {**tree["spec"], "actor": {**actor, "hidden": [90_000, 90_000]}}},
        {"spec": {**tree["spec"], "actor": {**actor, "hidden": [-1]}}},
        {"spec": {**tree["spec"], "actor": {**actor, "hidden": [1] * 200_000}}},
        {"spec": {**tree["spec"], "actor": {**actor, "activation": "os.system"}}},
        {"state": {}},
        {"state": {"actor": {"x": 3}}},
        {"env": []},
        {"env": {}},
        {"env": {**tree["env"], "id": [3]}},
        {"env": {**tree["env"], "kwargs": {"x": "${oc.env:HOME}"}}},
        {"card": None},
    ]
    bad = tmp_path / "bad.safetensors"
    for change in changes:
        checkpoint.save(bad, {"policy": {**tree, **change}})
        assert refused(lambda: load_policy(bad), bad), change
    for tree in ({"policy": []}, {"policy": None}, {}):
        checkpoint.save(bad, tree)
        refused(lambda: load_policy(bad), bad)
    for content in (b"", b"x", struct.pack("<Q", 2**60), struct.pack("<Q", 90_000_000) + b"[" * 90_000_000):
        bad.write_bytes(content)
        refused(lambda: load_policy(bad), bad)
    with pytest.raises(TypeError, match="make its largest parts arrays"):
        checkpoint.save(bad, {"policy": [0.5] * 2_000_000})


def test_a_flipped_bit_is_noticed_and_files_without_digests_load(tmp_path):
    file = policy_file(tmp_path / "p.safetensors")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    refused(lambda: load_policy(file), file, "changed or damaged")
    old = next(paths.POLICIES.glob("*.safetensors"))
    assert load_policy(old).path == old


def test_one_tensor_named_many_times_is_refused(tmp_path):
    """As a file of a kilobyte would fill the memory."""
    import torch
    from safetensors.torch import save_file

    tree = json.dumps({"policy": {"state": [{"$tensor": "/x"}] * 1000}})
    file = tmp_path / "p.safetensors"
    save_file({"/x": torch.zeros(10)}, file, metadata={"format": checkpoint.FORMAT, "tree": tree})
    refused(lambda: checkpoint.load(file), "twice")


def test_latest_that_names_something_else_is_one_line(tmp_path):
    (tmp_path / "latest").write_text("../../other/step_1.safetensors")
    refused(lambda: checkpoint.latest(tmp_path), tmp_path / "latest")
    (tmp_path / "latest").write_bytes(LATIN)
    refused(lambda: checkpoint.latest(tmp_path), tmp_path / "latest", "not UTF-8")


def test_an_entry_without_a_card_is_left_out_with_a_word(tmp_path, monkeypatch, capsys):
    for name in ("ppo_lineworld-lesson", "vpg_lineworld"):
        for end in ("csv", "json"):
            shutil.copy(paths.GALLERY / f"{name}.{end}", tmp_path)
    monkeypatch.setattr(paths, "GALLERY", tmp_path)
    assert set(references.entries()) == {"ppo_lineworld-lesson", "vpg_lineworld"}
    (tmp_path / "ppo_lineworld-lesson.json").unlink()
    (tmp_path / "vpg_lineworld.json").write_text("{}")
    assert references.entries() == {}
    assert references.find(None, "vpg_lineworld") is None
    said = capsys.readouterr().err
    assert "it has no card" in said
    assert "is no card of a curve" in said
    assert said.count("\n") == 2


BROKEN_CARDS = {
    "no target": {"config": {"algo": {"_target_": "x"}}},
    "groups are lists": {"config": {"algo": [1], "env": [2]}},
    "buffer is a list": {"config": {"buffer": [1]}},
    "versions": {"versions": "x"},
    "inputs": {"inputs": [2]},
    "hardware": {"hardware": 3},
    "seconds": {"seeds": {"0": {"status": "done", "seconds": "long"}}},
    "no clock": {"clock": None},
}


@pytest.mark.parametrize("changed", BROKEN_CARDS)
def test_a_broken_card_leaves_its_entry_out(changed, tmp_path, monkeypatch, capsys):
    card = json.loads((paths.GALLERY / "vpg_lineworld.json").read_text())
    about = {"config": json.loads(json.dumps(card["config"]))}
    shutil.copy(paths.GALLERY / "vpg_lineworld.csv", tmp_path)
    monkeypatch.setattr(paths, "GALLERY", tmp_path)
    for key, value in BROKEN_CARDS[changed].items():
        card[key] = {**card[key], **value} if key == "config" else value
    (tmp_path / "vpg_lineworld.json").write_text(json.dumps({k: v for k, v in card.items() if v is not None}))
    assert references.choose(about) is None
    said = capsys.readouterr().err
    assert "vpg_lineworld.json: " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda rows: [], "has no row with a step and a return_mean"),
        (lambda rows: rows[:1], "has no row with a step and a return_mean"),
        (lambda rows: [rows[0].replace("return_mean", "mean"), *rows[1:]], "has no row with a step and a return_mean"),
        (lambda rows: [*rows, "0,1,two,3"], "holds what is no number"),
        (lambda rows: [*rows, "77,1,2,3"], "is of no seed that its card has"),
    ],
)
def test_a_broken_curve_ends_no_run_of_that_pair(harm, said, tmp_path, monkeypatch, capsys):
    """It is left out with a word; who names it is told before training."""
    rows = (paths.GALLERY / "vpg_lineworld.csv").read_text().splitlines()
    shutil.copy(paths.GALLERY / "vpg_lineworld.json", tmp_path)
    about = {"config": json.loads((tmp_path / "vpg_lineworld.json").read_text())["config"]}
    monkeypatch.setattr(paths, "GALLERY", tmp_path)
    (tmp_path / "vpg_lineworld.csv").write_text("\n".join(harm(rows)))
    assert references.entry_of(about) is None
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    refused(lambda: references.find("vpg_lineworld", "x"), tmp_path / "vpg_lineworld.csv", said)
    assert references.reference_of({"config": {**about["config"], "reference": "vpg_lineworld"}}) is None


def test_policies_are_saved_and_loaded_as_before(tmp_path):
    env = built("env=lineworld").env
    saved = load_policy(policy_file(tmp_path / "p.safetensors"))
    save_policy(tmp_path / "q.safetensors", saved.policy, env, {"step": 3})
    assert load_policy(tmp_path / "q.safetensors").card == {"step": 3}
