"""Bundled recipes are found by their names, from every folder."""

import pytest
from launcher import ROOT

from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.runs import recipe

PRISMA = str(ROOT / "recipes" / "prisma.args")


def expand(*arguments):
    return recipe.expand([*arguments], lambda _: None)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments", [["@recipes/prisma.args"], ["--recipe", "prisma"], ["--recipe=prisma"]]
)
def test_a_bundled_recipe_is_found_from_every_folder(elsewhere, arguments):
    expanded = expand("--size", "64", *arguments, "--seed", "3")
    assert expanded == expand("--size", "64", f"@{PRISMA}", "--seed", "3")
    assert expanded.recipes == [PRISMA]
    assert "--iterations" in expanded.arguments


def test_a_file_in_the_folder_wins_over_the_bundled_recipe(elsewhere):
    (elsewhere / "recipes").mkdir()
    (elsewhere / "recipes" / "prisma.args").write_text("--seed 7\n")
    assert expand("@recipes/prisma.args").arguments == ["--seed", "7"]
    assert expand("--recipe", "prisma").recipes == [PRISMA]


def test_a_recipe_builds_on_a_bundled_one(elsewhere):
    (elsewhere / "mine.args").write_text(
        "--recipe lbfgs  # and finer strokes\n--style-scales 0.5\n"
    )
    expanded = expand("@mine.args")
    assert expanded.arguments[-2:] == ["--style-scales", "0.5"]
    assert expanded.recipes == ["mine.args", str(ROOT / "recipes" / "lbfgs.args")]


@pytest.mark.parametrize("arguments", [["@recipes/prizma.args"], ["--recipe", "prizma"]])
def test_an_unknown_recipe_is_answered_with_the_nearest(elsewhere, arguments):
    with pytest.raises(UsageError) as caught:
        expand(*arguments)
    assert str(caught.value) == (
        "unknown recipe prizma (did you mean prisma?): use one of ai-painter, average-pooling, "
        "keras-content, keras-noise, keras-vgg16, lbfgs, prisma, pytorch, or @FILE for a file of "
        "options"
    )


def test_any_other_file_that_is_missing_is_no_recipe_of_ours(elsewhere):
    with pytest.raises(UserError, match=r"no file prisma.args: check the name"):
        expand("@prisma.args")
