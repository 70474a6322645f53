"""Options without effect are refused, whatever their value; an earlier layer's are left out."""

import pytest

from neural_style_tf import needs
from neural_style_tf.batch import tables
from neural_style_tf.commands import batch, neural_style, parser
from neural_style_tf.errors import UsageError, message_of
from neural_style_tf.needs import Layer
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.runs import options
from neural_style_tf.runs.api import paint_file
from neural_style_tf.settings import Settings

FILES = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]


def parsed(*arguments):
    return parser.parse([*FILES, *arguments], {}).settings


def refusal(call, *arguments, **keywords):
    with pytest.raises(UsageError) as raised:
        call(*arguments, **keywords)
    message = message_of(raised.value)
    assert "\n" not in message and raised.value.exit_status == 2
    return message


# An option with its default and with another value; the message; and what gives it an effect.
NEEDS = {
    "--fit crop|--fit pad": ("needs --width and --height", "--width 30 --height 30"),
    "--style-scales 1|--style-scales 2": (
        "needs --style-fit area or width",
        "--style-fit width",
        "--style-fit stretch",
    ),
    "--style-stages scale|--style-stages fixed": (
        "needs --scales auto, or 2 or more",
        "--scales 2",
        "--scales 1",
    ),
    "--content-weight-blend 1|--content-weight-blend 0.5": (
        "needs --content-weight above 0",
        "--content-weight 1",
        "--content-weight 0",
    ),
    "--content-layers relu4_2": (
        "needs --content-weight above 0",
        "--content-weight 1",
        "--content-weight 0",
    ),
    "--content-loss mean|--content-loss sum": (
        "needs --content-weight above 0",
        "--content-weight 1",
        "--content-weight 0",
    ),
    "--style-layer-weight-exp 1|--style-layer-weight-exp 2": (
        "needs --style-weight above 0",
        "--style-weight 1",
        "--style-weight 0",
    ),
    "--style-layers relu4_2": (
        "needs --style-weight above 0",
        "--style-weight 1",
        "--style-weight 0",
    ),
    "--style-loss moments|--style-loss mean": (
        "needs --style-weight above 0",
        "--style-weight 1",
        "--style-weight 0",
    ),
    "--layer-reduction sum|--layer-reduction mean": (
        "needs --content-layers or --style-layers",
        "--content-layers relu4_2",
    ),
    "--style-rotations": (
        "needs --style-loss neighbors",
        "--style-loss neighbors",
        "--style-loss mean",
    ),
    "--tv-loss squares|--tv-loss power": (
        "needs --tv-weight above 0",
        "--tv-weight 1",
        "--tv-weight 0",
    ),
    "--pooling-rescale": ("needs --pooling avg or l2", "--pooling l2", "--pooling max"),
    "--evaluations 20|--evaluations 2": (
        "needs --optimizer l-bfgs-b",
        "--optimizer l-bfgs-b",
    ),
    "--initial-colors match|--initial-colors own": (
        "needs --initial-noiseblend below 1",
        "--initial-noiseblend 0.5",
        "--initial-noiseblend 1",
    ),
    "--noise-range -20 20": (
        "needs --initial-noiseblend above 0 or --texture",
        "--initial-noiseblend 0.5",
    ),
    "--print-iterations 3": ("has no effect with --quiet", "", "--quiet"),
    "--decay-every 100|--decay-every 7": (
        "needs --learning-rate-schedule step",
        "--learning-rate-schedule step",
    ),
    "--decay-factor 0.5|--decay-factor 0.7": (
        "needs --learning-rate-schedule step",
        "--learning-rate-schedule step",
    ),
    "--state-iterations 3": ("needs --resume or --save-state", "--save-state run.npz"),
    "--jpeg-quality 95|--jpeg-quality 50": (
        "needs --output or --checkpoint-output with the ending .jpg",
        "--output out.JPEG",
    ),
    "--allow-changes": ("needs --resume", "--resume run.npz"),
    "--preview-host 127.0.0.1|--preview-host ::1": ("needs --preview", "--preview"),
    "--open": ("needs --preview", "--preview"),
    "--checkpoint-full-size": ("needs --checkpoint-output", "--checkpoint-output %d.png"),
} | {
    f"{option}": ("needs --optimizer adam", "--optimizer adam", "--optimizer lbfgs")
    for option in (
        "--learning-rate 5|--learning-rate 3",
        "--learning-rate-schedule cosine|--learning-rate-schedule constant",
        "--beta1 0.9|--beta1 0.91",
        "--beta2 0.999|--beta2 0.9",
        "--eps 1e-8|--eps 1e-4",
    )
}


