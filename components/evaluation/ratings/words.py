"""What the rating page says, in English and Korean."""

from components.evaluation.ratings.scales import Language

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Rate answers",
        "who": "Who are you?",
        "done_of": "{done} of {total} rated",
        "question": "Question",
        "answer": "Answer",
        "empty": "(the answer is empty)",
        "shortcuts": "Keys: 1 to 5 rate, Tab goes on, Enter opens the next answer.",
        "next": "Next answer",
        "back": "Previous answer",
        "saved": "Saved.",
        "unsaved": "Not saved: {why}. Is the server still running? Choose the value again.",
        "finished": "All answers are rated. Thank you. You may close this page, or go back and change something.",
        "other": "한국어",
        "ratings": "Your rating",
    },
    "ko": {
        "title": "답변 평가",
        "who": "누구십니까?",
        "done_of": "{total}개 중 {done}개 평가함",
        "question": "질문",
        "answer": "답변",
        "empty": "(답변이 비어 있음)",
        "shortcuts": "키: 1–5로 평가, Tab으로 다음 항목, Enter로 다음 답변.",
        "next": "다음 답변",
        "back": "이전 답변",
        "saved": "저장됨.",
        "unsaved": "저장되지 않음: {why}. 서버가 실행 중인지 확인하고 값을 다시 고르십시오.",
        "finished": "모든 답변을 평가했습니다. 감사합니다. 이 페이지를 닫거나, 돌아가서 고칠 수 있습니다.",
        "other": "English",
        "ratings": "평가",
    },
}
