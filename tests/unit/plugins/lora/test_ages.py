from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.plugins.lora.ages import age_name, group_names, group_of, parse_minimum_age

WRITTEN = {
    "Age 3-5": 3,
    "Age  0-3": 0,
    "Age 9+": 9,
    "9+": 9,
    "12+": 12,
    "9 +": 9,
    "10-14": 10,
    "13": 13,
    " 13 ": 13,
    "13.0": 13,
    "3.5": 3.5,
    "Age: 7": 7,
    "AGES 4 - 8": 4,
    "aged 8 and over": 8,
    "Ages 3 and up": 3,
    "Age 3 & up": 3,
    "from 5 years": 5,
    "For ages 5 to 8": 5,
    "3 to 5": 3,
    "Reading age 6-8": 6,
    "3 years and up": 3,
    "3+ years": 3,
    "3-5 years old": 3,
    "3 yrs +": 3,
    "12 plus": 12,
    "6 months+": 0.5,
    "6 months +": 0.5,
    "Age 6months+": 0.5,
    "6+ months": 0.5,
    "6-18 months": 0.5,
    "6 m - 2 y": 0.5,
    "18 months - 3 years": 1.5,
    "9 months to 2": 0.75,
    "3\u20135": 3,  # en dash
    "Age\u00a03\u20145": 3,  # no-break space, em dash
    "3\u22125": 3,  # minus sign
    "\uff13\uff0d\uff15": 3,  # full width
    "0-0": 0,
}

NOT_AGES = [
    "", " ", "Age ", "Age", "nan", "NaN", "None", "adult", "all ages", "children", "Age three", "-3", "5-3", "6 months - 0 years",
    "2019", "121", "3-5-7", "3,5", "Age 3 books", "grade 3", "+", "-", "3--5", "inf", "1e1", "5\u00bd", "under 5", "3 weeks",
]  # fmt: skip


@pytest.mark.parametrize(("text", "years"), WRITTEN.items())
def test_the_lower_end_of_what_publishers_write(text: str, years: float) -> None:
    assert parse_minimum_age(text) == years


@pytest.mark.parametrize("text", NOT_AGES)
def test_anything_else_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="is no age") as caught:
        parse_minimum_age(text)
    assert repr(text) in str(caught.value)


@given(low=st.integers(0, 60), span=st.integers(0, 60), dash=st.sampled_from(["-", " - ", "\u2013", " to "]))
def test_ranges_and_open_ends_agree(low: int, span: int, dash: str) -> None:
    for text in (f"Age {low}{dash}{low + span}", f"{low}+", f"Ages {low} and up", f"{low}"):
        assert parse_minimum_age(text) == low
    assert parse_minimum_age(f"{low}{dash}{low + span} months") == parse_minimum_age(f"{low} months+") == low / 12


@given(st.text(max_size=12))
def test_any_text_is_an_age_in_range_or_refused(text: str) -> None:
    try:
        years = parse_minimum_age(text)
    except ValueError:
        return
    assert 0 <= years <= 120


@given(
    st.integers(0, 240).map(lambda months: months / 12)
    | st.floats(0, 100, allow_subnormal=False).map(lambda x: round(x, 3))
)
def test_the_name_of_an_age_reads_back_exactly(years: float) -> None:
    assert parse_minimum_age(age_name(years)) == years


def test_names_of_ages() -> None:
    assert [age_name(years) for years in (0.0, 0.5, 7 / 12, 3.0, 12.0)] == ["0", "6 months", "7 months", "3", "12"]


@pytest.mark.parametrize(
    ("bounds", "names"),
    [
        ((0, 3, 6, 9), ("0-2", "3-5", "6-8", "9+")),
        ((0.0, 1.0, 2.0), ("0", "1", "2+")),
        ((0, 0.5, 3), ("0-<0.5", "0.5-<3", "3+")),
    ],
)
def test_names_of_groups(bounds: tuple[float, ...], names: tuple[str, ...]) -> None:
    assert group_names(bounds) == names


def test_borders_belong_to_the_upper_group() -> None:
    assert [group_of(years, (0, 3, 6, 9)) for years in (0, 0.5, 2.99, 3, 5, 6, 8.5, 9, 40)] == [
        0,
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    with pytest.raises(ValueError, match="age 2 is below the first age group, which begins at 3"):
        group_of(2, (3, 6))


@given(
    bounds=st.lists(st.integers(0, 30), min_size=2, max_size=6, unique=True).map(sorted),
    years=st.floats(0, 120),
)
def test_an_age_lies_inside_its_group(bounds: list[int], years: float) -> None:
    if years < bounds[0]:
        return
    group = group_of(years, bounds)
    assert bounds[group] <= years
    assert group == len(bounds) - 1 or years < bounds[group + 1]