def test_every_need_is_tested():
    tested = {option.split(" ")[0].split("|")[0] for option in NEEDS}
    described = {
        f"--{name.replace('_', '-')}"
        for name, rule in options.all_rules().items()
        if "needs" in rule
    }
    assert tested == described


@pytest.mark.parametrize("option", NEEDS)
def test_an_option_without_effect_is_refused_whatever_its_value(option):
    message, with_effect, *without = NEEDS[option]
    name = option.split(" ")[0].split("|")[0]
    for words in option.split("|"):
        lacking = [*words.split(), *" ".join(without).split()]
        assert refusal(parsed, *lacking) == f"{name} {message}"
        parsed(*words.split(), *with_effect.split())


@pytest.mark.parametrize("beta1", ["0.9", "0.91"])
def test_an_option_of_adam_selects_it_whatever_its_value(beta1):
    settings = parsed("--beta1", beta1)
    assert (settings.optimizer, settings.beta1) == ("adam", float(beta1))
    assert refusal(parsed, "--beta1", beta1, "--optimizer", "l-bfgs-b") == (
        "--beta1 needs --optimizer adam"
    )


def test_a_value_that_is_wrong_itself_is_reported_as_such():
    assert refusal(parsed, "--tv-loss", "power", "--tv-weight", "much") == (
        "--tv-weight is much: use a finite number"
    )
    assert refusal(parsed, "--initial-colors", "own", "--initial-noiseblend", "nan") == (
        "--initial-noiseblend is nan: use a finite number"
    )
    assert refusal(parsed, "--evaluations", "many", "--optimizer", "l-bfgs-b") == (
        "--evaluations is many: use a whole number"
    )


EXCLUSIVE = {
    "--stylization 0.7 --style-weight 5000": "--stylization and --style-weight",
    "--content-layers relu4_2 --content-weight-blend 1": (
        "--content-weight-blend and --content-layers"
    ),
    "--style-layers relu4_2 --style-layer-weight-exp 1": (
        "--style-layer-weight-exp and --style-layers"
    ),
    "--style-size 300 --style-scales 1": "--style-size and --style-scales",
    "--style-size 300 --style-fit area": "--style-size and --style-fit",
    "--stroke-size 1 --style-scales 1": "--stroke-size and --style-scales",
    "--stroke-size 1 --style-size 300": "--stroke-size and --style-size",
    "--stroke-size 1 --style-stages scale": "--stroke-size and --style-stages",
    "--texture 64x64": "--texture and --content",
}


@pytest.mark.parametrize("arguments", EXCLUSIVE)
def test_options_that_exclude_each_other_are_refused_whatever_their_value(arguments):
    message = f"{EXCLUSIVE[arguments]} cannot be combined: use one of them"
    assert refusal(parsed, *arguments.split()) == message


def test_in_python_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = {"optimizer": "lbfgs", "learning_rate": 3}
    for call, arguments in ((Settings, []), (paint_file, ["photo.png", "painting.png", "out.png"])):
        with pytest.raises(UsageError, match="learning_rate needs optimizer adam"):
            call(*arguments, **wrong)
    for keywords, message in (
        (wrong, "learning_rate needs optimizer adam"),
        ({"tv_loss": "squares", "tv_weight": 0}, "tv_loss needs tv_weight above 0"),
        ({"style_weight": 5000.0, "stylization": 0.5}, "stylization and style_weight cannot be"),
    ):
        with pytest.raises(UsageError, match=message):
            stylize(**keywords)
    with pytest.raises(UsageError, match="print_iterations has no effect with quiet"):
        paint_file("photo.png", "painting.png", "out.png", print_iterations=5)


