"""Tune a model on question and answer pairs: supervised fine-tuning with trl and peft."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from trl import SFTConfig

from components.common.code import code_digest
from components.common.ledger import artifact_digest, canonical, entry_of
from components.common.merkle import merkle_root
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.data.excerpt import may_quote_all
from components.model.context.needle import as_values, find, haystacks, needle
from components.model.context.page import add_needles
from components.model.context.stretch import stretch
from components.model.launch.spread import spread
from components.model.precision import resolve
from components.model.tracking import track
from components.model.tune import ranks
from components.model.tune.attempt import settle
from components.model.tune.checkpoints import Checkpoints, name_training
from components.model.tune.examples import Example, read_examples
from components.model.tune.faults import check_model, refuse_impossible
from components.model.tune.loop import arguments, fit
from components.model.tune.loss import CompletionTrainer
from components.model.tune.method import gathered, prepare, save, trained_weights
from components.model.tune.options import Method, Tune
from components.model.tune.order import Epochs
from components.model.tune.packing import Collator, fill, goes_by_mask, lay_out, require_packable, tabulate
from components.model.tune.report import write_report
from components.model.tune.validation import draw
from components.model.versions import BASE, QUOTABLE, TRAINING, may_show_answers, read_json

LIBRARIES = ("torch", "transformers", "peft", "trl")


@spread("adapter")
def run(base: Path, pairs: Path, adapter: Path, options: Tune, context: Context) -> Outcome:
    """Tune a model, from where an earlier attempt was interrupted if there was one.

    Called in every process of a distributed training; the first one writes.

    Args:
        base: Model directory.
        pairs: Documents whose messages end with the answer to learn.
        adapter: The adapter as peft saves it, or whole weights where all of them learn; with `training.json`.
        options: How to train.
        context: The run.

    Raises:
        Preempted: The process was asked to end; the same call goes on from there.
        HeadraceError: The input or the options are at fault, the loss is no number, or memory is full.
    """
    refuse_impossible(options)
    settle(options.seed, options.threads)
    name = read_json(base / BASE)["name"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = stretch(AutoConfig.from_pretrained(base), options.context)
    check_model(base, name, tokenizer, options.max_length, config)
    if options.packing:
        require_packable(config)
    read = read_examples(pairs, tokenizer, options.max_length, options.chunks)
    validated = draw(read.records, options.validation, options.validation_records)

    settings = {**options.model_dump(mode="json"), "base": name, "pairs": read.trained}
    tags = {"base": entry_of(base), "pairs": entry_of(pairs), "code": code_digest()}
    precision = "fp32" if options.method == "full" else resolve(options.precision)
    training = name_training(context.stage, {"base": base, "pairs": pairs}, options, precision, libraries(options))
    label = f"tune-{training[:12]}"
    checkpoints = Checkpoints(store_of(context.environment), training, options.keep_checkpoints)
    with (
        tempfile.TemporaryDirectory() as scratch,
        track(
            context.environment,
            options.experiment,
            label,
            settings,
            tags,
            trackers=options.trackers,
            recipe={"model": {"tune": options.model_dump(mode="json")}},
        ) as log,
    ):
        needles, asking = options.context.needles, options.context.on and options.context.needles.on
        before = needle(base, pairs, _needle_lengths(options), needles, precision) if asking else []
        trainer, epochs = _trainer(base, config, tokenizer, read.examples, validated, options, Path(scratch))
        fitted = fit(trainer, options, epochs, checkpoints, context, log)
        after = find(trainer.model, tokenizer, haystacks(pairs), _needle_lengths(options), needles) if asking else []
    learns, weights = trained_weights(trainer.model)
    trained = {
        "base": name,
        "run": f"{options.experiment}/{label}",
        "options": options.model_dump(mode="json"),
        "pairs": read.trained,
        "longest_pair": read.longest,
        QUOTABLE: may_quote_all(pairs) and may_show_answers(base),
        "examples": {
            "dialogues": read.dialogues,
            "texts": read.texts,
            "split": read.split,
            "sequences": len(read.examples),
            "rows": len(epochs),
            "fill": fill(trainer.train_dataset, options.max_length),
        },
        "needles": {"before": as_values(before), "after": as_values(after)} if asking else {},
        "weights": {"trained": learns, "all": weights},
        "steps": fitted.kept_step,
        "final_loss": fitted.final_loss,
        "losses": fitted.losses,
        "stopped": fitted.stopped,
        "epochs": [asdict(seen) for seen in fitted.seen],
        "validation": {
            "records": len(validated),
            "merkle_root": merkle_root(validated),
            "losses": fitted.validation,
        },
        "precision": precision,
        "threads": torch.get_num_threads(),
        "versions": {library: version(library) for library in libraries(options)},
    }
    whole = gathered(trainer.model)
    if ranks.rank() == 0:
        save(trainer.model, name, adapter, whole)
        if options.context.on:
            config.save_pretrained(adapter)
        (adapter / TRAINING).write_bytes(canonical(trained))
        log.note(adapter=artifact_digest(adapter))
    checkpoints.forget()
    metrics = {
        "steps": fitted.kept_step,
        "final_loss": fitted.final_loss,
        "seconds_per_step": round(fitted.seconds_per_step, 3),
        "resumed_at_step": fitted.resumed_at,
    }
    if fitted.validation:
        metrics["validation_loss"] = min(loss for _, loss in fitted.validation)
    report = write_report(trained, fitted, read.dropped, f"{options.experiment}/{label}")
    if asking:
        add_needles(report, {"before": before, "after": after}, needles.confidence)
    return Outcome(
        counts_in=read.documents,
        counts_out=read.trained,
        dropped=read.dropped,
        metrics=metrics,
        report=report,
    )


def libraries(options: Method) -> tuple[str, ...]:
    """What a training stands on; another version of it can give other weights."""
    return (*LIBRARIES, "bitsandbytes") if options.method == "qlora" else LIBRARIES


def _trainer(
    base: Path,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    validated: set[str],
    options: Tune,
    scratch: Path,
) -> tuple[CompletionTrainer, Epochs]:
    learned = [example for example in examples if example.record not in validated]
    held_out = [[example] for example in examples if example.record in validated]
    rows = lay_out(learned, options.max_length) if options.packing else [[example] for example in learned]
    network = prepare(base, options, config)
    attention = str(network.config._attn_implementation)
    trainer = CompletionTrainer(
        model=network,
        processing_class=tokenizer,
        train_dataset=tabulate(rows),
        eval_dataset=tabulate(held_out) if held_out else None,
        data_collator=Collator(
            tokenizer.pad_token_id,
            packed=options.packing,
            flat=options.packing and "flash" in attention,
            shared=not options.packing and attention == "eager" and goes_by_mask(config),
            weighted=options.loss.length_weight != 1 or any(example.weight != 1 for example in examples),
            length_weight=options.loss.length_weight,
        ),
        label_smoothing=options.loss.label_smoothing,
        args=SFTConfig(
            **arguments(options, scratch),
            num_train_epochs=options.epochs,
            max_length=None,  # examples fit already
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
    )
    epochs = Epochs(
        # A curriculum looks at what has to be understood at once: the longest example of a row.
        [max(map(len, row)) if options.order == "short_first" else sum(map(len, row)) for row in rows],
        [[example.record for example in row] for row in rows],
        options.order,
        options.batch_size * options.accumulation,
        options.seed,
    )
    return trainer, epochs


def _needle_lengths(options: Tune) -> list[int]:
    return [round(share * options.max_length) for share in options.context.needles.lengths]
