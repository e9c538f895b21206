"""The gate: which findings count, how many are allowed, and what the sentence says. Laws first."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import UsageError
from curate.gate.judgement import ClassNoise, Gate, Outcome, Reference, Tally
from curate.rules.rule import RULES, SEVERITIES, is_doubted


@dataclass(frozen=True)
class Fact:
    rule: str = "mislabeled"
    severity: str = "error"
    accepted: bool = False
    verdict: str | None = None
    fingerprint: str = "f"
    row: str = "r"
    suspicion: float | None = None
    spared: str = ""

    @property
    def doubted(self) -> bool:
        return is_doubted(self.rule, self.suspicion)


FACTS = st.builds(
    Fact,
    rule=st.sampled_from(sorted(RULES)),
    severity=st.sampled_from(SEVERITIES),
    accepted=st.booleans(),
    verdict=st.sampled_from([None, "keep", "relabel", "drop", "unsure"]),
    fingerprint=st.sampled_from("abc"),
    row=st.sampled_from("xyz"),
    suspicion=st.sampled_from([None, 0.2, 0.5]),
)
ASKED = st.lists(st.sampled_from([*RULES, *SEVERITIES]), min_size=1, max_size=3).map(tuple)
REFERENCE = Reference("before", frozenset("a"), frozenset("x"))


def judged(gate: Gate, facts: list[Fact], rows: int = 100, reference: Reference | None = None) -> Outcome:
    found = [Fact(**{**fact.__dict__, "spared": gate.spares(fact, reference)}) for fact in facts]
    return gate.judge(found, Tally(rows), reference)


# Laws


@given(ASKED, st.lists(FACTS, max_size=12))
def test_accepted_and_kept_findings_never_fail(fail_on: tuple[str, ...], facts: list[Fact]) -> None:
    spoken = [fact for fact in facts if fact.accepted or fact.verdict == "keep"]
    outcome = judged(Gate(fail_on), spoken)
    assert outcome.passed
    told = f"{sum(f.verdict != 'keep' for f in spoken)} accepted, {sum(f.verdict == 'keep' for f in spoken)} kept"
    assert told in outcome.sentence


@given(ASKED, st.lists(FACTS, max_size=12), st.booleans(), st.booleans())
def test_comparing_counts_no_more_and_every_finding_has_one_place(
    fail_on: tuple[str, ...], facts: list[Fact], new_only: bool, changed_rows: bool
) -> None:
    plain = judged(Gate(fail_on), facts)
    gate = Gate(fail_on, new_only=new_only, changed_rows=changed_rows)
    compared = judged(gate, facts, reference=REFERENCE if gate.compares else None)
    assert compared.found <= plain.found
    assert compared.found + sum(compared.spared.values()) == len(facts)
    counted = [fact for fact in facts if not gate.spares(fact, REFERENCE)]
    if new_only:
        # On rows that stood there before, a finding is a new opinion: listed, not counted.
        assert all(fact.fingerprint != "a" and fact.row != "x" for fact in counted)
    if changed_rows:
        assert all(fact.row != "x" for fact in counted)


@given(st.lists(FACTS, max_size=12), st.integers(0, 12))
def test_more_findings_than_allowed_fail_and_no_others(facts: list[Fact], allowed: int) -> None:
    outcome = judged(Gate(("note",), str(allowed)), facts)
    assert outcome.passed == (outcome.found <= allowed)
    assert outcome.status == (0 if outcome.passed else 1)


@given(st.integers(1, 10_000), st.integers(0, 1000))
def test_a_share_of_the_rows_is_rounded_down(rows: int, permille: int) -> None:
    allowed = judged(Gate(("error",), f"{permille / 10}%"), [], rows=rows).allowed
    assert allowed == rows * permille // 1000


# Examples


def test_a_severity_stands_for_all_above_it_and_a_rule_for_any_severity() -> None:
    facts = [Fact(severity=severity) for severity in SEVERITIES]
    assert [judged(Gate((word,)), facts).found for word in SEVERITIES] == [1, 2, 3]
    assert judged(Gate(("mislabeled",)), facts).found == 3
    assert judged(Gate(("leak",)), facts).found == 0


def test_a_row_that_is_only_worth_a_look_counts_if_its_severity_is_asked_for() -> None:
    facts = [Fact(severity="warning", suspicion=0.5), Fact(severity="warning", suspicion=0.4)]
    named = judged(Gate(("mislabeled",)), facts)
    assert (named.found, named.spared) == (1, {"worth a look": 1})
    assert named.sentence.endswith("; not counted: 0 accepted, 0 kept by a verdict, 1 only worth a look")
    assert judged(Gate(("warning",)), facts).found == judged(Gate(("mislabeled", "warning")), facts).found == 2
    assert judged(Gate(("error",)), facts).found == 0
    assert judged(Gate(), facts).spared == {}


def test_any_option_that_counts_sets_a_gate_on_errors() -> None:
    assert (
        Gate(max_findings="3").fail_on == Gate(new_only=True).fail_on == Gate(changed_rows=True).fail_on == ("error",)
    )
    assert Gate(max_noise_rate=("5%",)).fail_on == ()  # then findings are not counted
    assert not Gate().is_set


def test_nothing_scanned_never_passes() -> None:
    for gate in (Gate(), Gate(("error",)), Gate(max_noise_rate=("100%",))):
        assert judged(gate, [], rows=0).status == 5


def test_since_alone_says_nothing_of_what_counts() -> None:
    with pytest.raises(UsageError, match="--since 3 says what to compare with, but not what counts"):
        Gate(("error",), since="3")


def test_the_sentence_says_what_was_found_allowed_and_left_out() -> None:
    facts = [Fact(), Fact(rule="leak"), Fact(accepted=True), Fact(verdict="keep"), Fact(fingerprint="a")]
    gate = Gate(("error",), "1", new_only=True)
    found = [Fact(**{**fact.__dict__, "spared": gate.spares(fact, REFERENCE)}) for fact in facts]
    assert gate.judge(found, Tally(2012, 20), REFERENCE).sentence == (
        "failed: 1 mislabeled, 1 leak new since before (20 of 2,012 rows new), 1 allowed (--fail-on error "
        "--max-findings 1 --new-only); not counted: 1 accepted, 1 kept by a verdict, 1 known"
    )
    gate = Gate(("error",), changed_rows=True)
    assert gate.judge([], Tally(2012, 0), REFERENCE).sentence == (
        "passed: no finding on the 0 of 2,012 rows that are new or changed since before, 0 allowed (--fail-on error "
        "--changed-rows); not counted: 0 accepted, 0 kept by a verdict"
    )


NOISE = (ClassNoise("cat", 100, 2.0), ClassNoise("a:b", 50, 5.0), ClassNoise("rare", 4, 3.0))


@pytest.mark.parametrize(
    ("rates", "status", "words"),
    [
        (("estimate:7%",), 0, "estimated noise 6.49 % of 154 labels, 7% allowed"),
        (("estimate:6%",), 1, "estimated noise 6.49 % of 154 labels, 6% allowed"),
        (("estimate:class:10%",), 0, "noisiest class 'a:b' 10.00 % of 50 labels, 10% a class allowed"),
        (("estimate:class:1.5%",), 1, "'a:b' 10.00 % of 50 labels, 2 classes over, 1.5% a class allowed"),
        (("estimate:class:a:b:9%",), 1, "estimated noise of a:b 10.00 % of 50 labels, 9% allowed"),
        (
            ("estimate:class:cat:2%", "estimate:20%"),
            0,
            "of cat 2.00 % of 100 labels, 2% allowed and estimated noise 6.49 %",
        ),
        (("estimate:99%", "estimate:class:cat:1%"), 1, "of cat 2.00 %"),
    ],
)
def test_noise_rates_of_all_of_each_and_of_one_class(rates: tuple[str, ...], status: int, words: str) -> None:
    outcome = Gate(max_noise_rate=rates).judge([], Tally(154, noise=NOISE))
    assert outcome.status == status
    assert words in outcome.sentence
    assert "no finding" not in outcome.sentence


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(1, 99))
def test_a_range_passes_or_fails_only_as_a_whole(one: float, two: float, three: float, limit: int) -> None:
    low, expected, high = sorted((1000 * one, 1000 * two, 1000 * three))
    tally = Tally(1000, noise=(ClassNoise("cat", 1000, expected, low, high),), whole=(low, high))
    status = Gate(max_noise_rate=(f"{limit}%",)).judge([], tally).status
    within, over = high / 1000 <= limit / 100, low / 1000 > limit / 100
    assert status == (0 if within else 1 if over else 4)
    # A class is judged by the same rule, and the bare estimate by itself.
    assert Gate(max_noise_rate=(f"class:cat:{limit}%",)).judge([], tally).status == status
    assert Gate(max_noise_rate=(f"class:{limit}%",)).judge([], tally).status == status
    bare = Gate(max_noise_rate=(f"estimate:{limit}%",)).judge([], tally).status
    assert bare == (1 if expected / 1000 > limit / 100 else 0)


@pytest.mark.parametrize(("limit", "verdicts"), [("5%", "59"), ("2%", "149"), ("100%", "")])
def test_an_undecided_rate_says_how_few_verdicts_could_settle_it(limit: str, verdicts: str) -> None:
    tally = Tally(5000, noise=(ClassNoise("cat", 5000, 50.0),), whole=(10.0, 5000.0))
    outcome = Gate(max_noise_rate=(limit,)).judge([], tally)
    assert outcome.status == (4 if verdicts else 0)
    assert (f"{verdicts} verdicts of `curate audit` at the least settle it" in outcome.sentence) == bool(verdicts)


def test_a_finding_outweighs_a_rate_that_is_not_known() -> None:
    tally = Tally(1000, noise=(ClassNoise("cat", 1000, 50.0),), whole=(10.0, 200.0))
    gate = Gate(("error",), max_noise_rate=("5%",))
    assert gate.judge([Fact()], tally).status == 1
    assert gate.judge([], tally).status == 4


def test_without_a_range_anything_is_possible() -> None:
    outcome = Gate(max_noise_rate=("99%",)).judge([], Tally(154, noise=NOISE))
    assert outcome.status == 4
    assert "(0.00 to 100.00 %)" in outcome.sentence


def test_a_noise_rate_that_is_not_known_is_status_4() -> None:
    outcome = Gate(max_noise_rate=("99%",)).judge([], Tally(154))
    assert (outcome.status, outcome.passed) == (4, False)


def test_without_a_gate_what_is_spared_is_told_all_the_same() -> None:
    assert judged(Gate(), [Fact(accepted=True), Fact()]).sentence.endswith("; 1 accepted, 0 kept by a verdict")
    assert judged(Gate(), [Fact()]).sentence.endswith("RULE or SEVERITY)")


def test_a_class_that_is_not_there_is_a_slip() -> None:
    with pytest.raises(UsageError, match="no training row has the label 'dog'"):
        Gate(max_noise_rate=("class:dog:5%",)).judge([], Tally(154, noise=NOISE))