@pytest.mark.parametrize("name, value", [("size", 64), ("width", 64), ("height", 64)])
def test_the_size_of_arrays_is_their_own(name, value):
    with pytest.raises(UsageError) as raised:
        stylize(**{name: value})
    assert str(raised.value) == f"{name} is for files: resize the pictures, or use paint_file"


def test_settings_in_python_are_overridden_by_keywords_with_what_depends_on_them(tmp_path):
    whole = Settings(optimizer="adam", learning_rate=3, width=30, height=30, fit="pad")
    lower = Layer(vars(whole), is_strict=False)
    values = options.combined(lower, Layer({"optimizer": "lbfgs", "size": 40}))
    assert (values["optimizer"], values["size"]) == ("lbfgs", 40)
    assert {"learning_rate", "width", "height", "fit"}.isdisjoint(values)


def test_what_is_inherited_loses_its_effect_silently():
    inherited = vars(Settings(optimizer="adam", learning_rate=3, style_fit="width"))
    settings = parser.parse([*FILES, "--optimizer", "lbfgs", "--style-size", "90"], inherited)
    assert settings.settings.learning_rate is None and settings.settings.style_fit == "area"
    inherited = vars(Settings(style_loss="neighbors", style_rotations=True))
    settings = parser.parse([*FILES, "--style-loss", "mean"], inherited).settings
    assert settings.style_rotations is False


@pytest.mark.parametrize(
    "own",
    [
        ["--content-loss", "sum"],
        ["--layer-reduction", "mean", "--content-layers", "relu3_1"],
        ["--texture", "64x64"],
    ],
    ids=" ".join,
)
def test_inherited_neighbors_give_way_to_what_excludes_them(own):
    files = FILES[2:] if "--texture" in own else FILES
    inherited = vars(Settings(style_rotations=True))
    settings = parser.parse([*files, *own], inherited).settings
    assert (settings.style_loss, settings.style_rotations) == ("moments", False)
    message = "--style-loss neighbors needs"
    assert message in refusal(parser.parse, [*files, *own, "--style-loss", "neighbors"], inherited)
    message = "--style-rotations needs --style-loss neighbors"
    assert refusal(parser.parse, [*files, *own, "--style-rotations"], inherited) == message


def test_inherited_rotations_give_way_to_what_selects_another_loss():
    inherited = {"style_rotations": True}
    settings = parser.parse([*FILES, "--style-weight", "5000"], inherited).settings
    assert (settings.style_loss, settings.style_rotations) == ("moments", False)
    assert parser.parse(FILES, inherited).settings.style_rotations is True


def test_what_loses_its_effect_takes_along_what_depends_on_it():
    lower = Layer({"learning_rate_schedule": "step", "decay_every": 7}, is_strict=False)
    assert options.combined(lower, Layer({"optimizer": "lbfgs"})) == {"optimizer": "lbfgs"}


def test_a_recipe_that_contradicts_itself_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.args").write_text("--optimizer lbfgs\n--learning-rate 3\n")
    message = "recipe wrong.args: --learning-rate needs --optimizer adam"
    assert refusal(parser.expand, ["@wrong.args"]) == message
    (tmp_path / "open.args").write_text("--fit stretch  # for those who set width and height\n")
    expanded = parser.expand([*FILES, "@open.args"])
    assert parser.parse(expanded.arguments, {}, expanded.own).settings.fit is None


def read_batch(*arguments):
    return batch.read(["--output-dir", "out", *arguments])


