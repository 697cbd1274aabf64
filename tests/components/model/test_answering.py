"""A chat model answers in batches as it does alone, and scores answers as it was tuned on them."""

from pathlib import Path

import pytest

from components.model.answering import Answerer

QUESTIONS = [
    "What is a headrace?",
    "수로는 무엇인가요?",
    "Name a channel of a mill, and say in one word what it carries.",
]
ANSWERS = ["Water.", "\n\n물을 나르는 길입니다.", "\n\tThe headrace"]


def ask(question: str, answer: str = "") -> list[dict[str, str]]:
    """A dialogue of a question, and an answer if there is one."""
    return [{"role": "user", "content": question}, *([{"role": "assistant", "content": answer}] if answer else [])]


@pytest.fixture(scope="module")
def answerer(base: Path) -> Answerer:
    """The tiny model."""
    return Answerer.load(base, "fp32", 12)


def test_a_batch_is_answered_as_each_question_alone(answerer: Answerer) -> None:
    questions = [ask(question) for question in QUESTIONS]
    together = answerer.answer(questions, 3)
    assert together == [answerer.answer([question], 1)[0] for question in questions]
    assert together == [answerer.time(question)[0] for question in questions]
    assert len({reply.text for reply in together}) > 1, "the questions are told apart"


def test_the_likelihood_of_an_answer_is_the_model_s_own_loss_whatever_it_is_batched_with(
    base: Path, answerer: Answerer
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pairs = (("Short?", "Yes."), ("형태소 분석은 무엇인가요?", "낱말을 나눈다"), ("A " * 30, "b " * 9))
    dialogues = [ask(*pair) for pair in pairs]
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        AutoTokenizer.from_pretrained(base),
    )
    for dialogue, scores in zip(dialogues, answerer.likelihoods(dialogues, 3), strict=True):
        whole = tokenizer.apply_chat_template(dialogue, return_dict=False)
        asked = len(tokenizer.apply_chat_template(dialogue[:1], add_generation_prompt=True, return_dict=False))
        labels = torch.tensor([[-100] * asked + whole[asked:]])
        assert len(scores) == len(whole) - asked
        assert -scores.mean() == pytest.approx(model(torch.tensor([whole]), labels=labels).loss.item(), rel=1e-4)


def test_an_answer_is_as_likely_as_the_loss_of_tuning_says(base: Path, answerer: Answerer) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from components.model.tune.render import Renderer

    dialogues = [ask(*pair) for pair in zip(QUESTIONS, ANSWERS, strict=True)]
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rendered = Renderer(AutoTokenizer.from_pretrained(base)).render(dialogues)
    assert any(one.border for one in rendered), "a token would lie across the border of question and answer"
    for batch_size in (1, 3):
        for scores, one in zip(answerer.likelihoods(dialogues, batch_size), rendered, strict=True):
            tokens = torch.tensor([one.tokens])
            labels = tokens.clone()
            labels[:, : one.answer] = -100
            assert len(scores) == len(one.tokens) - one.answer
            assert scores.mean() == pytest.approx(-network(tokens, labels=labels).loss.item(), rel=1e-4)
