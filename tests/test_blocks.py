"""Pages cut into blocks, blocks measured, labelled, judged and put together again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.block_context import context_features, doubtful
from tasks.text.block_extract import join_blocks, judge_blocks
from tasks.text.block_features import Hints, block_features
from tasks.text.block_labels import label_blocks
from tasks.text.block_model import BlockModel, choose, load_model
from tasks.text.block_tokens import Words, label_words, text_words
from tasks.text.blocks import TAGS, read_blocks
from tasks.text.model_errors import WeightsError
from tasks.text.train_blocks import Example, Trainer, extract_with, fold_of, read_example

NO_WORDS = Words({}, {}, {})


def texts(html: str) -> list[str]:
    return read_blocks(html).texts


def test_blocks_end_where_a_reader_sees_a_border() -> None:
    assert texts("<p>one <b>two</b> <i>three</i><p>four") == ["one two three", "four"]
    assert texts("<div>a<div>b</div>c</div>") == ["a", "b", "c"]
    assert texts("<ul><li>x<li>y</ul>") == ["x", "y"]
    assert texts("<table><tr><td>1<td>2<tr><td>3</table>") == ["1", "2", "3"]
    assert texts("<h1>T</h1>tail <span>of</span> text") == ["T", "tail of text"]
    assert texts("<my-card>a</my-card><my-card>b</my-card>") == ["a", "b"]


def test_what_never_shows_is_no_block() -> None:
    assert texts("<head><title>t</title></head><body>a<script>b</script><template>c</template>") == ["a"]
    assert texts("<p>a<select><option>b</select><textarea>c</textarea>") == ["a"]
    assert texts("<p> \n\t </p><div>&nbsp;</div>") == []


def test_noscript_is_text() -> None:
    """Forums put their posts there, for readers without scripts: us."""
    assert texts("<body><noscript><p>A post.</p></noscript>") == ["A post."]


def test_line_breaks_and_verbatim_text_are_kept() -> None:
    assert texts("<p>a <br> b<br/>c</p>") == ["a\nb\nc"]
    assert texts("<pre>def f():\n    return 1\n</pre>") == ["def f():\n    return 1"]


def test_links_and_bold_are_measured() -> None:
    blocks = read_blocks("<p>abcd<a href=x>efgh</a></p><p><b>bold</b>er</p>")
    assert blocks.links.tolist() == [4, 0]
    assert blocks.anchors.tolist() == [1, 0]
    assert blocks.strong.tolist() == [0, 4]


def test_links_around_blocks_count_for_all_of_them() -> None:
    blocks = read_blocks("<a href=x><div>ab</div><div>cd</div></a><p>ef</p>")
    assert blocks.links.tolist() == [2, 2, 0]


def test_elements_span_their_blocks() -> None:
    blocks = read_blocks("<body><main><p>a</p><p>b</p></main><footer>c</footer></body>")
    spans = {
        TAGS[tag]: (first, last)
        for tag, first, last in zip(
            blocks.tag.tolist(), blocks.first.tolist(), blocks.last.tolist(), strict=True
        )
    }
    assert spans["main"] == (0, 2)
    assert spans["footer"] == (2, 3)
    assert spans["body"] == (0, 3)


def test_deep_nesting_costs_no_stack() -> None:
    assert texts("<div>" * 20_000 + "deep") == ["deep"]


TAG_SOUP = """<div> </div> <p> </p> <a> </a> <b> </b> <table> <tr> <td> </table> <ul> <li> </ul> <pre> </pre>
<br> <h1> </h1> <noscript> </noscript> <select> </select> <body> </body> <head> </head>
<x-y> </x-y> word 你好。 A."""


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(TAG_SOUP.split()), max_size=60))
def test_any_soup_keeps_the_invariants(parts: list[str]) -> None:
    blocks = read_blocks(" ".join(parts) or " ")
    elements = len(blocks.tag)
    assert (blocks.parent[1:] < np.arange(1, elements)).all()
    assert (blocks.first <= blocks.last).all()
    assert (blocks.last <= len(blocks.texts)).all()
    rows = np.arange(len(blocks.texts))
    for around in (blocks.holder, blocks.inner):
        assert (blocks.first[around] <= rows).all()
        assert (rows < blocks.last[around]).all()
    assert all(text.strip() for text in blocks.texts)
    if blocks.texts:
        measured = block_features(blocks, Hints("word", bodies="A."), NO_WORDS)
        assert measured.table.shape == (len(measured.names), len(blocks.texts))
        assert len(set(measured.names)) == len(measured.names)
        assert np.isfinite(measured.table).all()
        assert (measured.lengths >= 1).all()
        likely = rows.astype(np.float32) / len(rows)
        names, context = context_features(blocks, measured, likely, rows[::2])
        assert context.shape == (len(set(names)), len(rows[::2]))
        assert np.isfinite(context).all()


def test_an_ideograph_counts_for_more_than_a_letter() -> None:
    english = "Nobody in the village could remember a flood so early in the year."
    chinese = "村里没有人记得哪一年的洪水来得这样早。"
    lengths = block_features(read_blocks(f"<p>{english}<p>{chinese}"), Hints(), NO_WORDS).lengths
    assert lengths[1] == pytest.approx(lengths[0], rel=0.3)


def test_words_of_labels_and_texts() -> None:
    assert label_words("post-body widget_2 mainNav nav") == ["post", "body", "widget", "main", "nav"]
    assert text_words("Add to cart") == ["add", "to", "cart", "=add to cart"]
    assert text_words("3 Comments") == ["0", "comments", "=0 comments"]
    long = text_words("One two three four five six seven. " * 8)
    assert long[:2] == ["^one", "^two"]
    assert long[-1] == "seven$"


def test_unknown_words_say_nothing() -> None:
    words = Words({"nav": -1.0}, {}, {"=share": -2.0})
    assert words.label_scores("nav 导航") == (-1.0, 0.0)
    assert words.text_score("分享到微博") == 0.0


def test_labels_follow_the_order_of_the_gold() -> None:
    page = ["Home", "News", "Title", "We went home when it was late.", "Home", "Read on", "The end of it."]
    gold = "Title\n\nWe went home when it was late.\n\nThe end of it."
    assert (label_blocks(page, gold) >= 0.5).tolist() == [False, False, True, True, False, False, True]


def test_labels_in_chinese() -> None:
    page = ["首页", "洪水", "那天夜里河水涨了起来。", "分享"]
    assert (label_blocks(page, "洪水\n那天夜里河水涨了起来。") >= 0.5).tolist() == [False, True, True, False]


def test_displaced_and_altered_blocks_are_found_by_their_shingles() -> None:
    page = ["Second part of the text, as it is told here.", "First part of the text, which comes before."]
    gold = "First part of the text, which comes before.\nSecond part of the text, as it is told here."
    assert (label_blocks(page, gold) >= 0.5).all()


def test_labels_of_nothing() -> None:
    assert label_blocks([], "gold").tolist() == []
    assert label_blocks(["a", "…"], "").tolist() == [0, 0]


def test_choice_maximises_the_expected_f1() -> None:
    sure = np.array([0.9, 0.9, 0.1, 0.05], np.float32)
    assert choose(sure, np.ones(4, np.float32), 0.0).tolist() == [True, True, False, False]
    unsure = np.array([0.4, 0.3, 0.3], np.float32)
    assert choose(unsure, np.ones(3, np.float32), 0.0).all()
    assert not choose(unsure, np.ones(3, np.float32), 0.5).any()


def test_joined_text_shows_rows_lists_and_paragraphs() -> None:
    blocks = read_blocks(
        "<h1>T</h1><table><tr><td>a<td><p>b<tr><td>c</table><ul><li>x<li>y</ul><p>z<p>dropped<p>end"
    )
    kept = np.array([text != "dropped" for text in blocks.texts])
    assert join_blocks(blocks, kept) == "T\n\na\tb\nc\n\nx\ny\n\nz\n\nend"


def test_shipped_weights_are_the_ones_released_and_fit_the_features() -> None:
    model = load_model()
    blocks = read_blocks("<p>Some text.</p><nav><a href=x>Home</a></nav>")
    likely = judge_blocks(model, blocks, block_features(blocks, Hints(), model.words))
    assert likely.shape == (2,)
    assert likely[0] > likely[1]


def test_trees_of_other_features_are_refused() -> None:
    model = load_model()
    blocks = read_blocks("<p>Some text.</p>")
    measured = block_features(blocks, Hints(), model.words)
    for stage in ("first", "second"):
        other = replace(getattr(model, stage), names=("length",))
        with pytest.raises(WeightsError, match="other features"):
            judge_blocks(replace(model, **{stage: other}), blocks, measured)


def context_of(html: str, likely: list[float]) -> dict[str, list[float]]:
    blocks = read_blocks(html)
    measured = block_features(blocks, Hints(), NO_WORDS)
    names, table = context_features(
        blocks, measured, np.array(likely, np.float32), np.arange(len(blocks.texts))
    )
    return dict(zip(names, table.tolist(), strict=True))


def test_the_second_judgement_sees_neighbours_sections_and_blocks_made_alike() -> None:
    page = "<h2>Head</h2><p class=a>aaaa</p><h2>Next</h2><p class=a>bbbb</p><div>cccc</div>"
    seen = context_of(page, [0.9, 0.2, 0.1, 0.6, 0.5])
    assert seen["odds+1"][:4] == pytest.approx(seen["odds"][1:])
    assert seen["odds+1"][4] == -9
    assert seen["likely_alike_0"][1] == seen["likely_alike_0"][3] == pytest.approx(0.4)
    assert seen["likely_others_alike"][1] == pytest.approx(0.6)
    assert seen["heading_odds"][:2] == [seen["odds"][0]] * 2
    assert seen["likely_section"][1] == pytest.approx((0.9 + 0.2) / 2)
    assert seen["likely_section"][4] == pytest.approx((0.1 + 0.6 + 0.5) / 3)
    assert seen["until_0.85"][1:] == [9] * 4


def test_a_block_is_judged_again_only_in_doubt() -> None:
    assert doubtful(np.array([0.001, 0.5, 0.009, 0.999], np.float32)).tolist() == [1, 3]


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(WeightsError, match="cannot read"):
        load_model(path)
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="expected"):
        load_model(path)


def test_trees_agree_with_scikit_learn(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    from tasks.text.train_trees import as_arrays, export

    rng = np.random.default_rng(1)
    rows = rng.normal(size=(600, 5)).astype(np.float32)
    rows[:, 3] = rows[:, 3].round()
    wanted = (rows[:, 0] * rows[:, 1] + rows[:, 3] > 0.2).astype(int)
    trained = HistGradientBoostingClassifier(max_iter=12, max_depth=4).fit(rows, wanted)
    names = ["a", "b", "c", "d", "e"]
    trees = as_arrays(trained, names)
    expected = trained.predict_proba(rows)[:, 1]
    assert np.abs(trees.probabilities(np.ascontiguousarray(rows.T)) - expected).max() < 1e-5
    model = BlockModel(Words({"nav": -1.0}, {}, {"=好": 0.5}), trees, replace(trees, baseline=1.0))
    path = tmp_path / "weights.safetensors"
    again = load_model(path, export(model, path))
    assert isinstance(again, BlockModel)
    assert again.words.text == {"=好": 0.5}
    for one, two in ((again.first, model.first), (again.second, model.second)):
        assert (one.probabilities(np.ascontiguousarray(rows.T)) == two.probabilities(rows.T.copy())).all()


def example(number: int, belongs: bool) -> Example:
    """A page of a domain of its own, whose gold text is one half of its posts or the other, or its menu."""
    entries = [f"Entry {chr(97 + number)}{chr(97 + place)}" for place in range(20)]
    posts = [f"What {chr(97 + number)} said at length about matter {chr(97 + place)}." for place in range(20)]
    menu = "".join(f"<li><a href=x>{entry}</a>" for entry in entries)
    body = "".join(f"<p>{post}" for post in posts)
    html = f"<body><ul class=menu>{menu}</ul><div class=post>{body}</div>"
    half = posts[:10] if number % 3 else posts[10:]
    gold = "\n".join(half if belongs else entries)
    return read_example(f"https://site{number}.org/", html.encode(), "utf-8", "article", gold)


def test_a_model_knows_nothing_of_the_fold_that_it_is_judged_on() -> None:
    pages = [example(number, True) for number in range(20)]
    assert {page.fold for page in pages} == set(range(5))
    turned = [example(number, False) if page.fold == 2 else page for number, page in enumerate(pages)]
    one, two = (Trainer(each).fit(2) for each in (pages, turned))
    for stage in ("first", "second"):
        trees, others = getattr(one, stage), getattr(two, stage)
        assert np.array_equal(trees.value, others.value)
        assert np.array_equal(trees.threshold, others.threshold)
    assert (one.words.near, one.words.far, one.words.text) == (two.words.near, two.words.far, two.words.text)
    unseen = next(page for page in pages if page.fold == 2)
    found = extract_with(one, unseen)
    assert "said at length" in found
    assert "Entry" not in found


def test_folds_keep_domains_together_and_a_dealing_moves_them() -> None:
    assert fold_of("https://a.example.co.uk/x") == fold_of("http://b.example.co.uk/y")
    hosts = [f"https://host{number}.org/" for number in range(50)]
    assert [fold_of(each) for each in hosts] != [fold_of(each, 1) for each in hosts]


def test_no_pickle_is_near_the_weights() -> None:
    raw = (
        Path(load_model.__wrapped__.__code__.co_filename).with_name("block_weights.safetensors").read_bytes()
    )
    assert raw[8:9] == b"{"
    assert len(raw) < 2_000_000