def test_a_batch_refuses_options_without_effect(folder, monkeypatch):
    monkeypatch.chdir(folder)
    pictures = ["--contents", "photo.png", "--styles", "painting.png"]
    wrong = ["--learning-rate", "3", "--optimizer", "lbfgs"]
    assert refusal(read_batch, *pictures, *wrong) == "--learning-rate needs --optimizer adam"
    assert refusal(read_batch, *pictures, "--allow-outside") == "--allow-outside needs --pairs"
    assert refusal(read_batch, *pictures, "--shared-folder") == "--shared-folder needs --cluster"
    assert refusal(read_batch, *pictures, "--print-iterations", "5") == (
        "--print-iterations is not available in batch.py"
    )


def write_pairs(folder, *rows):
    """A table of one photo and one painting. rows: output and options of each."""
    lines = (f"photo.png,painting.png,{row}\n" for row in rows)
    (folder / "pairs.csv").write_text("content,styles,output,options\n" + "".join(lines))


def test_a_row_of_a_table_overrides_with_what_depends_on_it(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_pairs(folder, "a.png,--optimizer lbfgs", "b.png,", "c.png,--style-size 90")
    table = ["--pairs", "pairs.csv"]
    pairs, _ = read_batch(*table, "--learning-rate", "3", "--style-scales", "0.5")
    settings = [pair.options.settings for pair in pairs]
    assert [each.learning_rate for each in settings] == [None, 3, 3]
    assert [each.optimizer for each in settings] == ["lbfgs", "adam", "adam"]
    assert [each.style_scales for each in settings] == [(0.5,), (0.5,), None]
    write_pairs(folder, "a.png,--evaluations 20")
    assert refusal(read_batch, *table) == (
        "pairs.csv, line 2: --evaluations needs --optimizer l-bfgs-b"
    )


def test_a_row_of_a_table_gives_an_option_of_the_command_line_its_effect(folder, monkeypatch):
    monkeypatch.chdir(folder)
    rows = ["a.png,--width 30 --height 40", "b.png,--width 50 --height 20 --fit stretch"]
    write_pairs(folder, *rows)
    pairs, _ = read_batch("--pairs", "pairs.csv", "--fit", "pad")
    assert [pair.options.settings.fit for pair in pairs] == ["pad", "stretch"]
    write_pairs(folder, "a.png,--width 30")
    assert refusal(read_batch, "--pairs", "pairs.csv", "--fit", "pad") == (
        "pairs.csv, line 2: --fit needs --width and --height"
    )


def test_what_is_done_instead_of_painting_has_few_options(capsys):
    for arguments, message in {
        ("--list-layers", "--size", "64"): "--size has no effect with --list-layers",
        ("--clear-cache", "--quiet"): "--quiet has no effect with --clear-cache",
    }.items():
        assert neural_style.main([*arguments]) == 2
        assert capsys.readouterr().err == f"error: {message}\n"


def test_trust_needs_a_recipe(capsys):
    assert neural_style.main([*FILES, "--trust-recipes"]) == 2
    assert capsys.readouterr().err == "error: --trust-recipes needs a recipe, as in @my.args\n"
    files = ["--contents", "photo.png", "--styles", "painting.png"]
    assert refusal(read_batch, *files, "--trust-recipes") == (
        "--trust-recipes needs a recipe, as in @my.args"
    )


def test_needs_are_checked_where_all_that_they_depend_on_is_known():
    rules = {"frame": {"needs": needs.any_of("width", "quiet")}}
    needs.check(["frame"], {"frame": 3, "width": None}, rules)
    with pytest.raises(UsageError, match="frame needs width or quiet"):
        needs.check(["frame"], {"frame": 3, "width": None, "quiet": False}, rules)


def test_rows_are_read_with_their_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.args").write_text("--tv-weight 3\n")
    row = tables.own_options("@mine.args --size 64", parser.check_table, parser.check_recipe)
    assert row.own == ["--size", "64"] and row.arguments == ["--tv-weight", "3", "--size", "64"]
