"""Nothing that a file says is obeyed: pictures, saved runs, recipes and tables of a stranger."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from galleries import complete
from hypothesis import given
from hypothesis import strategies as st
from shared import PATIENCE, QUICK, error_of

from neural_style_tf import needs, usual
from neural_style_tf.commands import parser
from neural_style_tf.errors import SettingName, UsageError, UserError, message_of, one_line
from neural_style_tf.pictures import metadata, reading, writing
from neural_style_tf.runs import options, provenance, recipe, signature, states
from neural_style_tf.schema import setting_names, settings_from, shapes_picture
from neural_style_tf.settings import Settings, setting_rules
from neural_style_tf.version import VERSION

PRECIOUS = b"precious"


@pytest.fixture
def victim(folder):
    """A file of the user's that nothing may change."""
    path = folder / "victim.txt"
    path.write_bytes(PRECIOUS)
    yield path
    assert path.read_bytes() == PRECIOUS


@pytest.fixture(scope="module")
def finished(tmp_path_factory, fill, command_line):
    """A folder in which a run of two iterations has painted out.png and saved run.npz."""
    folder = fill(tmp_path_factory.mktemp("finished"))
    arguments = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    arguments += ["--network", "network.mat", "--precision", "float32", *QUICK]
    arguments += ["--iterations", 2, "--save-state", "run.npz"]
    assert command_line(arguments, folder).returncode == 0
    return folder


@pytest.fixture
def described(finished, folder):
    """A function that puts changed metadata into a picture made here, with the inputs of
    `folder`."""
    shutil.copy(finished / "out.png", folder)
    pixels = reading.read(folder / "out.png").pixels
    saved = metadata.read(folder / "out.png")

    def describe(change, name="stranger.png"):
        description = json.loads(json.dumps(saved))
        change(description)
        writing.save(folder / name, pixels, metadata=description)
        return name

    return describe


# Which options a file may set


def test_every_option_says_who_may_set_it():
    for action in parser.build_parser(has_help=False)._actions:
        known = (*options.option_names(), *setting_names(), *parser.ACTIONS, "recipe")
        assert action.dest in known
    outputs = options.option_names(lambda rule: rule["role"] == "output")
    for name in (*outputs, *parser.ACTIONS, "overwrite", "preview_host"):
        assert not options.may_be_set_by("recipe", name), name
        assert not options.may_be_set_by("table", name), name
    assert not {"overwrite", "save_settings", "preview_host", "debug"} & set(options.recorded())


# Pictures: --settings-from


@pytest.mark.parametrize("place", ["asked", "top"])
@pytest.mark.parametrize(
    "name, value",
    [
        ("overwrite", True),
        ("save_settings", "victim.txt"),
        ("output", "victim.txt"),
        ("save_state", "victim.txt"),
        ("preview_host", "0.0.0.0"),
        ("log_dir", "logs"),
    ],
)
def test_a_picture_sets_no_option(described, folder, victim, command_line, place, name, value):
    def change(description):
        (description if place == "top" else description["asked"])[name] = value

    stranger = described(change)
    arguments = ["--settings-from", stranger, "--content", "photo.png", "--output", "new.png"]
    error_of(command_line(arguments, folder), 1)
    assert not (folder / "new.png").exists() and not (folder / "logs").exists()


def test_the_first_unknown_entry_is_named(described, folder, command_line):
    stranger = described(lambda description: description.update(stylee_weight=3))
    result = command_line(["--settings-from", stranger, "--output", "new.png"], folder)
    assert error_of(result, 1) == (
        f"stranger.png, made by version {VERSION}, has the unknown setting stylee_weight "
        "(did you mean style_weight?): nothing of it was used"
    )


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../photo.png", "..", ".", r"\\host\share\x", r"C:x", "a\0b", "a" * 300]
)
@pytest.mark.parametrize("option", ["content", "network"])
def test_inputs_are_plain_file_names(described, folder, command_line, option, name):
    stranger = described(lambda description: description.update({option: name}))
    result = command_line(["--settings-from", stranger, "--output", "new.png"], folder)
    assert "a plain file name was expected" in error_of(result, 1)


