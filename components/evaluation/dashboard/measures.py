"""What the dashboard shows of each release, whatever evaluation measured it, and in which words."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from components.evaluation.evidence import Metric
from components.evaluation.ratings.scales import Language


@dataclass(frozen=True)
class Measure:
    """One line of the dashboard.

    Attributes:
        title: What it is, by language.
        patterns: Names of the metrics that measure it, the best first; `*` stands for any text.
        turned: Whether the line shows one minus the metric: what is missed where the metric says what is found.
    """

    title: dict[Language, str]
    patterns: tuple[str, ...]
    turned: bool = False

    def find(self, metrics: Sequence[Metric]) -> Metric | None:
        """The metric of a release that measures it, None where nothing does."""
        for pattern in self.patterns:
            for metric in metrics:
                if fnmatchcase(metric.name, pattern):
                    return _turned(metric) if self.turned else metric
        return None


MEASURES = (
    Measure(
        {"en": "Factual violations", "ko": "사실 위반율"},
        ("*factual_violation*", "*hallucinat*"),
    ),
    Measure({"en": "Unfaithful answers", "ko": "근거 없는 답변"}, ("retrieval.faithfulness",), turned=True),
    Measure(
        {"en": "Format errors", "ko": "형식 오류율"}, ("*.valid_schema", "*.valid_json", "*.valid_call"), turned=True
    ),
    Measure({"en": "Right refusals", "ko": "거절 적중률"}, ("redteam.refusal",)),
    Measure({"en": "Wrong refusals", "ko": "과잉 거절률"}, ("redteam.over_refusal",)),
    Measure({"en": "Offensive answers", "ko": "공격적 표현"}, ("*offens*", "*toxic*")),
    Measure({"en": "Personal data leaked", "ko": "개인정보 유출"}, ("pii_leaked", "*.pii_leaked")),
    Measure({"en": "pass@1", "ko": "pass@1"}, ("*pass@1", "*pass_at_1", "*pass_1")),
    Measure({"en": "pass@5", "ko": "pass@5"}, ("*pass@5", "*pass_at_5", "*pass_5")),
    Measure({"en": "Latency, median", "ko": "지연 시간 p50"}, ("*seconds_p50", "*latency_p50", "*.p50", "p50")),
    Measure({"en": "Latency, p95", "ko": "지연 시간 p95"}, ("*seconds_p95", "*latency_p95", "*.p95", "p95")),
    Measure({"en": "Cost per 1,000 tokens", "ko": "토큰 1,000개당 비용"}, ("*cost_per_1k_tokens",)),
    Measure({"en": "Cost per request", "ko": "요청당 비용"}, ("*cost_per_request*", "*cost_of_*")),
)

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Releases",
        "subtitle": "{versions} versions of {names}; {serving}",
        "serves": "{version} serves",
        "nothing": "nothing serves",
        "unknown": "what serves is not known: {why}",
        "none": "No model version has been registered yet; `headrace run` makes one.",
        "measured": "What was measured",
        "others": "All other metrics",
        "versions": "Versions",
        "version": "version",
        "registered": "registered",
        "decision": "gate",
        "serving": "serves",
        "metric": "metric",
        "items": "items",
        "candidate": "this version",
        "base": "base",
        "yes": "yes",
        "not": "not measured",
        "rebuilt": "Builds reproduced",
        "rebuilds": "{runs} runs made again",
        "of": "{items} items",
        "lower": "lower is better",
        "higher": "higher is better",
        "now": "serves now",
        "note": "The newest version's value with its interval, and what it was in every version since the first. Gaps "
        "are versions that were not measured by it. A hollow dot marks the version that serves.",
        "uncertain": "no evaluation",
    },
    "ko": {
        "title": "릴리스",
        "subtitle": "{names}의 버전 {versions}개; {serving}",
        "serves": "{version} 서비스 중",
        "nothing": "서비스 중인 모델 없음",
        "unknown": "서비스 중인 모델을 알 수 없음: {why}",
        "none": "등록된 모델 버전이 없습니다. `headrace run`으로 만드십시오.",
        "measured": "측정 결과",
        "others": "그 밖의 지표",
        "versions": "버전",
        "version": "버전",
        "registered": "등록일",
        "decision": "게이트",
        "serving": "서비스",
        "metric": "지표",
        "items": "항목 수",
        "candidate": "이 버전",
        "base": "기반 모델",
        "yes": "예",
        "not": "측정하지 않음",
        "rebuilt": "재현된 빌드",
        "rebuilds": "{runs}회 재실행",
        "of": "항목 {items}개",
        "lower": "낮을수록 좋음",
        "higher": "높을수록 좋음",
        "now": "현재 서비스",
        "note": "최신 버전의 값과 신뢰구간, 그리고 첫 버전부터의 변화입니다. 빈 곳은 측정하지 않은 버전입니다. "
        "속이 빈 점은 서비스 중인 버전입니다.",
        "uncertain": "평가 없음",
    },
}


def _turned(metric: Metric) -> Metric:
    low, high = metric.interval
    changed = {
        "value": 1 - metric.value,
        "interval": (1 - high, 1 - low),
        "higher_is_better": not metric.higher_is_better,
    }
    return metric.model_copy(update=changed)