WRONG = {
    "no sums": lambda description: description.update(sha256=None),
    "a sum": lambda description: description["sha256"].update(content="abc"),
    "a sum missing": lambda description: description["sha256"].pop("content"),
    "one style": lambda description: description.update(styles="painting.png"),
    "styles without sums": lambda description: description["sha256"].update(styles=[]),
    "no content": lambda description: description.pop("content"),
    "asked": lambda description: description.update(asked=[1]),
    "asked for a wrong value": lambda description: description["asked"].update(tile="none"),
    "losses": lambda description: description.update(losses={"total": "low"}),
    "versions": lambda description: description.update(versions=3),
    "device": lambda description: description.update(device=["CPU"]),
    "a setting of another type": lambda description: description.update(content_layers=5),
    "a setting out of its range": lambda description: description.update(tv_weight=-1),
    "a nested list": lambda description: description.update(style_scales=[[[]]]),
    "a layer": lambda description: description.update(style_layers={"relu1_1\n--overwrite": 1}),
    "a number": lambda description: description.update(iterations=True),
}


@pytest.mark.parametrize("name", WRONG)
def test_metadata_of_another_type_is_one_line(described, folder, command_line, name):
    stranger = described(WRONG[name])
    result = command_line(["--settings-from", stranger, "--output", "new.png"], folder)
    assert "stranger.png" in error_of(result, 1)


def test_a_setting_that_is_missing_has_its_default(described, folder, command_line):
    stranger = described(
        lambda description: [description.pop("print_iterations"), description.pop("tv_weight")]
    )
    result = command_line(["--settings-from", stranger, "--output", "new.png"], folder)
    assert result.returncode == 0, result.stderr
    assert metadata.read(folder / "new.png")["tv_weight"] == Settings().tv_weight


# Saved runs: --resume


@pytest.fixture
def saved(finished, folder):
    """A function that changes what is said of a saved run, and signs it or not. The run was made
    elsewhere; here it is as if it had been made in `folder`."""
    shutil.copy(finished / "out.png", folder)
    state, about, _ = states.load(finished / "run.npz")
    moved = json.dumps(about["options"]).replace(str(finished), str(folder))
    about["options"] = json.loads(moved)
    states.save(folder / "run.npz", state, about)

    def save(change=lambda about: None, sign=False, name="stranger.npz"):
        state, about, is_ours = states.load(folder / "run.npz")
        assert is_ours
        change(about)
        with pytest.MonkeyPatch.context() as patch:
            if not sign:
                patch.setattr(signature, "sign", lambda _: None)
            states.save(folder / name, state, about)
        return name

    return save


@pytest.fixture
def resume(folder, command_line):
    return lambda *arguments: command_line(["--resume", *arguments], folder)


def test_a_stranger_s_run_does_not_choose_where_to_write(saved, folder, victim, resume):
    def change(about):
        about["options"] |= {"output": str(victim), "save_settings": "x.args", "overwrite": True}

    stranger = saved(change)
    assert error_of(resume(stranger), 2) == (
        "stranger.npz was not saved by you on this machine, so it may not choose where to write: "
        "pass --output"
    )
    assert error_of(resume(stranger, "--output", "victim.txt"), 2)
    (folder / "mine.png").write_bytes(PRECIOUS)
    assert "mine.png exists" in error_of(resume(stranger, "--output", "mine.png"), 1)
    assert resume(stranger, "--output", "new.png", "--iterations", 3).returncode == 0
    assert not (folder / "x.args").exists()
    assert metadata.read(folder / "new.png")["iterations"] == 3
    assert states.load(folder / stranger).is_ours  # from now on


def test_the_output_that_a_run_has_made_is_its_own_whoever_saved_it(saved, folder, resume):
    elsewhere = {"output": "/elsewhere/out.png", "content": "/elsewhere/photo.png"}
    stranger = saved(lambda about: about["options"].update(elsewhere))
    assert resume(stranger, "--iterations", 3).returncode == 0
    assert metadata.read(folder / "out.png")["iterations"] == 3


def test_a_picture_that_another_run_has_made_is_kept(saved, run, folder, resume):
    stranger = saved()
    assert run("--iterations", 2, "--seed", 5, "--overwrite").returncode == 0
    before = (folder / "out.png").read_bytes()
    assert "may not choose where to write" in error_of(resume(stranger), 2)
    assert (folder / "out.png").read_bytes() == before


def test_inputs_of_a_stranger_s_run_are_looked_for_by_name(saved, folder, resume):
    stranger = saved()
    (folder / "photo.png").rename(folder / "moved.png")
    message = "no file photo.png here or beside the picture: pass --content"
    assert error_of(resume(stranger), 1) == message
    assert resume(stranger, "--content", "moved.png", "--iterations", 3).returncode == 0


def test_a_signature_is_of_this_very_content(folder):
    content = {"options": {"output": "a"}, "description": {"seed": 1}}
    signed = signature.sign(content)
    assert signature.is_ours(json.loads(json.dumps(content)), signed)
    assert not signature.is_ours({**content, "options": {"output": "b"}}, signed)
    for wrong in (None, "", 5, signed[:-1], "é" * 64):
        assert not signature.is_ours(content, wrong)


@pytest.mark.posix
def test_a_key_that_others_may_read_signs_nothing(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    assert signature.sign({}) is not None
    (key,) = (folder / "cache").rglob("signing.key")
    assert key.stat().st_mode & 0o077 == 0
    key.chmod(0o644)
    assert signature.sign({}) is None


DAMAGED = {
    "no description": lambda about: about.pop("description"),
    "a list": lambda about: about.update(description=[]),
    "unknown": lambda about: about["description"].update(evil=1),
    "no sums": lambda about: about["description"].pop("sha256"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_saved_run_with_a_damaged_description_is_one_line(saved, resume, name):
    error_of(resume(saved(DAMAGED[name]), "--output", "new.png"), 1)


@pytest.mark.parametrize(
    "name, array",
    [
        ("picture", np.zeros((1, 34, 45, 3), np.float64)),
        ("picture", np.full((1, 34, 45, 3), np.nan, np.float32)),
        ("best/picture", np.zeros((1, 3, 4, 3), np.float32)),
        ("plan", np.zeros((0, 4), int)),
        ("plan", np.full((1, 4), -1)),
        ("stage", np.array(7)),
        ("iterations", np.array([1, 2])),
        ("iterations", np.array(np.inf)),
        ("patience", np.zeros(5)),
        ("rows", np.zeros((3, 2))),
        ("ends/x/picture", np.zeros(3)),
        ("matches", np.zeros(130, np.float32)),
        ("matches", np.zeros((10, 13), np.int32)),
        ("picture", None),
        ("rows", None),
    ],
)
def test_a_saved_run_with_other_arrays_is_one_line(saved, folder, resume, name, array):
    saved()
    state, about, _ = states.load(folder / "stranger.npz")
    state.pop(name, None)
    states.save(folder / "stranger.npz", state | ({} if array is None else {name: array}), about)
    assert "damaged" in error_of(resume("stranger.npz"), 1)


@pytest.mark.parametrize("name", ["scales", "tile", "precision"])
def test_a_saved_run_that_lacks_a_setting_has_its_default(saved, resume, name):
    stranger = saved(lambda about: about["description"].pop(name))
    result = resume(stranger, "--output", "new.png", "--allow-changes")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["optimizer/first", "optimizer/steps", "best/total"])
def test_a_saved_run_with_other_arrays_of_the_optimizer_is_one_line(saved, folder, resume, name):
    saved()
    state, about, _ = states.load(folder / "stranger.npz")
    states.save(folder / "stranger.npz", state | {name: np.zeros((2, 3))}, about)
    result = resume("stranger.npz")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "\nerror: the state to resume " in result.stderr


def test_arrays_that_declare_more_than_the_file_holds_are_not_allocated(tmp_path):
    path = tmp_path / "run.npz"
    np.savez_compressed(path, picture=np.zeros(10_000_000, np.uint8))
    with pytest.raises(UserError, match="its arrays are larger than the file"):
        states.load(path)
    np.savez(path, picture=np.zeros(1000, np.uint8))
    data = path.read_bytes().replace(b"'shape': (1000,), }", b"'shape': (9**9,), }", 1)
    path.write_bytes(data.replace(b"(9**9,)", b"(10**9)", 1))
    with pytest.raises(UserError, match="is not a saved run"):
        states.load(path)


def test_threads_go_on_with_the_run(run, folder, resume):
    options = ["--threads", 1, "--save-state", "run.npz"]
    assert run("--iterations", 2, *options).returncode == 0
    assert resume("run.npz", "--iterations", "3").returncode == 0
    assert metadata.read(folder / "out.png")["device"] == "CPU (1 thread)"


# Recipes


def recipe_in(folder, data, name="my.args"):
    (folder / name).write_bytes(data)
    return f"@{name}"


@pytest.mark.parametrize(
    "line, option",
    [
        (b"--overwrite", "--overwrite"),
        (b"--output victim.txt", "--output"),
        (b"--save-state=victim.txt", "--save-state"),
        (b"--over", "--overwrite"),
        (b"--preview-host 0.0.0.0", "--preview-host"),
        (b"--content other.png", "--content"),
        (b"--trust-recipes", "--trust-recipes"),
    ],
)
def test_a_recipe_sets_what_shapes_the_picture_only(run, folder, victim, line, option):
    result = run(recipe_in(folder, b"--tv-weight 3\n" + line))
    assert error_of(result, 2) == (
        f"recipe my.args: {option} does not belong in a recipe: set it on the command line, or "
        "pass --trust-recipes for a recipe of your own"
    )


def test_a_recipe_of_one_s_own_may_set_anything(run, folder):
    (folder / "other's.png").write_bytes((folder / "other.png").read_bytes())
    name = recipe_in(folder, b"--trust-recipes\n--initial \"other's.png\" # it's mine\n--over")
    result = run(name, "--trust-recipes", "--iterations", 1)
    assert result.returncode == 0, result.stderr
    assert metadata.read(folder / "out.png")["initial"] == "other's.png"


READ = {
    "latin 1": (b"# f\xfcr\n", "line 1: not UTF-8 text: save the file as UTF-8"),
    "later": (b"--clip\n\n# \xff", "line 3: not UTF-8 text: save the file as UTF-8"),
    "quote": (b"--clip\n--seed '3", "line 2: a quote is not closed: put a value that holds one "),
    "apostrophe": (b"--network it's.mat", "line 1: a quote is not closed"),
    "null": (b"--seed 3\0", "line 1: holds a null byte: check the file"),
    "help": (b"--help", "unknown option --help"),
    "version": (b"--version", "unknown option --version"),
    "unknown": (b"--" + b"x" * 100_000, f"unknown option --{'x' * 35}...{'x' * 20}"),
    "batch's own": (b"--output-dir /", "unknown option --output-dir"),
    "value": (b"--seed many", "--seed is many: use a whole number"),
    "remote": (rb"--network \\host\share\x.mat", "is on another machine: copy it here"),
    "itself": (b"@my.args", "recipe my.args reads itself: remove its @ line"),
    "another machine": (b"@//host/my.args", "reads //host/my.args: that is another machine"),
    "nothing": (b"@gone.args", "no file gone.args"),
    "large": (b"#" * 1_000_001, "is larger than 1000 kB: check the file"),
}


@pytest.mark.parametrize("name", READ)
def test_a_recipe_that_is_not_one_is_one_line(run, folder, name):
    data, message = READ[name]
    result = run(recipe_in(folder, data))
    assert result.returncode in (1, 2) and message in error_of(result, result.returncode)
    assert len(result.stderr) < 520


def test_recipes_read_recipes_and_odd_names(run, folder):
    recipe_in(folder, b"\xef\xbb\xbf--seed 7\r\n# don't\r\n--clip", "#für.args")
    for number in range(9):
        recipe_in(folder, f"@{number + 1}.args".encode(), f"{number}.args")
    recipe_in(folder, "@#für.args".encode(), "9.args")
    assert run("@4.args", "--iterations", 1).returncode == 2  # in a recipe `#` begins a comment
    recipe_in(folder, "'@#für.args'".encode(), "9.args")
    assert run("@4.args", "--iterations", 1).returncode == 0
    assert metadata.read(folder / "out.png")["seed"] == 7
    assert "is the 9th within another" in error_of(run("@0.args"), 2)


def test_a_backslash_in_a_recipe_is_a_backslash():
    assert recipe.split(r"--network C:\nets\vgg.mat  # mine") == ["--network", r"C:\nets\vgg.mat"]
    assert recipe.split(r'--network "C:\my nets\vgg.mat"')[1] == r"C:\my nets\vgg.mat"


def values_of(field):
    """Any value that the rule of a setting admits."""
    rule = field.metadata
    if field.name in ("scales", "tile"):
        return st.sampled_from(["auto", "off", "64", "100"])
    if rule["kind"] is bool:
        return st.booleans()
    if rule.get("is_size"):
        return st.sampled_from(["16x16", "512x384"])
    if rule["kind"] is str:
        return st.sampled_from(rule["choices"])
    low = rule.get("at_least", rule.get("above", -1e6))
    high = rule.get("at_most", rule.get("below", 1e6))
    if rule["kind"] is int:
        return st.integers(low, high)
    numbers = st.floats(
        low,
        high,
        exclude_min="above" in rule,
        exclude_max="below" in rule,
        allow_nan=False,
        allow_subnormal=False,
    )
    if rule["kind"] is dict:
        return st.dictionaries(
            st.from_regex(r"[a-z0-9_]{1,12}", fullmatch=True), numbers, min_size=1
        )
    return st.lists(numbers, min_size=2, max_size=3) if rule.get("many") else numbers


@st.composite
def any_settings(draw):
    fields = [field for field in dataclasses.fields(Settings) if shapes_picture(field)]
    chosen = draw(st.lists(st.sampled_from(fields), unique=True))
    try:
        made = settings_from({field.name: draw(values_of(field)) for field in chosen})
        # a script may set what has no effect with what its run settles, the command line may not
        own = {field.name for field in fields if getattr(made, field.name) != field.default}
        if made.style_loss == usual.style_loss(made):
            own.remove("style_loss")
        needs.check(own, vars(made), setting_rules())
        return made
    except UsageError:  # those that exclude each other
        return settings_from({})


@given(any_settings(), st.text())
def test_a_recipe_that_was_written_reads_back_as_the_same_settings(tmp_path_factory, made, title):
    path = tmp_path_factory.mktemp("recipe") / "my.args"
    path.write_text(recipe.text(made, title), encoding="utf-8")
    photo = [] if made.texture else ["--content", "c"]  # which would replace it
    arguments = [f"@{path}", *photo, "--styles", "s", "--output", "o"]
    expanded = parser.expand(arguments)
    assert parser.parse(expanded.arguments, {}, expanded.own).settings == made


# Tables of a batch


@pytest.fixture
def batch(folder, command_line):
    """A function that runs a batch there. Returns status, stdout and stderr."""
    return lambda *arguments: command_line(complete(arguments), folder, PATIENCE, program="batch")


def table(folder, text):
    (folder / "table.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return ["--pairs", "table.csv", "--output-dir", "results"]


ROWS = {
    "outside": ("a.png,../evil.png,", "outside of results: pass --allow-outside to write there"),
    "absolute": ("a.png,/tmp/evil.png,", "outside of results: pass --allow-outside"),
    "help": ("a.png,,--help", "line 2: unknown option --help"),
    "overwrite": ("a.png,,--overwrite", "line 2: --overwrite does not belong in a table"),
    "output": ("a.png,,--checkpoint-output=%d.png", "--checkpoint-output does not belong in a "),
    "quote": ("a.png,,--seed '3", "line 2: a quote in the options is not closed"),
    "null": ("a\0.png,,", "holds a null byte"),
    "value": ("a.png,,--seed many", "line 2: --seed is many: use a whole number"),
    "recipe": ("a.png,,@bad.args", "line 2: recipe bad.args: --overwrite does not belong in"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_table_stays_in_its_folder_and_within_its_options(folder, name, batch):
    row, message = ROWS[name]
    content, output, more = row.split(",", 2)
    recipe_in(folder, b"--overwrite", "bad.args")
    text = f"content,styles,output,options\n{content},painting.png,{output},{more}\n"
    result = batch(*table(folder, text))
    assert message in error_of(result, result.returncode) and result.returncode in (1, 2)
    assert not (folder / "results").exists() and not (folder / "evil.png").exists()


def test_a_table_of_one_s_own_may_write_elsewhere(folder, batch):
    text = "content,styles,output,options\nphoto.png,painting.png,../beside.png,--seed 4\n"
    arguments = [*table(folder, text), "--allow-outside", "--iterations", "1", *QUICK]
    result = batch(*arguments)
    assert result.returncode == 0, result.stderr
    assert metadata.read(folder / "beside.png")["seed"] == 4


@pytest.mark.parametrize("data", [b"content,styles\n\xff,b\n", b'content,styles\n"a,b', b"\0"])
def test_a_file_that_is_not_a_table_is_one_line(folder, data, batch):
    result = batch(*table(folder, data))
    assert "table.csv" in error_of(result, result.returncode)


# No output is an input of the same run


@pytest.mark.parametrize(
    "options",
    [
        ("--save-state", "network.mat"),
        ("--save-settings", "my.args"),
        ("--save-settings", "painting.png"),
        ("--timelapse", "network.gif", "--network", "network.gif"),
    ],
)
def test_an_output_never_replaces_an_input(run, folder, options):
    recipe_in(folder, b"--seed 3")
    (folder / "network.gif").write_bytes((folder / "network.mat").read_bytes())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run("@my.args", *options, "--overwrite")
    assert "is also an input" in error_of(result, 2)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_picture_whose_settings_are_used_is_not_replaced(run, folder, command_line):
    assert run("--iterations", 1).returncode == 0
    before = (folder / "out.png").read_bytes()
    again = ["--settings-from", "out.png", "--output", "out.png", "--overwrite"]
    assert "is also an input" in error_of(command_line(again, folder), 2)
    assert (folder / "out.png").read_bytes() == before


def test_a_batch_replaces_no_input_of_any_of_its_pictures(folder, batch):
    before = (folder / "photo.png").read_bytes()
    arguments = ["--contents", "other.png", "photo.png", "--styles", "painting.png"]
    result = batch(*arguments, "--output-dir", ".", "--name", "{content}.png", "--overwrite")
    assert "is also an input" in error_of(result, 2)
    assert (folder / "photo.png").read_bytes() == before


@pytest.mark.parametrize("name", ["gallery.jpg", "photo-painting-0.png"])
def test_neither_gallery_nor_checkpoints_of_a_batch_replace_an_input(folder, name, batch):
    (folder / "photo.png").rename(folder / name)
    (folder / "photo.png").write_bytes((folder / "other.png").read_bytes())
    before = (folder / name).read_bytes()
    arguments = ["--contents", "photo.png", name, "--styles", "painting.png", "--output-dir", "."]
    arguments += ["--checkpoint-output", "{content}-{style}-%d.png", "--overwrite"]
    result = batch(*arguments, "--checkpoint-iterations", "3")
    assert f"{name} is also an input" in error_of(result, 2)
    assert (folder / name).read_bytes() == before


def test_layers_are_listed_beside_a_recipe(folder, command_line):
    arguments = [recipe_in(folder, b"--pooling max"), "--list-layers", "--network", "network.mat"]
    result = command_line(arguments, folder)
    assert result.returncode == 0 and "relu1_1" in result.stdout.split()


def test_a_damaged_picture_in_the_folder_of_results_fails_alone(described, folder, batch):
    (folder / "results").mkdir()
    named = {
        "photo--painting.png": lambda description: description.pop("sha256"),
        "other--painting.png": lambda description: description.update(evil=[[]]),
    }
    for name, change in named.items():
        described(change, f"results/{name}")
    (folder / "third.png").write_bytes((folder / "photo.png").read_bytes())
    arguments = ["--contents", "photo.png", "other.png", "third.png", "--styles", "painting.png"]
    arguments += ["--output-dir", "results", "--iterations", "1", "--workers", "1", *QUICK]
    result = batch(*arguments)
    assert result.returncode == 1 and "1 painted, 2 failed in " in result.stderr
    assert "Traceback" not in result.stderr


# Messages


def test_file_names_stand_in_messages_as_they_are(run, folder):
    (folder / "size.jpg").write_bytes(PRECIOUS)
    assert error_of(run(output="size.jpg"), 1).startswith("size.jpg exists")
    (folder / "clip.jpg").write_bytes(b"hello")
    assert error_of(run(content="clip.jpg"), 1).startswith("clip.jpg is not a picture")
    (folder / "holiday").mkdir()
    message = error_of(run(content="holiday/style_scales.png"), 1)
    assert message.startswith("no file holiday/style_scales.png")


def test_a_message_is_one_line_of_bounded_length():
    assert one_line("a\nb\x1b[31m\udc80é") == r"a\nb\x1b[31m\udc80é"
    assert len(one_line("x" * 200_000)) == 500
    error = UserError(SettingName("style_weight"), " of size.jpg is wrong")
    assert str(error) == "style_weight of size.jpg is wrong" and error.settings == ("style_weight",)
    assert message_of(error) == "--style-weight of size.jpg is wrong"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-3", "many", "9" * 200_000])
def test_the_limit_of_megapixels_is_a_number(run, value):
    message = error_of(run(f"--max-megapixels={value}"), 2)
    assert re.match("--max-megapixels is .+: use a (finite number|number above 0)$", message)


def test_descriptions_survive_their_check(run, folder):
    assert (
        run("--iterations", 1, "--stylization", 0.3, "--style-layers", "relu1_1=2").returncode == 0
    )
    made = metadata.read(folder / "out.png")
    assert provenance.checked(made, "out.png") == made


def test_descriptions_that_lack_a_setting_are_compared_by_the_others():
    lacking = {"sha256": {}, "asked": {}}
    assert provenance.is_same(lacking, lacking)
    assert not provenance.is_same(lacking | {"beta2": 0.5}, lacking)


def test_a_painting_without_a_name_is_damage(described, folder):
    stranger = described(lambda description: description.update(styles=[None]))
    with pytest.raises(UserError, match=r"is damaged \(styles is \[None\]\): use another file"):
        provenance.options_of(str(folder / stranger), [])
